//! `tine show`: one connection, with its processes and the last lines of its log.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::logs::printed;
use super::target::Target;
use super::text::{age, bytes, columns, field};
use super::{ask, proc};
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// Lines of the log that are shown, at most.
const LINES: usize = 20;

/// Descriptors of a process that are shown, at most. JSON has all.
const FILES: usize = 32;

/// `tine show`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("show"))]
pub struct Show {
    /// Id of the connection; SERVICE:ID in a server with several services
    #[arg(value_name = "ID")]
    pub id: ConnectionId,

    /// Print one object of JSON
    #[arg(long)]
    pub json: bool,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `ID` or `SERVICE:ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The service, in a server with several.
    pub service: Option<String>,
    /// The id.
    pub id: u64,
}

impl std::str::FromStr for ConnectionId {
    type Err = String;

    fn from_str(text: &str) -> Result<ConnectionId, String> {
        let (service, id) = match text.rsplit_once(':') {
            Some((service, id)) => (Some(service.to_owned()), id),
            None => (None, text),
        };
        let id = id.parse().map_err(|_| "write ID or SERVICE:ID, as `tine list` shows it".to_owned())?;
        Ok(ConnectionId { service, id })
    }
}

/// Prints the connection.
pub(crate) fn run(args: &Show) -> Result<ExitCode, Error> {
    let ConnectionId { service, id } = &args.id;
    let request = json!({ "version": 1, "command": "show", "id": id, "service": service });
    let mut connection = Value::Null;
    ask(args.target.connect()?, &request, |line| {
        connection = serde_json::from_str(line).unwrap_or_default();
        Ok(())
    })?;
    let lines = log(args)?;
    let pid = connection["pid"].as_u64().filter(|_| connection["state"] != "ended");
    connection["processes"] = json!(pid.map(proc::tree).unwrap_or_default());
    match args.json {
        true => {
            let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            connection["log"] = lines.collect();
            print(format!("{connection}\n").as_bytes())
        }
        false => {
            let text = describe(&connection);
            let gap = if lines.is_empty() { "" } else { "\n" };
            print(format!("{text}{gap}{}", lines.concat()).as_bytes())
        }
    }
}

/// The last lines of the log about the connection.
fn log(args: &Show) -> Result<Vec<String>, Error> {
    let ConnectionId { service, id } = &args.id;
    let format = if args.json { "json" } else { "text" };
    let request = json!({
        "version": 1, "command": "logs", "id": id, "service": service, "lines": LINES, "format": format,
    });
    let mut lines = Vec::new();
    ask(args.target.connect()?, &request, |line| {
        lines.extend(printed(line, args.json));
        Ok(())
    })?;
    Ok(lines)
}

fn describe(connection: &Value) -> String {
    let mut text = String::new();
    let number = |name: &str| connection[name].as_u64();
    let mut line = |label: &str, value: String| _ = writeln!(text, "{label:10} {value}");
    line("connection", field(connection, "id"));
    for name in ["peer", "proxy", "pid", "start", "state", "tcp_state", "outcome", "accepted", "ended"] {
        if !connection[name].is_null() {
            line(name, field(connection, name));
        }
    }
    line("age", age(number("age_ms").unwrap_or(0)));
    line("bytes in", bytes(number("bytes_in")));
    line("bytes out", bytes(number("bytes_out")));
    if let Some(source) = connection["bytes_source"].as_str() {
        line("counted by", source.to_owned());
    }
    if let Some(held) = connection["holds"].as_array() {
        let names: Vec<&str> = held.iter().filter_map(Value::as_str).collect();
        line("holds", names.join(", "));
    }
    if let Some(milliseconds) = number("cpu_ms") {
        line("cpu", format!("{milliseconds}ms"));
        line("peak", bytes(number("peak_kib").map(|kib| kib * 1024)));
    }
    let processes = connection["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if processes.is_empty() {
        return text;
    }
    let mut rows = vec![["PID", "STATE", "MEMORY", "PEAK", "FILES", "COMMAND"].map(str::to_owned).to_vec()];
    for process in processes {
        let kib = |name: &str| bytes(process[name].as_u64().map(|kib| kib * 1024));
        let command = match process["command"].as_str() {
            Some("") | None => field(process, "name"),
            Some(_) => field(process, "command"),
        };
        let indent = "  ".repeat(process["depth"].as_u64().unwrap_or(0) as usize);
        rows.push(vec![
            field(process, "pid"),
            field(process, "state"),
            kib("rss_kib"),
            kib("peak_kib"),
            field(process, "descriptors"),
            format!("{indent}{command}"),
        ]);
    }
    // A reader of another user may not look into the processes: then there is no row.
    for rows in [rows, files(processes)].iter().filter(|rows| rows.len() > 1) {
        text.push('\n');
        text.push_str(&columns(rows));
    }
    text
}

/// A row for each descriptor, up to [`FILES`] of a process.
fn files(processes: &[Value]) -> Vec<Vec<String>> {
    let mut rows = vec![["PID", "FD", "FILE"].map(str::to_owned).to_vec()];
    for process in processes {
        let files = process["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let shown = files.iter().take(FILES);
        rows.extend(shown.map(|file| vec![field(process, "pid"), field(file, "fd"), field(file, "file")]));
        if let more @ 1.. = files.len().saturating_sub(FILES) {
            rows.push(vec![field(process, "pid"), "-".to_owned(), format!("{more} more")]);
        }
    }
    rows
}
