//! What an error of `accept` or of `fork` means.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::net::listener::Listener;
use crate::net::peer::Peer;

/// An accepted client.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    /// For a client that the delayer released: until when it may wait, in nanoseconds of the monotonic
    /// clock.
    pub(crate) deadline: Option<u64>,
}

/// Accepts a client. A listener that blocks is polled first.
///
/// # Errors
/// Those of accept(2); [`classify`] sorts them.
#[inline]
pub(crate) fn accept_from(listener: &Listener) -> Result<Accepted, Errno> {
    if listener.blocks && !is_ready(listener) {
        return Err(Errno::AGAIN);
    }
    let (socket, address) = acceptfrom_with(listener, SocketFlags::CLOEXEC)?;
    Ok(Accepted { socket, peer: Peer::from_accept(address), deadline: None })
}

fn is_ready(listener: &Listener) -> bool {
    let mut poll = [PollFd::new(listener, PollFlags::IN)];
    matches!(tine_sys::wait::now(&mut poll), Ok(1))
}

/// What to do after `accept` failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nobody is waiting: wait for clients.
    NoClient,
    /// It concerned that client alone, or nobody: try the next one at once.
    Next,
    /// The system is out of something: wait a little, whoever waits stays in the queue.
    Pause,
    /// The listener itself is no longer one.
    Fatal,
}

/// Sorts the errors of accept(2). On Linux, errors that are already pending on the new connection come
/// back from `accept`, too, so that anything unknown is that client's.
pub(crate) fn classify(errno: Errno) -> AcceptError {
    match errno {
        Errno::AGAIN => AcceptError::NoClient,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => AcceptError::Pause,
        Errno::BADF | Errno::INVAL | Errno::NOTSOCK => AcceptError::Fatal,
        _ => AcceptError::Next,
    }
}

/// The next move for someone who reads that processes or descriptors have run out.
pub(crate) fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::AGAIN => {
            "clients wait; raise the limit on processes (`ulimit -u`, TasksMax=, pid_max) or lower --max-connections"
        }
        Errno::MFILE => "clients wait; raise the limit on open files (`ulimit -n`)",
        Errno::NFILE => "clients wait; raise fs.file-max",
        _ => "clients wait; free memory or lower --max-connections",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_errors_are_fatal() {
        for (errno, means) in [
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
            assert_eq!(classify(errno), means, "{errno:?}");
        }
    }
}
