//! Families of metrics as text: the text format of Prometheus, version 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats), and OpenMetrics 1.0. No I/O here.

use std::fmt::Write;

use crate::negotiation::Exposition;

/// Metrics of one name.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// Without the `_total` of counters.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) metrics: Vec<Metric>,
}

/// What the metrics of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gauge,
    Counter,
    Histogram,
    /// Always 1: its labels are what it tells. The name ends in `_info`.
    Info,
}

/// A metric: its labels, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) value: MetricValue,
}

/// A value, or a distribution.
#[derive(Clone, Debug)]
pub(crate) enum MetricValue {
    Number(f64),
    Distribution(Distribution),
}

/// A distribution: counts of buckets, one more than bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution {
    pub(crate) bounds: Vec<f64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: f64,
    pub(crate) exemplars: Vec<Exemplar>,
}

/// A connection in a bucket.
#[derive(Clone, Debug)]
pub(crate) struct Exemplar {
    pub(crate) bucket: usize,
    pub(crate) id: String,
    pub(crate) value: f64,
    /// Seconds since 1970.
    pub(crate) at: f64,
}

/// The text of families.
pub(crate) fn text(families: &[Family], form: Exposition) -> String {
    let mut text = String::with_capacity(64 * 1024);
    for family in families.iter().filter(|family| !family.metrics.is_empty()) {
        write_family(&mut text, family, form);
    }
    if form == Exposition::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write_family(text: &mut String, family: &Family, form: Exposition) {
    let Family { name, help, kind, .. } = *family;
    let (named, kind_name) = match (form, kind) {
        (Exposition::Prometheus, Kind::Counter) => (format!("{name}_total"), "counter"),
        (Exposition::Prometheus, Kind::Info) => (name.to_owned(), "gauge"),
        (Exposition::OpenMetrics, Kind::Info) => {
            (name.strip_suffix("_info").unwrap_or(name).to_owned(), "info")
        }
        (_, Kind::Gauge) => (name.to_owned(), "gauge"),
        (_, Kind::Histogram) => (name.to_owned(), "histogram"),
        (Exposition::OpenMetrics, Kind::Counter) => (name.to_owned(), "counter"),
    };
    let _ = writeln!(text, "# HELP {named} {}", escaped(help, form == Exposition::OpenMetrics));
    let _ = writeln!(text, "# TYPE {named} {kind_name}");
    if let Some(unit) = unit(name).filter(|_| form == Exposition::OpenMetrics) {
        let _ = writeln!(text, "# UNIT {named} {unit}");
    }
    for metric in &family.metrics {
        match &metric.value {
            MetricValue::Number(value) => {
                let suffix = if kind == Kind::Counter { "_total" } else { "" };
                write_sample(text, &format!("{name}{suffix}"), &metric.labels, None, *value);
                text.push('\n');
            }
            MetricValue::Distribution(distribution) => {
                write_distribution(text, name, &metric.labels, distribution, form);
            }
        }
    }
}

/// The unit that a name ends in.
fn unit(name: &str) -> Option<&'static str> {
    ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")))
}

fn write_distribution(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    distribution: &Distribution,
    form: Exposition,
) {
    let Distribution { bounds, counts, sum, exemplars } = distribution;
    let mut total = 0_u64;
    for (bucket, count) in counts.iter().enumerate() {
        total = total.saturating_add(*count);
        let bound = bounds.get(bucket).map_or_else(|| "+Inf".to_owned(), |bound| bound_text(*bound));
        write_sample(text, &format!("{name}_bucket"), labels, Some(&bound), total as f64);
        let exemplar = exemplars.iter().find(|exemplar| exemplar.bucket == bucket);
        if let Some(exemplar) = exemplar.filter(|_| form == Exposition::OpenMetrics) {
            let Exemplar { id, value, at, .. } = exemplar;
            let _ = write!(text, " # {{id=\"{}\"}} {value} {at:.3}", escaped(id, true));
        }
        text.push('\n');
    }
    write_sample(text, &format!("{name}_sum"), labels, None, *sum);
    text.push('\n');
    write_sample(text, &format!("{name}_count"), labels, None, total as f64);
    text.push('\n');
}

/// Writes a sample, without the end of its line.
fn write_sample(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    bound: Option<&str>,
    value: f64,
) {
    text.push_str(name);
    let all = labels.iter().map(|(key, value)| (*key, value.as_str()));
    let all = all.chain(bound.map(|bound| ("le", bound)));
    for (at, (key, value)) in all.enumerate() {
        let begin = if at == 0 { '{' } else { ',' };
        let _ = write!(text, "{begin}{key}=\"{}\"", escaped(value, true));
    }
    if !labels.is_empty() || bound.is_some() {
        text.push('}');
    }
    let _ = write!(text, " {value}");
}

/// The bound of a bucket: always with a point, as OpenMetrics has it, so that all versions of
/// Prometheus take it for the same label.
fn bound_text(bound: f64) -> String {
    let text = bound.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// A text in which backslashes and ends of lines, and in labels quotes, are escaped.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let labels = |value: &str| vec![("service", value.to_owned())];
        let number = |labels, value| Metric { labels, value: MetricValue::Number(value) };
        let distribution = Distribution {
            bounds: vec![0.5, 1.0],
            counts: vec![2, 0, 1],
            sum: 7.25,
            exemplars: vec![Exemplar { bucket: 2, id: "9".into(), value: 6.5, at: 1.0 }],
        };
        vec![
            Family {
                name: "tine_build_info",
                help: "The version.",
                kind: Kind::Info,
                metrics: vec![number(vec![("version", "0.1.0".into())], 1.0)],
            },
            Family { name: "tine_none", help: "", kind: Kind::Gauge, metrics: vec![] },
            Family {
                name: "tine_ends",
                help: "A \\ and \"more\"\nlines.",
                kind: Kind::Counter,
                metrics: vec![number(labels("a\"\\\nb"), 3.0), number(vec![], 0.5)],
            },
            Family {
                name: "tine_time_seconds",
                help: "Times.",
                kind: Kind::Histogram,
                metrics: vec![Metric { labels: labels("a"), value: MetricValue::Distribution(distribution) }],
            },
        ]
    }

    #[test]
    fn the_text_of_prometheus() {
        let expected = r#"# HELP tine_build_info The version.
# TYPE tine_build_info gauge
tine_build_info{version="0.1.0"} 1
# HELP tine_ends_total A \\ and "more"\nlines.
# TYPE tine_ends_total counter
tine_ends_total{service="a\"\\\nb"} 3
tine_ends_total 0.5
# HELP tine_time_seconds Times.
# TYPE tine_time_seconds histogram
tine_time_seconds_bucket{service="a",le="0.5"} 2
tine_time_seconds_bucket{service="a",le="1.0"} 2
tine_time_seconds_bucket{service="a",le="+Inf"} 3
tine_time_seconds_sum{service="a"} 7.25
tine_time_seconds_count{service="a"} 3
"#;
        assert_eq!(text(&families(), Exposition::Prometheus), expected);
    }

    #[test]
    fn the_text_of_openmetrics() {
        let expected = r#"# HELP tine_build The version.
# TYPE tine_build info
tine_build_info{version="0.1.0"} 1
# HELP tine_ends A \\ and \"more\"\nlines.
# TYPE tine_ends counter
tine_ends_total{service="a\"\\\nb"} 3
tine_ends_total 0.5
# HELP tine_time_seconds Times.
# TYPE tine_time_seconds histogram
# UNIT tine_time_seconds seconds
tine_time_seconds_bucket{service="a",le="0.5"} 2
tine_time_seconds_bucket{service="a",le="1.0"} 2
tine_time_seconds_bucket{service="a",le="+Inf"} 3 # {id="9"} 6.5 1.000
tine_time_seconds_sum{service="a"} 7.25
tine_time_seconds_count{service="a"} 3
# EOF
"#;
        assert_eq!(text(&families(), Exposition::OpenMetrics), expected);
    }
}
