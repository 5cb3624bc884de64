//! Signals to processes and process groups.

use std::collections::BTreeSet;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::error::{Error, ErrorKind, reason};
use crate::lifecycle::timing::KILL_WAIT;

/// A process that could not be signalled, and why: EPERM where it has another user, as a
/// set-user-ID program has, and this process is not root (kill(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotSignalled {
    pub(crate) pid: i32,
    pub(crate) why: Errno,
}

impl NotSignalled {
    /// The failure of a signal to this process; `None` if the process has exited: then it is reaped
    /// soon.
    pub(crate) fn of(pid: i32, sent: Result<(), Errno>) -> Option<NotSignalled> {
        sent.err().filter(|why| *why != Errno::SRCH).map(|why| NotSignalled { pid, why })
    }
}

/// Signals a child that has not been reaped, so that its number cannot be another process's.
pub(crate) fn signal_one(pid: i32, signal: Signal) -> Option<NotSignalled> {
    let id = Pid::from_raw(pid)?;
    NotSignalled::of(pid, kill_process(id, signal))
}

/// Signals the process group of a connection, or its process alone while that has not made the
/// group yet.
pub(crate) fn signal_group(pid: i32, signal: Signal) -> Option<NotSignalled> {
    let id = Pid::from_raw(pid)?;
    match kill_process_group(id, signal) {
        // It is no error if some of the group could be signalled, and the process itself not.
        Ok(()) => NotSignalled::of(pid, test_kill_process(id)),
        Err(_) => signal_one(pid, signal),
    }
}

/// The error of a server that has stopped while processes of it are left, and why the first of them
/// could not be signalled, if that is the reason.
pub(crate) fn processes_are_left(left: &BTreeSet<i32>, why: Option<Errno>) -> Error {
    let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
    let pids = pids.join(" ");
    let why = match why {
        Some(why) => reason(&why.into()),
        None => format!("not ended {} s after KILL", KILL_WAIT.as_secs()),
    };
    let what = match left.len() {
        1 => format!("the server has stopped, but a process of it is left, pid {pids}: {why}"),
        number => {
            format!("the server has stopped, but {number} processes of it are left, pids {pids}: {why}")
        }
    };
    Error::new(ErrorKind::System, what, format_args!("as root, kill what is left: kill -KILL {pids}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_exited_is_no_failure() {
        assert_eq!(NotSignalled::of(7, Ok(())), None);
        assert_eq!(NotSignalled::of(7, Err(Errno::SRCH)), None);
        let failed = NotSignalled { pid: 7, why: Errno::PERM };
        assert_eq!(NotSignalled::of(7, Err(Errno::PERM)), Some(failed));
    }

    #[test]
    fn the_account_names_each_process_and_the_next_move() {
        let one = processes_are_left(&BTreeSet::from([17]), Some(Errno::PERM));
        assert_eq!(
            one.to_string(),
            "the server has stopped, but a process of it is left, pid 17: operation not permitted; as root, kill what is left: kill -KILL 17"
        );
        let two = processes_are_left(&BTreeSet::from([19, 17]), None).to_string();
        assert!(two.contains("2 processes of it are left, pids 17 19: not ended 5 s after KILL; "), "{two}");
        assert_eq!(one.exit_code(), 111);
    }
}
