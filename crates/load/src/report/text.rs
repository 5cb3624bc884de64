//! A report for people.

use std::fmt::Write as _;

use super::Report;
use crate::findings::record::Figures;

/// The whole summary. What makes it invalid comes first.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    for reason in &report.validity.reasons {
        writeln!(out, "INVALID: {reason}")?;
    }
    if report.interrupted {
        writeln!(out, "interrupted: what follows is what was done until then")?;
    }
    heading(out, report)?;
    for (name, figures) in latencies(report) {
        writeln!(out, "{name:<12} {}", percentiles(figures))?;
    }
    ends(out, report)?;
    troubles(out, report)?;
    costs(out, report)?;
    for warning in &report.validity.warnings {
        writeln!(out, "note: {warning}")?;
    }
    Ok(())
}

/// What the load was, and its one figure.
fn heading(out: &mut String, report: &Report) -> std::fmt::Result {
    let (plan, summary) = (&report.plan, &report.summary);
    let load = match plan.rate {
        Some(rate) => {
            format!("open loop at {}/s ({:?} arrivals)", rounded(rate), plan.arrivals).to_lowercase()
        }
        None => "closed loop".into(),
    };
    writeln!(out, "{} to {}: {}/s", report.name, plan.targets.join(", "), rounded(summary.rate))?;
    writeln!(
        out,
        "  {} connections at a time, {} processes, {load}, {:.2} s measured",
        grouped(u64::from(plan.connections)),
        plan.processes,
        summary.window_seconds
    )
}

/// How connections and exchanges ended.
fn ends(out: &mut String, report: &Report) -> std::fmt::Result {
    let (summary, exchanges) = (&report.summary, report.findings.exchanges);
    let states: Vec<String> =
        summary.states.iter().map(|(state, number)| format!("{} {state}", grouped(*number))).collect();
    writeln!(out, "connections  {} planned: {}", grouped(summary.connections), states.join(", "))?;
    let ways = [
        (exchanges.done, "answered"),
        (exchanges.failed, "failed"),
        (exchanges.cut, "cut off"),
        (exchanges.in_flight, "in flight"),
        (exchanges.unstarted, "unstarted"),
    ];
    let ways = ways.iter().filter(|(number, _)| *number > 0);
    let ways: Vec<String> = ways.map(|(number, word)| format!("{} {word}", grouped(*number))).collect();
    if exchanges.planned > 0 {
        writeln!(out, "exchanges    {} planned: {}", grouped(exchanges.planned), ways.join(", "))?;
    }
    if summary.in_flight > 0 {
        let oldest = duration(summary.oldest_in_flight_ns);
        writeln!(out, "at the stop  {} in flight, the oldest for {oldest}", grouped(summary.in_flight))?;
    }
    Ok(())
}

/// What went wrong.
fn troubles(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "errors       {}", grouped(report.summary.errors))?;
    for (what, number) in &report.findings.errors {
        writeln!(out, "  {what} ({})", grouped(*number))?;
    }
    for found in &report.findings.faults {
        writeln!(
            out,
            "  wrong bytes on connection {} at offset {}: {} (expected {}, got {})",
            found.connection,
            found.offset,
            found.fault,
            or_dash(&found.expected),
            or_dash(&found.got)
        )?;
    }
    Ok(())
}

/// Bytes, memory, processor time.
fn costs(out: &mut String, report: &Report) -> std::fmt::Result {
    let summary = &report.summary;
    writeln!(
        out,
        "bytes        {} sent, {} received ({}/s, {}/s)",
        bytes(summary.bytes.sent as f64),
        bytes(summary.bytes.received as f64),
        bytes(summary.sent_per_second),
        bytes(summary.received_per_second)
    )?;
    writeln!(
        out,
        "held         {} at most; {:.1} MiB for a process of the client{}",
        grouped(summary.most_open),
        report.findings.usage.memory_kib as f64 / 1024.0,
        held(report)
    )?;
    writeln!(
        out,
        "processor    {} for each in the client, {} in the whole machine ({:.0} % busy)",
        duration(summary.client_cpu_ns_per_done),
        duration(summary.machine_cpu_ns_per_done),
        summary.machine_busy * 100.0
    )
}

/// What a connection takes of the machine, where there were enough to tell it from all else.
fn held(report: &Report) -> String {
    const ENOUGH: u64 = 500;
    match report.summary.most_open {
        0..ENOUGH => String::new(),
        most => {
            format!("; {:.1} KiB of the machine for each connection", report.memory_kib as f64 / most as f64)
        }
    }
}

/// The rows of latencies that a report has.
fn latencies(report: &Report) -> Vec<(&'static str, &Figures)> {
    let summary = &report.summary;
    let rows = [
        ("latency", &summary.latency_ns),
        ("uncorrected", &summary.uncorrected_ns),
        ("connect", &summary.connect_ns),
        ("first byte", &summary.first_byte_ns),
        ("sent late by", &summary.lateness_ns),
    ];
    rows.into_iter().filter(|(_, figures)| figures.count > 0).collect()
}

/// Percentiles that at least ten exceed: of fewer, nothing can be said.
fn percentiles(figures: &Figures) -> String {
    let points = [
        ("p50", figures.p50, 0.5),
        ("p90", figures.p90, 0.1),
        ("p99", figures.p99, 0.01),
        ("p99.9", figures.p999, 0.001),
        ("p99.99", figures.p9999, 0.0001),
    ];
    let enough =
        points.iter().filter(|(name, _, beyond)| *name == "p50" || figures.count as f64 * beyond >= 10.0);
    let mut shown: Vec<String> =
        enough.map(|(name, value, _)| format!("{name} {}", duration(*value))).collect();
    shown.push(format!("max {}", duration(figures.max)));
    shown.join("  ")
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A duration with three digits and its unit.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (nanoseconds as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanoseconds as f64 / 1e6, "ms"),
        _ => (nanoseconds as f64 / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A number of bytes with three digits and its unit (powers of ten).
#[must_use]
pub fn bytes(number: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{} {}", three_digits(value), units[unit]) }
}

/// A rate: whole above a hundred.
#[must_use]
pub fn rounded(rate: f64) -> String {
    if rate >= 100.0 { grouped(rate.round() as u64) } else { three_digits(rate) }
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (nanoseconds, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (45_678_000, "45.7 ms"),
            (123_000_000_000, "123 s"),
        ] {
            assert_eq!(duration(nanoseconds), shown);
        }
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([12.0, 1500.0, 9.99e9].map(bytes), ["12 B", "1.50 kB", "9.99 GB"]);
        assert_eq!([1.234, 99.0, 1234.5].map(rounded), ["1.23", "99.0", "1,235"]);
    }

    #[test]
    fn a_percentile_needs_ten_beyond_it() {
        let figures = Figures { count: 1000, p99: 5, p999: 6, ..Figures::default() };
        assert_eq!(percentiles(&figures), "p50 0 ns  p90 0 ns  p99 5 ns  max 0 ns");
    }
}
