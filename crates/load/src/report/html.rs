//! A report as one self-contained HTML page, with plots of latency percentiles, and of rate, errors
//! and longest exchange over time.

use std::fmt::Write as _;

use super::Report;
use super::hgrm::points;
use super::text::text;
use crate::findings::Second;
use crate::findings::record::Measure;
use crate::units::{SECOND, duration, grouped};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 36.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 10.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
pre{background:#f4f4f2;padding:1em;overflow:auto;font-size:13px}h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}\
svg{width:100%;height:auto}text{font:11px system-ui,sans-serif;fill:#555}.axis{stroke:#bbb;fill:none}.grid{stroke:#eee}\
.a{stroke:#1f6fb2;fill:none;stroke-width:1.6}.b{stroke:#d1672b;fill:none;stroke-width:1.6}.c{stroke:#3d8f4e;fill:none;stroke-width:1.6}\
.d{stroke:#8458a6;fill:none;stroke-width:1.6}.bad{color:#b00020;font-weight:600}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}text{fill:#aaa}.axis{stroke:#555}.grid{stroke:#2a2a2a}}";

const CLASSES: [&str; 4] = ["a", "b", "c", "d"];

/// The curves of the latency plot, with their names.
const MEASURES: [(Measure, &str); 4] = [
    (Measure::Exchange, "latency"),
    (Measure::Uncorrected, "uncorrected"),
    (Measure::Connect, "connect"),
    (Measure::FirstByte, "first byte"),
];

/// Formats the page.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = format!("{} to {}", report.name, report.plan.targets.join(", "));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n",
        title = escape(&title)
    );
    if !report.validity.valid {
        out += "<p class=\"bad\">This measurement is invalid.</p>\n";
    }
    let _ = writeln!(out, "<pre>{}</pre>", escape(&text(report)));
    out += &latency(report);
    out += &over_time(report);
    out += "</body></html>\n";
    out
}

/// A curve of a plot.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Plots latency by percentile, both axes logarithmic.
fn latency(report: &Report) -> String {
    let curves: Vec<Curve> = MEASURES
        .iter()
        .map(|(measure, name)| {
            let record = report.findings.records.of(*measure);
            let seen = points(&record).into_iter().filter(|(share, ..)| *share < 1.0);
            let curve =
                |(share, value, _): (f64, u64, u64)| (-(1.0 - share).log10(), (value.max(1) as f64).log10());
            Curve { name: (*name).to_owned(), points: seen.map(curve).collect() }
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let most = all().map(|(x, _)| *x).fold(1.0, f64::max).ceil();
    let low = all().map(|(_, y)| *y).fold(f64::INFINITY, f64::min).floor();
    let high = all().map(|(_, y)| *y).fold(0.0, f64::max).ceil();
    if curves.is_empty() {
        return String::new();
    }
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let across = (0..=most as usize).map(|at| (at as f64, names.get(at).copied().unwrap_or("").to_owned()));
    let up = (low as i32..=high as i32).map(|at| (f64::from(at), duration(10f64.powi(at) as u64)));
    figure(
        "Latency by percentile",
        &curves,
        (0.0, most),
        (low, high.max(low + 1.0)),
        across.collect(),
        up.collect(),
    )
}

/// Plots rate, errors and longest exchange by second.
fn over_time(report: &Report) -> String {
    let seconds = &report.findings.seconds;
    // Leaves out the last second, which may not be a whole one, unless it is the only one.
    let lasted = (report.plan.warmup_ns + report.window_ns) / SECOND;
    let whole = seconds.len().min((lasted as usize).max(1));
    let curve = |name: &str, value: &dyn Fn(&Second) -> u64| Curve {
        name: name.to_owned(),
        points: seconds[..whole].iter().enumerate().map(|(at, one)| (at as f64, value(one) as f64)).collect(),
    };
    let plots = [
        ("Rate over time (each second)", curve("done", &|one| one.done)),
        ("Errors over time (each second)", curve("errors", &|one| one.errors)),
    ];
    let longest = curve("longest", &|one| one.longest_ns);
    let mut out = String::new();
    for (title, curve) in plots {
        out += &linear(title, curve, &|value| grouped(value as u64));
    }
    out + &linear("Longest exchange of each second", longest, &|value| duration(value as u64))
}

fn linear(title: &str, curve: Curve, shown: &dyn Fn(f64) -> String) -> String {
    let last = curve.points.len().saturating_sub(1).max(1) as f64;
    let high = nice(curve.points.iter().map(|(_, y)| *y).fold(4.0, f64::max));
    let step = nice(last / 10.0).max(1.0);
    let across = (0..=(last / step) as usize).map(|at| (at as f64 * step, format!("{} s", at as f64 * step)));
    let up = (0..=4).map(|at| (high * f64::from(at) / 4.0, shown(high * f64::from(at) / 4.0)));
    figure(title, &[curve], (0.0, last), (0.0, high), across.collect(), up.collect())
}

/// Rounds up to one of 1, 2, 4, 10, 20, 40 …, which all divide by four.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 4.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|nice| *nice >= value * 0.999)
        .unwrap_or(value)
}

type Marks = Vec<(f64, String)>;

fn figure(title: &str, curves: &[Curve], x: (f64, f64), y: (f64, f64), across: Marks, up: Marks) -> String {
    let at_x = |value: f64| LEFT + (value - x.0) / (x.1 - x.0) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - (value - y.0) / (y.1 - y.0) * (HEIGHT - BOTTOM - TOP);
    let mut out = format!(
        "<h2>{title}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n"
    );
    for (value, name) in up {
        let (at, right) = (at_y(value), WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, name) in across {
        let at = at_x(value);
        let _ =
            writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", HEIGHT - 12.0);
    }
    let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{}H{}\"/>", HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (curve, class) in curves.iter().zip(CLASSES.iter().cycle()) {
        let path: Vec<String> =
            curve.points.iter().map(|(x, y)| format!("{:.1} {:.1}", at_x(*x), at_y(*y))).collect();
        let _ = writeln!(out, "<path class=\"{class}\" d=\"M{}\"/>", path.join("L"));
    }
    if curves.len() > 1 {
        for (at, (curve, class)) in curves.iter().zip(CLASSES).enumerate() {
            let y = TOP + 12.0 + 16.0 * at as f64;
            let _ = writeln!(
                out,
                "<path class=\"{class}\" d=\"M{} {:.1}h18\"/><text x=\"{}\" y=\"{y:.1}\">{}</text>",
                LEFT + 10.0,
                y - 4.0,
                LEFT + 34.0,
                escape(&curve.name)
            );
        }
    }
    out + "</svg>\n"
}

/// Escapes text between tags and in attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::state::{Origin, State};
    use crate::report::tests::ended;

    #[test]
    fn markup_is_escaped_and_axes_end_at_round_numbers() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!([0.9, 1.0, 3.0, 12.0, 70.0].map(nice), [1.0, 1.0, 4.0, 20.0, 100.0]);
    }

    #[test]
    fn an_error_of_the_client_makes_every_form_of_a_result_invalid() {
        for (state, name) in State::ALL {
            let report = Report::new(&crate::plan::tests::plan(), ended(state));
            let is_of_client = state.origin() == Some(Origin::Client);
            let json = serde_json::to_value(&report).expect("JSON");
            assert_eq!(json["validity"]["valid"], !is_of_client, "{name}");
            assert_eq!(json["validity"]["reasons"].to_string().contains(name), is_of_client, "{name}");
            assert_eq!(text(&report).starts_with("INVALID: "), is_of_client, "{name}");
            assert_eq!(html(&report).to_lowercase().contains("invalid"), is_of_client, "{name}");
            assert_eq!(report.is_unreached(), state.is_error() && !is_of_client, "{name}");
        }
    }
}
