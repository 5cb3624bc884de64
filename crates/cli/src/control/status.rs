//! `tine status`: one screen about a server.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::ask;
use super::target::Target;
use super::text::{age, columns, field};
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// `tine status`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("status"))]
pub struct Status {
    /// Print one array of JSON, an object for each service
    #[arg(long)]
    pub json: bool,

    /// Service, in a server with several
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// Prints the status.
pub(crate) fn run(args: &Status) -> Result<ExitCode, Error> {
    let mut lines = Vec::new();
    let request = json!({ "version": 1, "command": "status", "service": args.service });
    ask(args.target.connect()?, &request, |line| {
        lines.push(line.to_owned());
        Ok(())
    })?;
    if args.json {
        return print(format!("[{}]\n", lines.join(",\n")).as_bytes());
    }
    let mut text = String::new();
    for line in &lines {
        let status: Value = serde_json::from_str(line).unwrap_or_default();
        describe(&mut text, &status);
    }
    print(text.as_bytes())
}

/// Describes a service.
fn describe(text: &mut String, status: &Value) {
    let number = |name: &str| status[name].as_u64().unwrap_or(0);
    if !text.is_empty() {
        text.push('\n');
    }
    let name = match &status["service"] {
        Value::Null => "tine".to_owned(),
        _ => format!("service {}", field(status, "service")),
    };
    let mut line = |label: &str, value: String| _ = writeln!(text, "{label:12} {value}");
    line(
        &name,
        format!(
            "{} since {} ({}), pid {}",
            field(status, "phase"),
            field(status, "started"),
            age(number("uptime_ms")),
            number("pid")
        ),
    );
    let addresses = status["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let addresses: Vec<&str> = addresses.iter().filter_map(Value::as_str).collect();
    line("addresses", addresses.join(", "));
    line(
        "connections",
        format!(
            "{} now, {} at most so far, limit {}",
            number("connections"),
            number("peak"),
            number("max_connections")
        ),
    );
    if number("spares") > 0 {
        line("spares", format!("{} idle", number("spares")));
    }
    line("accepted", number("accepted").to_string());
    line("ended", format!("{}, {} of them failed", number("ended"), number("failed")));
    line("rejected", format!("{}{}", number("rejected"), by_reason(&status["rejected_by_reason"])));
    if status["limits"] == "report" || number("reported") > 0 {
        let mode = if status["limits"] == "report" { "limits are only reported: " } else { "" };
        let reasons = by_reason(&status["reported_by_reason"]);
        line("reported", format!("{mode}{} would be delayed or rejected{reasons}", number("reported")));
    }
    if number("delayed") > 0 || number("waiting") > 0 {
        line("delayed", format!("{}, {} wait now", number("delayed"), number("waiting")));
    }
    if number("bans") > 0 {
        line("bans", number("bans").to_string());
    }
    for (label, value) in parts(status) {
        line(&label, value);
    }
    for which in ["accepted", "rejected"] {
        line(&format!("{which}/s"), rates(status, which));
    }
    text.push_str(&processes(status));
}

/// The other nodes, and whether they are heard.
fn fleet(fleet: &Value) -> String {
    let number = |name: &str| fleet[name].as_u64().unwrap_or(0);
    let bus = if fleet["connected"] == true { "connected" } else { "the bus is away" };
    let lost = match number("lost") {
        0 => String::new(),
        lost => format!(", {lost} lost"),
    };
    format!("{bus}, {} nodes{lost}", number("nodes"))
}

/// The lines about what not every service has: a jail, a fleet, state that its program shares, a
/// warm start.
fn parts(status: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    if let Some(layers) = status["jail"]["layers"].as_array().filter(|layers| !layers.is_empty()) {
        lines.push(("jail".to_owned(), jail(&status["jail"]["mode"], layers)));
    }
    for object in status["shared"].as_array().into_iter().flatten() {
        lines.push(("shared".to_owned(), shared(object)));
    }
    if let Value::Object(_) = &status["fleet"] {
        lines.push(("fleet".to_owned(), fleet(&status["fleet"])));
    }
    let warm = &status["warm"];
    if warm.is_object() {
        let [copies, templates, crashes] =
            ["copies", "templates_made", "copy_crashes"].map(|name| field(warm, name));
        let counts = format!("{copies} copies, {crashes} of them crashed, {templates} templates made");
        lines.push(("warm".to_owned(), counts));
    }
    for template in warm["templates"].as_array().into_iter().flatten() {
        let pid = template["pid"].as_u64().map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let label = format!("template {}", field(template, "forker"));
        lines.push((label, format!("{}{pid}", field(template, "state"))));
    }
    lines
}

/// The mode, and the layers that are in force and that are missing.
fn jail(mode: &Value, layers: &[Value]) -> String {
    let names = |is_on: bool| {
        let chosen = layers.iter().filter(|layer| (layer["state"] == "on") == is_on);
        chosen.map(|layer| field(layer, "layer")).collect::<Vec<_>>().join(", ")
    };
    let (on, missing) = (names(true), names(false));
    let missing = if missing.is_empty() { missing } else { format!("; missing: {missing}") };
    format!("{}: {on}{missing}", mode.as_str().unwrap_or_default())
}

/// A state that the program shares between its processes: its name, its kind, and its figures.
fn shared(object: &Value) -> String {
    let of = |kind: &str| {
        object[kind].as_object().into_iter().flatten().map(|(name, value)| format!("{name} {value}"))
    };
    let histogram = object["histogram"]["counts"].as_array().map(|counts| {
        let count: u64 = counts.iter().filter_map(Value::as_u64).fold(0, u64::wrapping_add);
        let sum = object["histogram"]["sum"].as_f64().unwrap_or_default();
        format!("count {count}, sum {sum}")
    });
    let figures: Vec<String> = of("counters").chain(of("gauges")).chain(histogram).collect();
    format!("{} ({}): {}", field(object, "name"), field(object, "kind"), figures.join(", "))
}

/// The rates of the last minutes.
fn rates(status: &Value, which: &str) -> String {
    let rate = |seconds: &str| {
        let count = status["rates"][seconds][which].as_u64().unwrap_or(0) as f64;
        format!("{:.1}", count / seconds.parse::<f64>().unwrap_or(1.0))
    };
    let [one, five, fifteen] = ["60", "300", "900"].map(rate);
    format!("{one} in 1 min, {five} in 5 min, {fifteen} in 15 min")
}

/// The table of forkers and helpers.
fn processes(status: &Value) -> String {
    let mut rows = vec![["PROCESS", "PID", "RESTARTS"].map(str::to_owned).to_vec()];
    for process in status["processes"].as_array().into_iter().flatten() {
        rows.push(["role", "pid", "restarts"].map(|name| field(process, name)).to_vec());
    }
    columns(&rows)
}

fn by_reason(reasons: &Value) -> String {
    let parts = reasons.as_object().into_iter().flatten();
    let parts: Vec<String> = parts.map(|(reason, count)| format!("{reason} {count}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_does_not_have_has_no_line() {
        assert_eq!(parts(&json!({ "jail": { "mode": null, "layers": [] }, "shared": [] })), []);
        let status = json!({ "warm": {
            "templates": [
                { "forker": 1, "state": "ready", "pid": 4711 },
                { "forker": 2, "state": "crashes", "pid": null },
            ],
            "copies": 70, "templates_made": 4, "copy_crashes": 3,
        } });
        let lines = [
            ("warm", "70 copies, 3 of them crashed, 4 templates made"),
            ("template 1", "ready, pid 4711"),
            ("template 2", "crashes"),
        ];
        assert_eq!(parts(&status), lines.map(|(label, value)| (label.to_owned(), value.to_owned())));
    }
}
