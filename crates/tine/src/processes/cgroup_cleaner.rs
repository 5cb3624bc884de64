//! The warden: where programs have cgroups, it outlives the supervisor, whatever killed that, and ends all
//! that is left in them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tine_sys::process::exit_now;

use crate::system::cgroup::Cgroups;

/// Lives as the warden until the supervisor has closed the other end of the channel: because only the
/// cgroups are left of the server, or because it has died.
pub(crate) fn run(channel: &OwnedFd, cgroups: &Cgroups) -> ! {
    crate::processes::start::begin(c"tine: cleaner");
    while rustix::io::read(channel, &mut [0; 8]) == Err(Errno::INTR) {}
    cgroups.end();
    exit_now(0)
}
