//! Limits of a load, as typed: `p99>5ms`, `rate<1000/s`, `errors>0`.

use std::fmt;
use std::str::FromStr;

use crate::findings::record::{Figures, Measure};
use crate::findings::summary::Summary;
use crate::units::{duration, grouped, parse_rate};

/// A condition on a figure that must not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    is_above: bool,
    includes: bool,
    value: f64,
}

/// A figure of a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Rate,
    Errors,
    /// Connections with errors, as a part of all connections.
    ErrorShare,
    Sent,
    Received,
    InFlight,
    Latency(Measure, Statistic),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistic {
    Min,
    Mean,
    P50,
    P90,
    P99,
    P999,
    P9999,
    Max,
}

const MEASURES: [(&str, Measure); 4] = [
    ("latency", Measure::Exchange),
    ("connect", Measure::Connect),
    ("first-byte", Measure::FirstByte),
    ("uncorrected", Measure::Uncorrected),
];

const STATISTICS: [(&str, Statistic); 10] = [
    ("min", Statistic::Min),
    ("mean", Statistic::Mean),
    ("p50", Statistic::P50),
    ("p90", Statistic::P90),
    ("p99", Statistic::P99),
    ("p999", Statistic::P999),
    ("p99.9", Statistic::P999),
    ("p9999", Statistic::P9999),
    ("p99.99", Statistic::P9999),
    ("max", Statistic::Max),
];

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(one, _)| *one == name).map(|(_, value)| *value)
}

fn metric(name: &str, value: &str) -> Option<Metric> {
    Some(match name {
        "rate" => Metric::Rate,
        "errors" if value.ends_with('%') => Metric::ErrorShare,
        "errors" => Metric::Errors,
        "sent" => Metric::Sent,
        "received" => Metric::Received,
        "in-flight" => Metric::InFlight,
        _ => {
            let latency = |measure: &str, statistic: &str| {
                Some(Metric::Latency(named(&MEASURES, measure)?, named(&STATISTICS, statistic)?))
            };
            match STATISTICS.iter().find(|(statistic, _)| name == *statistic) {
                Some((statistic, _)) => latency("latency", statistic)?,
                None => name.split_once('.').and_then(|(one, statistic)| latency(one, statistic))?,
            }
        }
    })
}

impl Statistic {
    fn of(self, figures: &Figures) -> u64 {
        match self {
            Statistic::Min => figures.min,
            Statistic::Mean => figures.mean,
            Statistic::P50 => figures.p50,
            Statistic::P90 => figures.p90,
            Statistic::P99 => figures.p99,
            Statistic::P999 => figures.p999,
            Statistic::P9999 => figures.p9999,
            Statistic::Max => figures.max,
        }
    }
}

impl Metric {
    fn parse_value(self, text: &str) -> Option<f64> {
        let number = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
        match self {
            Metric::Latency(..) => humantime::parse_duration(text).ok().map(|time| time.as_nanos() as f64),
            // A rate of 0 is a limit, too.
            Metric::Rate => parse_rate(text).ok().or_else(|| number(text.strip_suffix("/s").unwrap_or(text))),
            Metric::Sent | Metric::Received => number(text.strip_suffix("/s").unwrap_or(text)),
            Metric::ErrorShare => number(text.strip_suffix('%')?).map(|percent| percent / 100.0),
            Metric::Errors | Metric::InFlight => number(text),
        }
    }

    fn of(self, summary: &Summary) -> f64 {
        match self {
            Metric::Rate => summary.rate,
            Metric::Errors => summary.errors as f64,
            Metric::ErrorShare => summary.errors as f64 / summary.connections.max(1) as f64,
            Metric::Sent => summary.sent_per_second,
            Metric::Received => summary.received_per_second,
            Metric::InFlight => summary.in_flight as f64,
            Metric::Latency(measure, statistic) => statistic.of(summary.figures(measure)) as f64,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Metric::Latency(..) => duration(value as u64),
            Metric::Rate | Metric::Sent | Metric::Received => format!("{}/s", grouped(value.round() as u64)),
            Metric::ErrorShare => format!("{:.3} %", value * 100.0),
            Metric::Errors | Metric::InFlight => grouped(value as u64),
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let usage = "write a figure, < or >, and a limit, as in p99>5ms, rate<1000/s, errors>0, errors>1%";
        let at = text.find(['<', '>']).ok_or(usage)?;
        let (name, rest) = text.split_at(at);
        let is_above = rest.starts_with('>');
        let includes = rest[1..].starts_with('=');
        let value = rest[1 + usize::from(includes)..].trim();
        let metric = metric(name.trim(), value).ok_or_else(|| {
            format!(
                "no figure '{}'; there are rate, errors, in-flight, sent, received, min, mean, p50, p90, \
                 p99, p99.9, p99.99, max, and connect.p99 or first-byte.p99",
                name.trim()
            )
        })?;
        let number = metric.parse_value(value).ok_or_else(|| format!("invalid limit '{value}'; {usage}"))?;
        Ok(Threshold { text: text.to_owned(), metric, is_above, includes, value: number })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// Returns a message with the actual value, if the limit is exceeded.
    #[must_use]
    pub fn exceeded_by(&self, summary: &Summary) -> Option<String> {
        let value = self.metric.of(summary);
        let is_exceeded = match (self.is_above, self.includes) {
            (true, false) => value > self.value,
            (true, true) => value >= self.value,
            (false, false) => value < self.value,
            (false, true) => value <= self.value,
        };
        is_exceeded.then(|| format!("{self}: it is {}", self.metric.show(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_kept_or_exceeded() {
        let summary = Summary {
            rate: 1000.0,
            errors: 5,
            connections: 1000,
            latency_ns: Figures { p99: 5_000_000, p999: 6_000_000, max: 7_000_000, ..Figures::default() },
            connect_ns: Figures { p50: 20_000, ..Figures::default() },
            ..Summary::default()
        };
        for (text, exceeded) in [
            ("p99>5ms", false),
            ("p99>=5ms", true),
            ("p99>4999us", true),
            ("latency.p99>4ms", true),
            ("p99.9>5.5ms", true),
            ("p999 > 5ms", true),
            ("latency.p99.9>5ms", true),
            ("connect.p50>10us", true),
            ("connect.p50>10ms", false),
            ("rate<1000/s", false),
            ("rate<=1000", true),
            ("rate<1001/s", true),
            ("rate<60000/min", false),
            ("rate<60001/min", true),
            ("rate>1k/s", false),
            ("rate<=0/s", false),
            ("errors>0", true),
            ("errors>5", false),
            ("errors>0.4%", true),
            ("errors>0.5%", false),
            ("in-flight>0", false),
        ] {
            let threshold: Threshold = text.parse().expect(text);
            assert_eq!(threshold.exceeded_by(&summary).is_some(), exceeded, "{text}");
        }
        let why = "p99>4ms".parse::<Threshold>().expect("a limit").exceeded_by(&summary);
        assert_eq!(why.as_deref(), Some("p99>4ms: it is 5.00 ms"));
    }

    #[test]
    fn invalid_limits_are_rejected() {
        for text in [
            "",
            "p99",
            "p99>",
            "p99>5",
            "p98>5ms",
            "rate<fast",
            "rate<-1/s",
            "errors>1ms",
            "x.p99>1ms",
            ">5ms",
        ] {
            text.parse::<Threshold>().expect_err(text);
        }
    }
}
