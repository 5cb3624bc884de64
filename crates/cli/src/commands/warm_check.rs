//! `tine warm-check`: whether a program can be started once and copied for each connection, and
//! whether its copies then do as executions.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tine::cli::{check_warm, next_move, one_line, reason};

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

    /// A file with the bytes that the client sends where copies are compared with executions. Then
    /// it closes that direction. Default: nothing
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// The program and its arguments. No shell
    #[arg(value_name = "PROGRAM", last = true, required = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

const AFTER_HELP: &str = "Executes the program once, as for a connection, with a client that sends nothing and variables with \
placeholders. Environment, working directory, umask, nice value and limits are those of this command, where no option says otherwise. \
Stops it at the point (ptrace(2)), and looks at its threads, children, rights, descriptors, files, locks, timers, \
memory and the copies of the variables in it. Prints a line for each: ok, allowed, or refused, with the reason and the next move. \
If nothing is refused, two copies and two executions serve a client over loopback: the descriptors of a copy, the answers and the \
ends are compared. Where both executions are the same, the copies must be, too; where they differ, as in random numbers, the \
copies must differ. Then the program and its children are killed. What the program does, it does: files are created, messages sent.";

/// Checks the program, and prints what was found.
pub(crate) fn run(args: &WarmCheck) -> Result<ExitCode, Error> {
    let input = read(args.input.as_deref())?;
    args.execution.cwd.as_deref().map_or(Ok(()), enter)?;
    let program = args.limits.apply(args.execution.program(&args.program));
    let report = check_warm(&program, &args.point.settings(), &input)?;
    let rows =
        report.rows.into_iter().map(|row| vec![row.aspect.into(), row.state.into(), one_line(&row.detail)]);
    let head = ["ASPECT", "STATE", "DETAIL"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    print(columns(&rows).as_bytes())?;
    Ok(match () {
        () if !report.can_be_warmed => ExitCode::from(exit::REFUSED),
        () if report.differs => ExitCode::from(exit::DIFFERS),
        () => ExitCode::SUCCESS,
    })
}

/// What the client sends.
fn read(input: Option<&Path>) -> Result<Vec<u8>, Error> {
    let Some(path) = input else { return Ok(Vec::new()) };
    let what = format_args!("cannot read {}", path.display()).to_string();
    std::fs::read(path)
        .map_err(|why| Error::usage(format!("{what}: {}", reason(&why)), next_move::of_file(&why)))
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
