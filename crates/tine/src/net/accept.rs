//! Errors of accept(2) and fork(2): how a forker reacts, and the next move for the administrator.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::net::listener::Listener;
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;

/// An accepted client.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    /// For a client that the delayer released.
    pub(crate) delay: Option<Delay>,
    /// For a client of a proxy whose PROXY header was read. In memory of its own, so that other
    /// clients do not carry it.
    pub(crate) proxied: Option<Box<Proxied>>,
}

/// The stay of a client in the delay queue. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    /// When it was accepted.
    pub(crate) since: u64,
    /// Until when it may wait.
    pub(crate) deadline: u64,
    /// The index of the reason (`Reason::ALL`).
    pub(crate) reason: usize,
}

/// Accepts a client. A listener that blocks is polled first.
///
/// # Errors
/// Those of accept(2); [`classify`] sorts them.
#[inline(always)]
pub(crate) fn accept_from(listener: &Listener) -> Result<Accepted, Errno> {
    if listener.blocks && !is_ready(listener) {
        return Err(Errno::AGAIN);
    }
    let (socket, address) = acceptfrom_with(listener, SocketFlags::CLOEXEC)?;
    let peer = Peer::from_accept(address, socket.as_fd());
    Ok(Accepted { socket, peer, delay: None, proxied: None })
}

fn is_ready(listener: &Listener) -> bool {
    let mut poll = [PollFd::new(listener, PollFlags::IN)];
    matches!(tine_sys::wait::now(&mut poll), Ok(1))
}

/// How to go on after `accept` failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// The backlog is empty: wait for clients.
    NoClient,
    /// The error concerns this client alone, or no client: accept the next one at once.
    Next,
    /// A resource is exhausted: pause; clients stay in the backlog.
    Pause,
    /// The listener is not a listening socket any more.
    Fatal,
}

/// Classifies an error of accept(2). On Linux, `accept` also returns errors that are pending on the
/// new connection, so an unknown error concerns that client alone.
pub(crate) fn classify(errno: Errno) -> AcceptError {
    match errno {
        Errno::AGAIN => AcceptError::NoClient,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => AcceptError::Pause,
        Errno::BADF | Errno::INVAL | Errno::NOTSOCK => AcceptError::Fatal,
        _ => AcceptError::Next,
    }
}

/// The next move when processes, descriptors or memory have run out.
pub(crate) fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::AGAIN => {
            "clients wait; raise the limit of processes (`ulimit -u`, TasksMax=, pid_max) or allow fewer connections"
        }
        Errno::MFILE => "clients wait; raise the limit of open files (`ulimit -n`)",
        Errno::NFILE => "clients wait; raise fs.file-max",
        Errno::NOMEM | Errno::NOBUFS => "clients wait; free memory or allow fewer connections",
        Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL => {
            "clients wait; permit fork and clone in the filter of the container or sandbox (seccomp)"
        }
        _ => "clients wait; look for the call that fails (`strace -f`)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_its_error() {
        for (errno, words) in [
            (Errno::AGAIN, "ulimit -u"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOMEM, "free memory"),
            (Errno::NOBUFS, "free memory"),
            (Errno::PERM, "seccomp"),
            (Errno::NOSYS, "seccomp"),
            (Errno::IO, "strace"),
        ] {
            let said = advice(errno);
            assert!(said.starts_with("clients wait; ") && said.contains(words), "{errno:?}: {said}");
        }
    }

    #[test]
    fn only_three_errors_are_fatal() {
        for (errno, expected) in [
            (Errno::AGAIN, AcceptError::NoClient),
            (Errno::INTR, AcceptError::Next),
            (Errno::CONNABORTED, AcceptError::Next),
            (Errno::CONNRESET, AcceptError::Next),
            (Errno::PROTO, AcceptError::Next),
            (Errno::PERM, AcceptError::Next),
            (Errno::NETDOWN, AcceptError::Next),
            (Errno::HOSTUNREACH, AcceptError::Next),
            (Errno::TIMEDOUT, AcceptError::Next),
            (Errno::OPNOTSUPP, AcceptError::Next),
            (Errno::MFILE, AcceptError::Pause),
            (Errno::NFILE, AcceptError::Pause),
            (Errno::NOBUFS, AcceptError::Pause),
            (Errno::NOMEM, AcceptError::Pause),
            (Errno::BADF, AcceptError::Fatal),
            (Errno::INVAL, AcceptError::Fatal),
            (Errno::NOTSOCK, AcceptError::Fatal),
        ] {
            assert_eq!(classify(errno), expected, "{errno:?}");
        }
    }
}
