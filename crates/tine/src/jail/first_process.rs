//! What the process of the server in a room gives up, and the calls by which others join it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, PidfdFlags, getpid, pidfd_open, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use tine_sys::namespaces::{Kinds, join};

use super::step::step;

/// A capability that is not used. A process without it can neither trace the first process of a
/// room nor see it in `/proc`, also with the same user (ptrace(2)); the forker, which has all, can
/// join its namespaces.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Gives up what the first process of a room can do, and returns it as a descriptor.
///
/// # Errors
/// The kernel refuses a step; the text names it.
pub(crate) fn become_first() -> io::Result<OwnedFd> {
    set_no_new_privs(true).map_err(|why| step("no_new_privs (prctl)", &why.into()))?;
    keep(CapabilitySet::empty(), KEPT)?;
    let_join()
}

/// Gives up what a process of a room does not need that mounts its `/proc` later, and, if the
/// supervisor ends, kills the process of the connection, which may have another user. Returns it as
/// a descriptor.
///
/// # Errors
/// The kernel refuses a step; the text names it.
pub(crate) fn become_keeper() -> io::Result<OwnedFd> {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::KILL;
    keep(needed, needed)?;
    let_join()
}

fn keep(effective: CapabilitySet, permitted: CapabilitySet) -> io::Result<()> {
    let kept = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, kept).map_err(|why| step("capset", &why.into()))
}

/// Lets a process that has the returned descriptor join the namespaces of this one.
fn let_join() -> io::Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|why| step("pidfd_open", &why.into()))?;
    // The change of user has taken it; without it, the forker cannot join (ptrace(2)).
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(|why| step("PR_SET_DUMPABLE (prctl)", &why.into()))?;
    Ok(own)
}

/// Tries whether namespaces can be joined, with one that this process is in already.
///
/// # Errors
/// As [`become_first`].
pub(super) fn try_joining() -> io::Result<()> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|why| step("pidfd_open", &why.into()))?;
    join(own.as_fd(), Kinds::UTS, None).map_err(|why| step("setns", &why))
}
