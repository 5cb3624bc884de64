//! Watches connections from the supervisor: disconnected clients, and the three timeouts.
//!
//! The supervisor has no client socket: a duplicate would delay the end of the stream when the
//! connection process closes its own. So it reads the kernel's table of sockets (sock_diag(7),
//! `diag`) at intervals (`watcher`), and decides by what it finds there (`state`).

pub(crate) mod diag;
pub(crate) mod state;
pub(crate) mod watcher;

use std::time::Duration;

/// Timeouts that end a connection. None is set by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Time without a byte in either direction.
    pub(crate) idle: Option<Duration>,
    /// Total duration of the connection.
    pub(crate) lifetime: Option<Duration>,
    /// Time from `accept` to the first byte of the client.
    pub(crate) first_byte: Option<Duration>,
}

impl Timeouts {
    fn all(&self) -> impl Iterator<Item = Duration> {
        [self.idle, self.lifetime, self.first_byte].into_iter().flatten()
    }

    /// Whether a timeout depends on the byte counts of sockets.
    pub(crate) fn need_byte_counts(&self) -> bool {
        self.idle.is_some() || self.first_byte.is_some()
    }
}
