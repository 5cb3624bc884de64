//! The commands that change a running server: `kill`, `ban`, `unban`, `bans`, `pause`, `resume`,
//! `drain`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::ask;
use super::show::ConnectionId;
use super::target::Target;
use super::text::{age, columns, field};
use crate::args::{duration, positive};
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// `tine kill`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("kill"))]
pub struct Kill {
    /// Ids of connections; SERVICE:ID in a server with several services
    #[arg(value_name = "ID", required_unless_present_any = ["peer", "older"])]
    pub ids: Vec<ConnectionId>,

    /// Connections of clients in this address block
    #[arg(long, value_name = "CIDR")]
    pub peer: Option<String>,

    /// Connections that are at least this old
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older: Option<Duration>,

    /// Connections of this service only
    #[arg(long, value_name = "SERVICE", conflicts_with = "ids")]
    pub service: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `tine ban`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("ban"))]
pub struct Ban {
    /// Address block whose later connections are closed at once
    #[arg(value_name = "CIDR")]
    pub block: String,

    /// Time after which the ban ends [default: until `tine unban`]
    #[arg(long = "for", value_name = "DURATION", value_parser = positive)]
    pub time: Option<Duration>,

    /// Also end the connections that it has
    #[arg(long)]
    pub kill: bool,

    /// Ban it from this service only
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `tine unban`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("unban"))]
pub struct Unban {
    /// Address block, as `tine bans` shows it
    #[arg(value_name = "CIDR")]
    pub block: String,

    /// Lift the ban of this service only
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `tine bans`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("bans"))]
pub struct Bans {
    /// Print one array of JSON
    #[arg(long)]
    pub json: bool,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `tine pause`, `tine resume` and `tine drain`.
#[derive(ClapArgs, Debug)]
pub struct OfService {
    /// Service, in a server with several [default: all]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// Sends a request without reply lines. Returns the count.
fn order(target: &Target, request: &Value) -> Result<u64, Error> {
    ask(target.connect()?, request, |_| Ok(()))
}

/// Ends connections, and waits until they have ended.
pub(crate) fn kill(args: &Kill) -> Result<ExitCode, Error> {
    let older = args.older.map(|time| time.as_millis() as u64);
    let request = |service: &Option<String>, ids: Option<Vec<u64>>| json!({ "version": 1, "command": "kill", "ids": ids, "peer": args.peer, "older_ms": older, "service": service });
    let mut count = 0;
    if args.ids.is_empty() {
        count = order(&args.target, &request(&args.service, None))?;
    }
    let mut services: Vec<&Option<String>> = args.ids.iter().map(|id| &id.service).collect();
    services.sort();
    services.dedup();
    for service in services {
        let ids = args.ids.iter().filter(|id| id.service == *service).map(|id| id.id).collect();
        count += order(&args.target, &request(service, Some(ids)))?;
    }
    print(format!("ended {count}\n").as_bytes())
}

/// Bans a block.
pub(crate) fn ban(args: &Ban) -> Result<ExitCode, Error> {
    let time = args.time.map(|time| time.as_millis() as u64);
    let request = json!({
        "version": 1, "command": "ban", "block": args.block, "for_ms": time, "kill": args.kill,
        "service": args.service,
    });
    let count = order(&args.target, &request)?;
    match args.kill {
        true => print(format!("ended {count}\n").as_bytes()),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Lifts a ban.
pub(crate) fn unban(args: &Unban) -> Result<ExitCode, Error> {
    let request = json!({ "version": 1, "command": "unban", "block": args.block, "service": args.service });
    order(&args.target, &request)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the bans.
pub(crate) fn bans(args: &Bans) -> Result<ExitCode, Error> {
    let mut lines = Vec::new();
    ask(args.target.connect()?, &json!({ "version": 1, "command": "bans" }), |line| {
        lines.push(line.to_owned());
        Ok(())
    })?;
    if args.json {
        return print(format!("[{}]\n", lines.join(",\n")).as_bytes());
    }
    let mut rows = vec![["BLOCK", "LEFT", "SERVICE"].map(str::to_owned).to_vec()];
    for line in &lines {
        let ban: Value = serde_json::from_str(line).unwrap_or_default();
        let left = ban["left_ms"].as_u64().map_or_else(|| "for ever".to_owned(), age);
        rows.push(vec![field(&ban, "block"), left, field(&ban, "service")]);
    }
    print(columns(&rows).as_bytes())
}

/// Pauses, resumes or drains.
pub(crate) fn of_service(args: &OfService, command: &str) -> Result<ExitCode, Error> {
    let request = json!({ "version": 1, "command": command, "service": args.service });
    order(&args.target, &request)?;
    Ok(ExitCode::SUCCESS)
}
