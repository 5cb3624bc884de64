//! Counts for each second, as CSV.

use super::Report;

/// Formats a header line, and a line for each second since the start.
#[must_use]
pub fn csv(report: &Report) -> String {
    let names = "second,done,errors,sent_bytes,received_bytes,longest_ms\n".to_owned();
    report.findings.seconds.iter().enumerate().fold(names, |mut text, (second, one)| {
        let longest = one.longest_ns as f64 / 1e6;
        text += &format!("{second},{},{},{},{},{longest:.3}\n", one.done, one.errors, one.sent, one.received);
        text
    })
}
