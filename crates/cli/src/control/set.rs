//! `tine set`: changes options while a server serves.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::ask;
use super::target::Target;
use super::text::{columns, field};
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// `tine set`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{AFTER_HELP}\n{}", exit::help("set")))]
pub struct Set {
    /// Option and its value, as in limits=report
    #[arg(value_name = "NAME=VALUE", required_unless_present = "list", value_parser = assignment)]
    pub assignment: Option<Assignment>,

    /// Service, in a server with several [default: all]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,

    /// List the options that can be set, with the value in force and that of the start
    #[arg(long, conflicts_with_all = ["assignment", "service"])]
    pub list: bool,

    /// With --list, print one array of JSON
    #[arg(long, requires = "list")]
    pub json: bool,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

const AFTER_HELP: &str = "The value holds for every client that is accepted after the command has returned, until the server \
stops; the configuration has that of the next start. No connection is ended, except by a timeout.";

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The option.
    pub name: String,
    /// What is after the first equals sign.
    pub value: String,
}

fn assignment(text: &str) -> Result<Assignment, &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, as in limits=report")?;
    // As on the command line of the server, too.
    let name = name.strip_prefix("--").unwrap_or(name);
    Ok(Assignment { name: name.to_owned(), value: value.to_owned() })
}

/// Changes an option, or lists all.
pub(crate) fn run(args: &Set) -> Result<ExitCode, Error> {
    let Some(Assignment { name, value }) = &args.assignment else { return list(args) };
    let request =
        json!({ "version": 1, "command": "set", "name": name, "value": value, "service": args.service });
    ask(args.target.connect()?, &request, |_| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Set) -> Result<ExitCode, Error> {
    let mut lines = Vec::new();
    ask(args.target.connect()?, &json!({ "version": 1, "command": "settings" }), |line| {
        lines.push(line.to_owned());
        Ok(())
    })?;
    if args.json {
        return print(format!("[{}]\n", lines.join(",\n")).as_bytes());
    }
    let head = ["NAME", "VALUE", "AT START", "DEFAULT", "TAKES", "SERVICE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for line in &lines {
        let setting: Value = serde_json::from_str(line).unwrap_or_default();
        let row = ["name", "value", "at_start", "default", "takes", "service"];
        rows.push(row.map(|name| field(&setting, name)).to_vec());
    }
    print(columns(&rows).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_has_a_name_and_a_value() {
        for (text, name, value) in
            [("limits=report", "limits", "report"), ("--a-b=c=d", "a-b", "c=d"), ("a=", "a", "")]
        {
            let meant = Assignment { name: name.into(), value: value.into() };
            assert_eq!(assignment(text), Ok(meant), "{text}");
        }
        assignment("limits").expect_err("no value");
    }
}
