//! Comparison of two reports.

use crate::findings::record::Figures;
use crate::report::Report;
use crate::units::{duration, rounded};

/// One figure of both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The name of the figure.
    pub name: &'static str,
    /// The figure of the first report, as printed.
    pub before: String,
    /// The figure of the second report, as printed.
    pub after: String,
    /// The second figure divided by the first.
    pub ratio: f64,
    /// Whether the second figure is worse than the tolerance allows.
    pub is_worse: bool,
}

/// Increase of the part of connections with errors that does not count as worse.
const ERROR_TOLERANCE: f64 = 0.001;

/// Compares two reports. `tolerance` is the part of 1 by which the second may be worse.
///
/// # Errors
/// A message if the reports are of different loads.
pub fn compare(before: &Report, after: &Report, tolerance: f64) -> Result<Vec<Row>, String> {
    if before.name != after.name || before.plan.rate != after.plan.rate {
        return Err(format!(
            "cannot compare {} with {}: different loads (mode, close or rate)",
            describe(before),
            describe(after)
        ));
    }
    let mut rows = vec![rate(before, after, tolerance)];
    let points = |figures: &Figures| [("p50", figures.p50), ("p90", figures.p90), ("p99", figures.p99)];
    let (one, other) = (&before.summary.latency_ns, &after.summary.latency_ns);
    if one.count > 0 && other.count > 0 {
        for ((name, one), (_, other)) in points(one).into_iter().zip(points(other)) {
            let ratio = other as f64 / one.max(1) as f64;
            let is_worse = ratio > 1.0 + tolerance;
            rows.push(Row { name, before: duration(one), after: duration(other), ratio, is_worse });
        }
    }
    rows.push(errors(before, after));
    Ok(rows)
}

fn describe(report: &Report) -> String {
    match report.plan.rate {
        Some(rate) => format!("{} at {}/s", report.name, rounded(rate)),
        None => report.name.clone(),
    }
}

fn rate(before: &Report, after: &Report, tolerance: f64) -> Row {
    let (one, other) = (before.summary.rate, after.summary.rate);
    let ratio = other / one.max(1e-9);
    Row {
        name: "rate",
        before: format!("{}/s", rounded(one)),
        after: format!("{}/s", rounded(other)),
        ratio,
        is_worse: ratio < 1.0 - tolerance,
    }
}

/// Compares the part of connections that ended in an error.
fn errors(before: &Report, after: &Report) -> Row {
    let share = |report: &Report| report.summary.errors as f64 / report.summary.connections.max(1) as f64;
    let (one, other) = (share(before), share(after));
    Row {
        name: "errors",
        before: format!("{:.3} %", one * 100.0),
        after: format!("{:.3} %", other * 100.0),
        ratio: if one > 0.0 { other / one } else { 1.0 },
        is_worse: other > one + ERROR_TOLERANCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_figure_is_worse_beyond_the_tolerance() {
        let mut before = report(1);
        before.summary.rate = 1000.0;
        before.summary.connections = 10_000;
        before.summary.latency_ns = Figures { count: 10, p50: 100, p90: 200, p99: 300, ..Figures::default() };
        let worse = |change: &dyn Fn(&mut Report)| {
            let mut after = before.clone();
            change(&mut after);
            let rows = compare(&before, &after, 0.05).expect("the same load");
            rows.into_iter().filter(|row| row.is_worse).map(|row| row.name).collect::<Vec<_>>()
        };
        assert!(worse(&|_| {}).is_empty());
        assert!(worse(&|after| after.summary.rate = 960.0).is_empty());
        assert_eq!(worse(&|after| after.summary.rate = 940.0), ["rate"]);
        assert_eq!(worse(&|after| after.summary.latency_ns.p99 = 320), ["p99"]);
        assert_eq!(worse(&|after| after.summary.errors = 50), ["errors"]);
        let other = Report { name: "crr/rst".into(), ..before.clone() };
        compare(&before, &other, 0.05).expect_err("another close");
    }
}
