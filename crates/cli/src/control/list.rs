//! `tine list`: the connections of a server.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::ask;
use super::target::Target;
use super::text::{age, bytes, columns, field};
use crate::args::{duration, positive};
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// `tine list`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("list"))]
pub struct List {
    /// Connections that have ended, the newest first
    #[arg(long)]
    pub ended: bool,

    /// Print one array of JSON
    #[arg(long)]
    pub json: bool,

    /// Print the list again after each INTERVAL
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = positive, conflicts_with = "json")]
    pub watch: Option<Duration>,

    /// Order, descending with a dash in front: id, age, peer, bytes_in or bytes_out
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub sort: Option<String>,

    /// Number of connections, at most
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Which connections.
    #[command(flatten)]
    pub filter: FilterOptions,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// Which connections a command is about.
#[derive(ClapArgs, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = "Connections")]
pub struct FilterOptions {
    /// Connections of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,

    /// Connections of clients in this address block
    #[arg(long, value_name = "CIDR")]
    pub peer: Option<String>,

    /// Connections that are at least this old
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older: Option<Duration>,

    /// Connections that are younger
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub younger: Option<Duration>,

    /// Connections in this state: serving or ending
    #[arg(long, value_name = "STATE", value_parser = ["serving", "ending"])]
    pub state: Option<String>,
}

impl FilterOptions {
    /// Adds the fields of a request.
    pub(super) fn add_to(&self, request: &mut Value) {
        let milliseconds = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        request["service"] = json!(self.service);
        request["peer"] = json!(self.peer);
        request["older_ms"] = json!(milliseconds(self.older));
        request["younger_ms"] = json!(milliseconds(self.younger));
        request["state"] = json!(self.state);
    }
}

/// Prints the list, once or until interrupted.
pub(crate) fn run(args: &List) -> Result<ExitCode, Error> {
    let mut request = json!({
        "version": 1, "command": "list", "ended": args.ended, "limit": args.limit,
        "sort": args.sort.clone().or_else(|| args.ended.then(|| "-id".to_owned())),
    });
    args.filter.add_to(&mut request);
    if args.json {
        return print_json(args, &request);
    }
    let Some(interval) = args.watch else { return print(table(args, &request)?.as_bytes()) };
    loop {
        let table = table(args, &request)?;
        // Clears the screen, and begins at its top (ECMA-48, 8.3.39 and 8.3.21).
        print(format!("\x1b[2J\x1b[H{table}").as_bytes())?;
        std::thread::sleep(interval);
    }
}

/// The lines of the reply as they are, in one array.
fn print_json(args: &List, request: &Value) -> Result<ExitCode, Error> {
    let mut output = Vec::with_capacity(64 * 1024);
    output.push(b'[');
    ask(args.target.connect()?, request, |line| {
        output.extend_from_slice(if output.len() > 1 { b",\n" } else { b"\n" });
        // Writing to memory cannot fail.
        let _ = output.write_all(line.as_bytes());
        Ok(())
    })?;
    output.extend_from_slice(b"\n]\n");
    print(&output)
}

fn table(args: &List, request: &Value) -> Result<String, Error> {
    let mut headings = vec!["ID", "PEER", "PID", "STATE", "AGE", "IN", "OUT"];
    if args.ended {
        headings.extend(["CPU", "PEAK", "OUTCOME"]);
    }
    let mut rows = vec![headings.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    ask(args.target.connect()?, request, |line| {
        let row: Value = serde_json::from_str(line).unwrap_or_default();
        let number = |name: &str| row[name].as_u64();
        let mut cells = ["id", "peer", "pid", "state"].map(|name| field(&row, name)).to_vec();
        cells.push(age(number("age_ms").unwrap_or(0)));
        cells.extend([bytes(number("bytes_in")), bytes(number("bytes_out"))]);
        if args.ended {
            cells.push(format!("{}ms", number("cpu_ms").unwrap_or(0)));
            cells.push(bytes(number("peak_kib").map(|kib| kib * 1024)));
            cells.push(field(&row, "outcome"));
        }
        rows.push(cells);
        Ok(())
    })?;
    Ok(columns(&rows))
}
