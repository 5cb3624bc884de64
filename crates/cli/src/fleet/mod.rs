//! `tine fleet`: the commands about all nodes of a fleet. They talk to the bus, and to no server.

mod tables;

use std::process::ExitCode;

use serde_json::Value;
use tine_bus::fleet::Question;
use tine_bus::fleet::operator::{Answers, Drained, Operator};

use crate::args::fleet_command::{
    FleetBan, FleetCommand, FleetDrain, FleetQuestion, FleetTarget, FleetUnban,
};
use crate::commands::describe::print;
use crate::diagnostics::diagnostic;
use crate::error::Error;

/// Runs a command about a fleet.
pub(crate) fn run(command: &FleetCommand) -> Result<ExitCode, Error> {
    match command {
        FleetCommand::Status(args) => ask(args, Question::Status, tables::status),
        FleetCommand::List(args) => ask(args, Question::List, tables::list),
        FleetCommand::Ban(args) => ban(args),
        FleetCommand::Unban(args) => unban(args),
        FleetCommand::Drain(args) => drain(args),
    }
}

fn connect(target: &FleetTarget) -> Result<Operator, Error> {
    let Some(bus) = target.bus.bus() else {
        return Err(Error::usage("a fleet without a bus", "give --bus URL"));
    };
    Ok(Operator::connect(&bus, &target.fleet)?)
}

fn ask(args: &FleetQuestion, question: Question, table: fn(&Answers) -> String) -> Result<ExitCode, Error> {
    let answers = connect(&args.target)?.ask(question)?;
    if answers.answers.is_empty() && answers.silent.is_empty() {
        return Err(nobody(format_args!("no node of the fleet {} is there", args.target.fleet)));
    }
    let text = match args.json {
        true => json(&tables::objects(&answers)),
        false => table(&answers),
    };
    if !answers.answers.is_empty() || args.json {
        print(text.as_bytes())?;
    }
    for text in tables::remarks(&answers) {
        diagnostic!("tine: {text}");
    }
    match answers.answers.is_empty() {
        true => Err(nobody(format_args!("no node of the fleet {} answers", args.target.fleet))),
        false => Ok(ExitCode::SUCCESS),
    }
}

fn nobody(what: std::fmt::Arguments) -> Error {
    Error::nothing_runs(
        what,
        "look whether `tine serve` has the same --bus and --fleet, and which subjects the bus permits",
    )
}

fn json(objects: &[Value]) -> String {
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    format!("[{}]\n", lines.join(",\n"))
}

fn ban(args: &FleetBan) -> Result<ExitCode, Error> {
    let nodes = connect(&args.target)?.ban(args.block, args.time)?;
    said(&format!("{} is banned", args.block), nodes)
}

fn unban(args: &FleetUnban) -> Result<ExitCode, Error> {
    match connect(&args.target)?.lift(args.block)? {
        Some(nodes) => said(&format!("the ban of {} is lifted", args.block), nodes),
        None => Err(Error::usage(
            format_args!("the fleet {} has no ban of {}", args.target.fleet, args.block),
            "give the block as it was banned: `tine bans` shows those of a node",
        )),
    }
}

/// Says how many nodes are to know something.
fn said(what: &str, nodes: usize) -> Result<ExitCode, Error> {
    let text = match nodes {
        0 => format!("{what}; no node runs, and those that start will know it\n"),
        1 => format!("{what} on 1 node\n"),
        nodes => format!("{what} on {nodes} nodes\n"),
    };
    print(text.as_bytes())
}

fn drain(args: &FleetDrain) -> Result<ExitCode, Error> {
    let FleetDrain { node, target } = args;
    match connect(target)?.drain(node)? {
        Drained::PassedOn => print(format!("the order is passed on to the server of {node}\n").as_bytes()),
        Drained::Unknown => Err(Error::nothing_runs(
            format_args!("there is no node {node} in the fleet {}", target.fleet),
            "`tine fleet status` shows the nodes",
        )),
        Drained::Refused(why) => Err(Error::unavailable(
            format_args!("node {node} refuses: {why}"),
            "stop it on its own machine, with `tine drain`",
        )),
    }
}
