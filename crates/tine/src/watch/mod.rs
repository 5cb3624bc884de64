//! Watches connections from the supervisor: clients that are gone, and the three timeouts.
//!
//! The supervisor has no client socket: a duplicate would delay the end of the stream when the
//! connection process closes its own. So it reads the kernel's table of sockets (sock_diag(7),
//! `diag`; where that is denied `/proc/net/tcp`, `proc_net`) at intervals (`watcher`), and decides
//! by what it finds there (`state`, `answers`).

pub(crate) mod answers;
pub(crate) mod crash;
pub(crate) mod destroyed;
pub(crate) mod diag;
pub(crate) mod histogram;
pub(crate) mod history;
pub(crate) mod metrics;
mod proc_net;
pub(crate) mod state;
pub(crate) mod watcher;

use std::time::Duration;

use crate::error::named;

/// What happens to a connection whose client is gone: it has reset the connection, or its host does
/// not answer any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientGone {
    /// Its processes are ended: a program after five seconds, in which it may notice by itself.
    #[default]
    End,
    /// Nothing, as with inetd and tcpserver: its next read or write fails.
    Leave,
}

named!(ClientGone { End = "end", Leave = "leave" });

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

    /// Whether any is set.
    #[inline]
    pub(crate) fn are_any(&self) -> bool {
        self.all().next().is_some()
    }

    /// Whether a timeout depends on the byte counts of sockets.
    pub(crate) fn need_byte_counts(&self) -> bool {
        self.idle.is_some() || self.first_byte.is_some()
    }
}
