//! Limits that a load is to keep, as they are typed: `p99>5ms`, `rate<1000/s`, `errors>0`.

use std::fmt;
use std::str::FromStr;

use crate::report::Summary;
use crate::report::text::{duration, grouped};

/// What must not be.
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
    /// Errors as a part of the connections.
    ErrorShare,
    Sent,
    Received,
    InFlight,
    Latency(Phase, Point),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Exchange,
    Connect,
    FirstByte,
    Uncorrected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Min,
    Mean,
    P50,
    P90,
    P99,
    P999,
    P9999,
    Max,
}

const PHASES: [(&str, Phase); 4] = [
    ("latency", Phase::Exchange),
    ("connect", Phase::Connect),
    ("first-byte", Phase::FirstByte),
    ("uncorrected", Phase::Uncorrected),
];

const POINTS: [(&str, Point); 10] = [
    ("min", Point::Min),
    ("mean", Point::Mean),
    ("p50", Point::P50),
    ("p90", Point::P90),
    ("p99", Point::P99),
    ("p999", Point::P999),
    ("p99.9", Point::P999),
    ("p9999", Point::P9999),
    ("p99.99", Point::P9999),
    ("max", Point::Max),
];

fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(one, _)| *one == name).map(|(_, meant)| *meant)
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
            let phase = |phase: &str, point: &str| {
                Some(Metric::Latency(named(&PHASES, phase)?, named(&POINTS, point)?))
            };
            match POINTS.iter().find(|(point, _)| name == *point) {
                Some((point, _)) => phase("latency", point)?,
                None => name.split_once('.').and_then(|(one, point)| phase(one, point))?,
            }
        }
    })
}

impl Metric {
    fn parse_value(self, text: &str) -> Option<f64> {
        let number = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
        match self {
            Metric::Latency(..) => humantime::parse_duration(text).ok().map(|time| time.as_nanos() as f64),
            Metric::Rate | Metric::Sent | Metric::Received => number(text.strip_suffix("/s").unwrap_or(text)),
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
            Metric::Latency(phase, point) => {
                let figures = match phase {
                    Phase::Exchange => &summary.latency_ns,
                    Phase::Connect => &summary.connect_ns,
                    Phase::FirstByte => &summary.first_byte_ns,
                    Phase::Uncorrected => &summary.uncorrected_ns,
                };
                (match point {
                    Point::Min => figures.min,
                    Point::Mean => figures.mean,
                    Point::P50 => figures.p50,
                    Point::P90 => figures.p90,
                    Point::P99 => figures.p99,
                    Point::P999 => figures.p999,
                    Point::P9999 => figures.p9999,
                    Point::Max => figures.max,
                }) as f64
            }
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
            let points = "min, mean, p50, p90, p99, p99.9, p99.99, max";
            format!(
                "no figure '{}'; there are rate, errors, in-flight, sent, received, {points}, and connect.p99 or first-byte.p99",
                name.trim()
            )
        })?;
        let number =
            metric.parse_value(value).ok_or_else(|| format!("'{value}' is no limit for it; {usage}"))?;
        Ok(Threshold { text: text.to_owned(), metric, is_above, includes, value: number })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// What there is instead, if the limit is not kept.
    #[must_use]
    pub fn broken_by(&self, summary: &Summary) -> Option<String> {
        let value = self.metric.of(summary);
        let is_broken = match (self.is_above, self.includes) {
            (true, false) => value > self.value,
            (true, true) => value >= self.value,
            (false, false) => value < self.value,
            (false, true) => value <= self.value,
        };
        is_broken.then(|| format!("{self}: it is {}", self.metric.show(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::record::Figures;

    #[test]
    fn limits_kept_and_broken() {
        let summary = Summary {
            rate: 1000.0,
            errors: 5,
            connections: 1000,
            latency_ns: Figures { p99: 5_000_000, p999: 6_000_000, max: 7_000_000, ..Figures::default() },
            connect_ns: Figures { p50: 20_000, ..Figures::default() },
            ..Summary::default()
        };
        for (text, broken) in [
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
            ("errors>0", true),
            ("errors>5", false),
            ("errors>0.4%", true),
            ("errors>0.5%", false),
            ("in-flight>0", false),
        ] {
            let threshold: Threshold = text.parse().expect(text);
            assert_eq!(threshold.broken_by(&summary).is_some(), broken, "{text}");
        }
        let why = "p99>4ms".parse::<Threshold>().expect("a limit").broken_by(&summary);
        assert_eq!(why.as_deref(), Some("p99>4ms: it is 5.00 ms"));
    }

    #[test]
    fn what_is_no_limit() {
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
