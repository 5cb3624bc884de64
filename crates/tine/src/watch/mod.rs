//! Watching connections from outside: whether the client is still there, and how long nothing has come.
//!
//! The supervisor holds no client's socket: a duplicate would hide the end of the stream when the
//! connection's process closes its own. So it asks the kernel for its table of sockets (sock_diag(7)), and
//! decides by what it says.

pub(crate) mod diag;
pub(crate) mod state;
pub(crate) mod watcher;

use std::time::Duration;

/// Times that end a connection. None is set by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// No byte in either direction for so long.
    pub idle: Option<Duration>,
    /// The connection is so old.
    pub lifetime: Option<Duration>,
    /// The client has sent nothing for so long since it was accepted.
    pub first_byte: Option<Duration>,
}

impl Timeouts {
    fn all(&self) -> impl Iterator<Item = Duration> {
        [self.idle, self.lifetime, self.first_byte].into_iter().flatten()
    }

    /// Whether what has gone over the wire must be known.
    pub(crate) fn count_bytes(&self) -> bool {
        self.idle.is_some() || self.first_byte.is_some()
    }
}
