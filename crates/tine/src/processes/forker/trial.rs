//! The trial of a forker before the server is ready: whether a connection can have a descriptor and
//! a process, and whether that process can make the changes that precede the execution of a
//! program. What fails here would fail for each client.

use rustix::process::{Signal, WaitOptions, waitpid};
use tine_sys::process::{Side, exit_now, fork};

use super::trusted::Forker;
use crate::error::{Error, ErrorKind, next_move};
use crate::processes::start::{StartReport, cannot};

/// Descriptors that the forker has open at a time for a client: its socket, and both ends of a pipe
/// for standard error.
const DESCRIPTORS: usize = 3;

/// The error of a trial whose process a signal ended.
const DIED: &str = "the process that tries what a connection needs was killed";

/// Tries what a connection needs, and reports the result; exits if something is missing.
pub(super) fn try_out<H>(forker: &mut Forker<'_, H>, report: StartReport) {
    let result = have_descriptors().and_then(|()| {
        fork(forker.trusted.alone, Signal::CHILD.as_raw())
            .map_err(cannot("fork for a connection", next_move::of_call))
    });
    match result {
        Err(error) => report.failed(error),
        Ok(Side::Child(_)) => match prepare_program(forker) {
            Ok(()) => exit_now(0),
            Err(error) => report.failed(error),
        },
        Ok(Side::Parent(pid)) => {
            let pid = rustix::process::Pid::from_raw(pid);
            let ended = rustix::io::retry_on_intr(|| waitpid(pid, WaitOptions::empty()));
            forker.trusted.cgroups.iter().for_each(|cgroups| _ = cgroups.of(0, 0).remove());
            match ended.ok().flatten().map(|(_, status)| status.exit_status()) {
                Some(Some(0)) => report.entered(),
                // It has reported the reason.
                Some(Some(_)) => exit_now(111),
                Some(None) | None => {
                    report.failed(Error::new(ErrorKind::System, DIED, "see the kernel's log (dmesg)"))
                }
            }
        }
    }
}

fn have_descriptors() -> Result<(), Error> {
    let open = || rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let opened: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| open()).collect();
    opened.map(drop).map_err(cannot("open the descriptors of a connection", next_move::of_call))
}

/// Makes the changes to this process that precede the execution of the program, if there is one.
fn prepare_program<H>(forker: &mut Forker<'_, H>) -> Result<(), Error> {
    // The cgroup of the first connection.
    let cgroup = forker.trusted.cgroups.as_ref().map(|cgroups| cgroups.of(0, 0).entry());
    let Some(launcher) = &mut forker.context.launcher else { return Ok(()) };
    launcher.try_out(cgroup.as_ref())
}
