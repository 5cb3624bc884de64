//! `tine warm-check`: whether a program can be started once and copied for each connection.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use tine::Program;
use tine::cli::{WarmAllow, WarmCheckSettings, WarmUntil, check_warm, one_line};

use crate::args::{choice, positive};
use crate::commands::describe::print;
use crate::control::text::columns;
use crate::error::Error;
use crate::exit;

/// `tine warm-check`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{AFTER_HELP}\n{}", exit::help("warm-check")))]
pub struct WarmCheck {
    /// The point to watch for: the first use of the connection, or a look at the path /.tine/ready
    /// or /.tine/ready/variables (use); the look alone (call). The second path says that the
    /// program renews its own copies of the variables after the look
    #[arg(long, value_name = "POINT", default_value_t, value_parser = choice::<WarmUntil>(WarmUntil::NAMES))]
    pub warm_until: WarmUntil,

    /// Time that the program has up to that point
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive)]
    pub warm_timeout: Duration,

    /// Kinds of hindrances that are no reason against it, as the copies of this program do not meet
    /// in them
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = choice::<WarmAllow>(WarmAllow::NAMES))]
    pub warm_allow: Vec<WarmAllow>,

    /// The program and its arguments. No shell
    #[arg(value_name = "PROGRAM", last = true, required = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

const AFTER_HELP: &str = "Executes the program once, as for a connection, with a client that sends nothing and variables with \
placeholders. Stops it at the point (ptrace(2)), and looks at its threads, children, rights, descriptors, locks, timers, memory and \
the copies of the variables in it. Prints a line for each: ok, allowed, or refused, with the reason and the next move. Then the \
program and its children are killed. What the program does before the point, it does: files are created, messages sent.";

/// Checks the program, and prints what was found.
pub(crate) fn run(args: &WarmCheck) -> Result<ExitCode, Error> {
    let settings = WarmCheckSettings {
        until: args.warm_until,
        timeout: args.warm_timeout,
        allowed: args.warm_allow.clone(),
    };
    let report = check_warm(&Program::new(&args.program), &settings)?;
    let rows =
        report.rows.into_iter().map(|row| vec![row.aspect.into(), row.state.into(), one_line(&row.detail)]);
    let head = ["ASPECT", "STATE", "DETAIL"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    print(columns(&rows).as_bytes())?;
    Ok(if report.can_be_warmed { ExitCode::SUCCESS } else { ExitCode::from(exit::REFUSED) })
}
