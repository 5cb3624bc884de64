//! The end of a process with its parent.

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tine_sys::process::exit_now;

/// Asks the kernel to kill this process when its parent exits (`PR_SET_PDEATHSIG`, prctl(2)). Exits
/// if the parent has done so already.
///
/// # Errors
/// A sandbox forbids it.
#[inline]
pub(crate) fn kill_with(parent: Pid) -> Result<(), Errno> {
    signal_with(parent, Signal::KILL)
}

/// The same with another signal.
///
/// # Errors
/// As [`kill_with`].
#[inline]
pub(crate) fn signal_with(parent: Pid, signal: Signal) -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    // The parent may have exited before the request. One outside of a pid namespace has no number.
    if rustix::process::getppid().is_some_and(|own| own != parent) {
        exit_now(111);
    }
    Ok(())
}
