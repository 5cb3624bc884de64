//! Checks whether a program can be started warm: starts it, looks at it, and ends it.

use tine_sys::fd::Floor;
use tine_sys::process::Alone;
use tine_sys::trace::Kin;

use super::options::{WarmAllow, WarmCheckSettings, WarmReport};
use super::report::report;
use super::start::{Subject, SubjectStart, cannot};
use super::watch::Reached;
use crate::error::{Error, ErrorKind};
use crate::jail::confinement::Confinement;
use crate::program::Program;
use crate::program::launch::Launcher;

/// Says whether a program can be started warm. Executes it in a new process as for a connection,
/// with the variables of a client that does not exist, and kills it and all that it has started
/// before it returns.
///
/// # Errors
/// The program cannot be executed; this process has several threads; the kernel refuses to trace
/// ([`ErrorKind::System`]).
pub fn check_warm(program: &Program, settings: &WarmCheckSettings) -> Result<WarmReport, Error> {
    let alone = Alone::check()
        .map_err(|why| Error::new(ErrorKind::Threads, why, "ask before other threads are started"))?;
    let path = program.find(None, None)?;
    let own = rustix::process::getpid();
    let mut launcher = Launcher::new(program, path, None, Some(own), None, Floor::above_open(&[]))?;
    let has_variables = !settings.allowed.contains(&WarmAllow::Variables);
    let jail = || Ok(Confinement::default());
    let start = SubjectStart { alone: &alone, kin: Kin::Child, has_variables, jail: &jail };
    let mut subject = Subject::start(&start, &mut launcher)?;
    let census = subject.take_census(settings).map_err(|why| cannot("look at the program", &why))?;
    match &census.reached {
        Reached::Ended(_) if census.programs.is_empty() => Err(subject.not_executed()),
        _ => Ok(report(&census, &settings.allowed)),
    }
}
