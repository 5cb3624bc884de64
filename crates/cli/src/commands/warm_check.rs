//! `tine warm-check`: whether a program can be started once and copied for each connection.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::cli::{check_warm, next_move, one_line};

use crate::args::program::{ExecutionOptions, ResourceLimits};
use crate::args::warm::WarmPoint;
use crate::commands::describe::print;
use crate::control::text::columns;
use crate::error::Error;
use crate::exit;

/// `tine warm-check`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{AFTER_HELP}\n{}", exit::help("warm-check")))]
pub struct WarmCheck {
    /// The point to watch for.
    #[command(flatten)]
    pub point: WarmPoint,

    /// What the program is executed with.
    #[command(flatten)]
    pub execution: ExecutionOptions,

    /// Resource limits.
    #[command(flatten)]
    pub limits: ResourceLimits,

    /// The program and its arguments. No shell
    #[arg(value_name = "PROGRAM", last = true, required = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

const AFTER_HELP: &str = "Executes the program once, as for a connection, with a client that sends nothing and variables with \
placeholders. Environment, working directory, umask, nice value and limits are those of this command, where no option says otherwise. \
Stops it at the point (ptrace(2)), and looks at its threads, children, rights, descriptors, locks, timers, memory and \
the copies of the variables in it. Prints a line for each: ok, allowed, or refused, with the reason and the next move. Then the \
program and its children are killed. What the program does before the point, it does: files are created, messages sent.";

/// Checks the program, and prints what was found.
pub(crate) fn run(args: &WarmCheck) -> Result<ExitCode, Error> {
    args.execution.cwd.as_deref().map_or(Ok(()), enter)?;
    let program = args.limits.apply(args.execution.program(&args.program));
    let report = check_warm(&program, &args.point.settings())?;
    let rows =
        report.rows.into_iter().map(|row| vec![row.aspect.into(), row.state.into(), one_line(&row.detail)]);
    let head = ["ASPECT", "STATE", "DETAIL"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    print(columns(&rows).as_bytes())?;
    Ok(if report.can_be_warmed { ExitCode::SUCCESS } else { ExitCode::from(exit::REFUSED) })
}

/// Changes to the working directory of the program, as a forker does.
fn enter(directory: &Path) -> Result<(), Error> {
    std::env::set_current_dir(directory).map_err(|why| match why.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::usage(
            format_args!("there is no directory {}", directory.display()),
            "create it, or choose another working directory",
        ),
        _ => {
            let what = format!("cannot change to the working directory {}", directory.display());
            Error::system(what, &why, next_move::of_file(&why))
        }
    })
}
