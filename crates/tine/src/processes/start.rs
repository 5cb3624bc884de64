//! The first steps of a process of the server, right after its fork.
//!
//! A forked process has every signal at its default, gets a process group of its own, so that a
//! terminal's Ctrl-C or a signal to a group reaches the supervisor alone, and dies with its parent.

use std::ffi::CStr;

use rustix::process::{Pid, Signal};
use tine_sys::cmdline::Title;
use tine_sys::process::{Alone, exit_now};

use crate::shared::board::Entry;
use crate::system::users::Identity;

/// First steps of a connection process or a spare; signals have their defaults already. `parent` is
/// the process with which it dies, if it does not outlive the server.
#[inline]
pub(crate) fn start_connection(parent: Option<Pid>) {
    parent.into_iter().for_each(kill_with);
    // It fails only for a session leader, which a new process is not.
    let _ = rustix::process::setpgid(None, None);
}

/// First steps of a helper that outlives the supervisor and keeps its privileges.
pub(crate) fn start_detached(name: &CStr) {
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::thread::set_name(name);
}

/// First steps of a helper that serves descriptors only: it gives up the privileges of the server,
/// and dies with the supervisor. Exits if the privileges cannot be given up.
pub(crate) fn start_helper(alone: &Alone, identity: Option<&Identity>, supervisor: Pid, name: &CStr) {
    start_detached(name);
    if let Some(identity) = identity
        && tine_sys::identity::become_user(alone, &identity.to_ids()).is_err()
    {
        exit_now(111);
    }
    // After the change of user, which clears it (prctl(2)).
    kill_with(supervisor);
}

/// Asks the kernel to kill this process when its parent exits (`PR_SET_PDEATHSIG`, prctl(2)).
#[inline]
pub(crate) fn kill_with(parent: Pid) {
    signal_with(parent, Signal::KILL);
}

/// Asks the kernel to signal this process when its parent exits. Exits if the parent has done so
/// already.
#[inline]
pub(crate) fn signal_with(parent: Pid, signal: Signal) {
    let requested = rustix::process::set_parent_process_death_signal(Some(signal));
    // The parent may have exited before the request.
    if requested.is_err() || rustix::process::getppid() != Some(parent) {
        exit_now(111);
    }
}

/// Shows a connection in `ps`: in the name, and in the command line where titles are enabled.
#[inline(always)]
pub(crate) fn show_connection(entry: Entry, title: Option<&mut Title>) {
    let mut buffer = [0; 16];
    let _ = rustix::thread::set_name(short_name(entry.id, &mut buffer));
    if let Some(title) = title {
        title.set(&format!("tine: conn {} {}", entry.id, entry.peer));
    }
}

/// `tine: conn 4711`, in the 15 characters that the kernel keeps; longer ids abbreviate `conn`.
/// Written without the formatting machinery, and with numbers instead of texts: each page of code
/// or constants that a new process touches costs a fault.
#[inline]
fn short_name(id: u64, buffer: &mut [u8; 16]) -> &CStr {
    let (start, end, first) = match id {
        0..=9999 => (*b"tine: co", *b"nn \0\0\0\0\0", 11),
        10_000..=9_999_999 => (*b"tine: c ", [0; 8], 8),
        _ => (*b"tine: \0\0", [0; 8], 6),
    };
    buffer[..8].copy_from_slice(&start);
    buffer[8..].copy_from_slice(&end);
    let space = 15 - first;
    let digits = (1 + id.checked_ilog10().unwrap_or(0) as usize).min(space);
    let mut rest = id;
    for at in (first..first + digits).rev() {
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"tine: conn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        for (id, name) in [
            (1, c"tine: conn 1"),
            (4711, c"tine: conn 4711"),
            (47110, c"tine: c 47110"),
            (1_234_567, c"tine: c 1234567"),
            (123_456_789, c"tine: 123456789"),
            (9_123_456_789, c"tine: 123456789"),
        ] {
            assert_eq!(short_name(id, &mut [0; 16]), name);
        }
    }
}
