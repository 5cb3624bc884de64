//! What the first process of a room gives up, and the calls by which others join it.

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
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|why| step("pidfd_open", &why.into()))?;
    set_no_new_privs(true).map_err(|why| step("no_new_privs (prctl)", &why.into()))?;
    let (effective, permitted, inheritable) = (CapabilitySet::empty(), KEPT, CapabilitySet::empty());
    let kept = CapabilitySets { effective, permitted, inheritable };
    set_capabilities(None, kept).map_err(|why| step("capset", &why.into()))?;
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
