//! A report as text, for a terminal.

use std::fmt::Write as _;

use super::Report;
use crate::findings::record::Figures;
use crate::units::{bytes, duration, grouped, rounded};

/// Formats the summary. Reasons that make it invalid come first.
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
        writeln!(out, "interrupted: the figures are those up to the interrupt")?;
    }
    heading(out, report)?;
    for (name, figures) in latencies(report) {
        writeln!(out, "{name:<12} {}", percentiles(figures))?;
    }
    ends(out, report)?;
    agents(out, report)?;
    errors(out, report)?;
    costs(out, report)?;
    for warning in &report.validity.warnings {
        writeln!(out, "note: {warning}")?;
    }
    Ok(())
}

/// Writes the load and its rate.
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

/// Writes how connections and exchanges ended.
fn ends(out: &mut String, report: &Report) -> std::fmt::Result {
    let (summary, exchanges) = (&report.summary, report.findings.exchanges);
    let states: Vec<String> =
        summary.states.iter().map(|(state, number)| format!("{} {state}", grouped(*number))).collect();
    writeln!(out, "connections  {} planned: {}", grouped(summary.connections), states.join(", "))?;
    let outcomes = [
        (exchanges.done, "answered"),
        (exchanges.failed, "failed"),
        (exchanges.cut, "cut off"),
        (exchanges.in_flight, "in flight"),
        (exchanges.unstarted, "unstarted"),
    ];
    let outcomes = outcomes.iter().filter(|(number, _)| *number > 0);
    let outcomes: Vec<String> =
        outcomes.map(|(number, name)| format!("{} {name}", grouped(*number))).collect();
    if exchanges.planned > 0 {
        writeln!(out, "exchanges    {} planned: {}", grouped(exchanges.planned), outcomes.join(", "))?;
    }
    if summary.in_flight > 0 {
        let oldest = duration(summary.oldest_in_flight_ns);
        writeln!(out, "at the stop  {} in flight, the oldest for {oldest}", grouped(summary.in_flight))?;
    }
    Ok(())
}

/// Writes how the agents have worked together, if there were any.
fn agents(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(agents) = &report.agents else { return Ok(()) };
    let lost = match agents.lost().count() {
        0 => String::new(),
        lost => format!(", {} lost", grouped(lost as u64)),
    };
    writeln!(
        out,
        "agents       {}{lost}; started {} apart, their clocks known to {}",
        grouped(agents.each.len() as u64),
        duration(agents.start_skew_ns),
        duration(agents.clock_uncertainty_ns)
    )
}

/// Writes errors and wrong bytes.
fn errors(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "errors       {}", grouped(report.summary.errors))?;
    for (error, number) in &report.findings.errors {
        writeln!(out, "  {error} ({})", grouped(*number))?;
    }
    for wrong in &report.findings.faults {
        writeln!(
            out,
            "  wrong bytes on connection {} at offset {}: {} (expected {}, got {})",
            wrong.connection,
            wrong.offset,
            wrong.fault,
            or_dash(&wrong.expected),
            or_dash(&wrong.got)
        )?;
    }
    Ok(())
}

/// Writes bytes, memory and processor time.
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

/// Returns the machine's memory for each connection, if there were enough of them to distinguish it
/// from other use.
fn held(report: &Report) -> String {
    const ENOUGH: u64 = 500;
    match report.summary.most_open {
        0..ENOUGH => String::new(),
        most => {
            format!("; {:.1} KiB of the machine for each connection", report.memory_kib as f64 / most as f64)
        }
    }
}

/// Returns the rows of durations that have figures.
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

/// Formats the percentiles that at least ten durations exceed: others are chance.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_that_fewer_than_ten_exceed_is_left_out() {
        let figures = Figures { count: 1000, p99: 5, p999: 6, ..Figures::default() };
        assert_eq!(percentiles(&figures), "p50 0 ns  p90 0 ns  p99 5 ns  max 0 ns");
    }
}
