//! The cgroup cleaner: with `--cgroup` it outlives the supervisor, and kills what is left in the
//! cgroups of its connections, however the supervisor ended.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tine_sys::process::exit_now;

use crate::jail::protection::empty_bounding_set;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{StartReport, start_detached};
use crate::system::cgroups::Cgroups;

/// What the supervisor hands to the cgroup cleaner: everything that it keeps, its privileges
/// included.
pub(crate) struct CleanerStart {
    /// A socket whose other end is the supervisor's.
    pub(crate) supervisor_socket: OwnedFd,
    pub(crate) cgroups: Cgroups,
    pub(crate) report: StartReport,
}

/// Runs as the cgroup cleaner until the supervisor has closed the other end of the socket: because
/// only the cgroups are left of the server, or because it has died.
pub(crate) fn run(start: CleanerStart) -> ! {
    let CleanerStart { supervisor_socket, cgroups, report } = start;
    start_detached(c"tine: cleaner");
    empty_bounding_set();
    report.finish(Ok(()), &ConfinedRole::CgroupCleaner);
    while rustix::io::read(&supervisor_socket, &mut [0; 8]) == Err(Errno::INTR) {}
    cgroups.end();
    exit_now(0)
}
