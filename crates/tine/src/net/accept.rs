//! Errors of accept(2) and fork(2): how a forker reacts, and the next move for the administrator.

use rustix::io::Errno;

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
        _ => "clients wait; free memory or allow fewer connections",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
