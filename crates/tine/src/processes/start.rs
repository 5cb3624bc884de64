//! The first steps of a process of the server, right after its fork.
//!
//! A forked process has every signal at its default, gets a process group of its own, so that a
//! terminal's Ctrl-C or a signal to a group reaches the supervisor alone, and dies with its parent.

use std::ffi::CStr;
use std::fmt::Display;
use std::io;

use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::cmdline::Title;
use tine_sys::process::{Alone, exit_now};

use crate::error::{Error, next_move};
use crate::ipc::board::Entry;
use crate::jail::protection::empty_bounding_set;
use crate::lifecycle::startup::StartSender;
use crate::log::Log;
use crate::net::privacy::Privacy;
use crate::processes::own_confinement::ConfinedRole;
use crate::system::parent::kill_with;
use crate::system::users::Identity;

/// How the start of a forker or helper is reported: to the supervisor, which waits before the
/// server is ready; to the log, after a restart.
pub(crate) struct StartReport {
    /// The role of the process in the log.
    pub(crate) role: String,
    /// `None` after a restart: no process waits.
    pub(crate) supervisor: Option<StartSender>,
    pub(crate) log: Log,
}

impl StartReport {
    /// Whether the supervisor waits for this process.
    pub(crate) fn is_awaited(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Reports that this process can serve.
    pub(crate) fn entered(&self) {
        self.supervisor.iter().for_each(StartSender::entered);
    }

    /// Reports why this process cannot serve, and exits.
    pub(crate) fn failed(mut self, error: Error) -> ! {
        let error = error.within(&self.role);
        match &self.supervisor {
            Some(supervisor) => supervisor.failed(&error),
            None => self.log.fatal(&error),
        }
        exit_now(111)
    }

    /// Confines this process, which has opened everything, reports that it can serve, and returns
    /// the value; after an error, reports that and exits. A layer that the system refuses is a
    /// warning.
    pub(crate) fn finish<T>(mut self, result: Result<T, Error>, role: &ConfinedRole) -> T {
        match result {
            Ok(value) => {
                for warning in role.confine(&self.role) {
                    self.log.warning(&warning);
                }
                self.entered();
                value
            }
            Err(error) => self.failed(error),
        }
    }
}

/// The error of a step of the start, with the next move for its cause.
pub(crate) fn cannot<E: Into<io::Error>>(
    what: impl Display,
    next: impl FnOnce(&io::Error) -> &'static str,
) -> impl FnOnce(E) -> Error {
    move |why| {
        let why = why.into();
        Error::system(format_args!("cannot {what}"), &why, next(&why))
    }
}

/// First steps of a connection process or a spare; signals have their defaults already. `parent` is
/// the process with which it dies, if it does not outlive the server.
#[inline]
pub(crate) fn start_connection(parent: Option<Pid>) {
    if parent.is_some_and(|parent| kill_with(parent).is_err()) {
        exit_now(111);
    }
    // It fails only for a session leader, which a new process is not.
    let _ = rustix::process::setpgid(None, None);
}

/// First steps of a helper that outlives the supervisor and keeps its privileges.
pub(crate) fn start_detached(name: &CStr) {
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::thread::set_name(name);
}

/// First steps of a helper that serves descriptors only: it gives up the privileges of the server,
/// and dies with the supervisor.
///
/// # Errors
/// The privileges cannot be given up.
pub(crate) fn start_helper(
    alone: &Alone,
    identity: Option<&Identity>,
    supervisor: Pid,
    name: &CStr,
) -> Result<(), Error> {
    start_detached(name);
    empty_bounding_set();
    identity.map(|identity| change_user(alone, identity)).transpose()?;
    // After the change of user, which clears it (prctl(2)).
    kill_with(supervisor).map_err(cannot_die_with_parent)
}

/// Changes the user and groups of this process.
///
/// # Errors
/// EPERM, EINVAL.
pub(crate) fn change_user(alone: &Alone, identity: &Identity) -> Result<(), Error> {
    tine_sys::identity::become_user(alone, &identity.to_ids()).map_err(|why| {
        let next = next_of_change(why.kind()).unwrap_or_else(|| next_move::of_call(&why));
        Error::system(format_args!("cannot change to {identity}"), &why, next)
    })
}

/// The next move where another user or group is the cause: setuid(2), setgid(2), setgroups(2).
fn next_of_change(why: io::ErrorKind) -> Option<&'static str> {
    match why {
        io::ErrorKind::InvalidInput => {
            Some("choose an id that this user namespace has (/proc/self/uid_map, gid_map)")
        }
        io::ErrorKind::PermissionDenied => Some(
            "start the server as root (CAP_SETUID and CAP_SETGID), or as this user with these groups only",
        ),
        _ => None,
    }
}

/// The error of [`kill_with`].
pub(crate) fn cannot_die_with_parent(why: Errno) -> Error {
    cannot("ask to be killed with the supervisor (prctl, PR_SET_PDEATHSIG)", next_move::of_call)(why)
}

/// Shows a connection in `ps`: in the name, and in the command line where titles are enabled.
#[inline(always)]
pub(crate) fn show_connection(entry: Entry, title: Option<&mut Title>, privacy: Privacy) {
    let mut buffer = [0; 16];
    let _ = rustix::thread::set_name(short_name(entry.id, &mut buffer));
    if let Some(title) = title {
        title.set(&format!("tine: conn {} {}", entry.id, privacy.show(entry.peer)));
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
    fn a_refused_change_of_user_has_the_next_move_of_its_cause() {
        let next = |why: Errno| next_of_change(io::Error::from(why).kind());
        for (why, words) in [
            (Errno::INVAL, Some("uid_map")),
            (Errno::PERM, Some("CAP_SETUID")),
            (Errno::ACCESS, Some("CAP_SETUID")),
            (Errno::AGAIN, None),
            (Errno::NOMEM, None),
            (Errno::NOSYS, None),
        ] {
            assert_eq!(next(why).is_some(), words.is_some(), "{why:?}");
            assert!(next(why).unwrap_or_default().contains(words.unwrap_or_default()), "{why:?}");
        }
    }

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
