//! `tine crashes`: the reports of connections that have crashed, by cause, and one of them in full.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};
use tine::cli::one_line;

use super::ask;
use super::target::Target;
use super::text::{bytes, columns, field};
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// `tine crashes`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("crashes"))]
pub struct Crashes {
    /// Name of a report, or id of a connection (SERVICE:ID in a server with several services), to
    /// show its report in full
    #[arg(value_name = "REPORT")]
    pub report: Option<String>,

    /// Print JSON: one array of groups, or one report
    #[arg(long)]
    pub json: bool,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// Prints the groups, or the report.
pub(crate) fn run(args: &Crashes) -> Result<ExitCode, Error> {
    let (service, name) = match args.report.as_deref().map(|name| name.split_once(':').ok_or(name)) {
        Some(Ok((service, id))) => (Some(service), Some(id)),
        Some(Err(name)) => (None, Some(name)),
        None => (None, None),
    };
    let request = json!({ "version": 1, "command": "crashes", "name": name, "service": service });
    let mut lines = Vec::new();
    ask(args.target.connect()?, &request, |line| {
        lines.push(line.to_owned());
        Ok(())
    })?;
    let text = match (args.json, name) {
        (true, None) => format!("[{}]\n", lines.join(",\n")),
        (true, Some(_)) => lines.first().map(|line| format!("{line}\n")).unwrap_or_default(),
        (false, None) => {
            let groups: Vec<Value> =
                lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            table(&groups)
        }
        (false, Some(_)) => {
            let report = lines.first().and_then(|line| serde_json::from_str(line).ok());
            describe(&report.unwrap_or_default())
        }
    };
    print(text.as_bytes())
}

/// A row for each group.
fn table(groups: &[Value]) -> String {
    let mut rows = vec![["COUNT", "LAST", "SERVICE", "CAUSE", "REPORT"].map(str::to_owned).to_vec()];
    for group in groups {
        rows.push(vec![
            field(group, "count"),
            field(group, "last"),
            field(group, "service"),
            field(group, "cause"),
            group["reports"][0].as_str().map_or_else(|| "-".to_owned(), one_line),
        ]);
    }
    columns(&rows)
}

/// A report, a line for each fact.
fn describe(report: &Value) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| _ = writeln!(text, "{label:12} {value}");
    for (label, name) in [
        ("report", "name"),
        ("time", "time"),
        ("service", "service"),
        ("connection", "id"),
        ("peer", "peer"),
        ("proxy", "proxy"),
        ("pid", "pid"),
        ("handler", "handler"),
        ("cause", "cause"),
        ("outcome", "outcome"),
        ("panic", "panic"),
        ("place", "place"),
        ("address", "address"),
        ("instruction", "instruction"),
        ("kernel", "kernel"),
    ] {
        if !report[name].is_null() {
            line(label, field(report, name));
        }
    }
    let strings = |name: &str| {
        let all = report[name].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(one_line).collect::<Vec<String>>()
    };
    if !report["program"].is_null() {
        line("program", strings("program").join(" "));
    }
    for (label, name) in [("duration", "duration_ms"), ("cpu", "cpu_ms")] {
        line(label, format!("{}ms", field(report, name)));
    }
    line("peak memory", bytes(report["peak_memory_bytes"].as_u64()));
    line("bytes in", bytes(report["bytes_in"].as_u64()));
    line("bytes out", bytes(report["bytes_out"].as_u64()));
    let lines = strings("stderr");
    if !lines.is_empty() {
        let _ = write!(text, "\nlast lines of standard error:\n");
        lines.iter().for_each(|line| _ = writeln!(text, "  {line}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_rows_and_reports_are_lines() {
        let group = json!({ "count": 3, "last": "t", "service": null, "cause": "signal SEGV", "reports": ["a", "b"] });
        assert_eq!(
            table(&[group]),
            "COUNT  LAST  SERVICE  CAUSE        REPORT\n3      t     -        signal SEGV  a\n"
        );
        let report = json!({
            "name": "a", "id": 7, "cause": "signal SEGV", "address": "0x0", "program": ["x", "y"],
            "duration_ms": 2.5, "cpu_ms": 1.0, "peak_memory_bytes": 2048, "stderr": ["one\u{1b}[2J", "two"],
        });
        let text = describe(&report);
        for part in [
            "report       a\nconnection   7\n",
            "address      0x0\nprogram      x y\nduration     2.5ms\n",
            "peak memory  2.0K\nbytes in     -\n",
            "\n  one\\u{1b}[2J\n  two\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
