//! The purpose of a run: to measure, or to converse and report each event.

use rustix::io::Errno;

use crate::findings::state::State;

/// The purpose of a run.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// Workers start together, and send their findings to the coordinator at the end.
    Measure,
    /// Workers start at once, and report each event to an observer as it happens. Their live
    /// numbers are exact at any time, so those of a worker that is killed count.
    Converse(&'a dyn Observer),
}

impl<'a> Purpose<'a> {
    /// Returns the name of workers in `ps`.
    #[must_use]
    pub fn worker_name(&self) -> &'static str {
        match self {
            Purpose::Measure => "load",
            Purpose::Converse(_) => "client",
        }
    }

    /// Returns the observer, if there is one.
    #[must_use]
    pub fn observer(&self) -> Option<&'a dyn Observer> {
        match self {
            Purpose::Measure => None,
            Purpose::Converse(observer) => Some(*observer),
        }
    }

    /// Whether workers measure.
    #[must_use]
    pub fn measures(&self) -> bool {
        matches!(self, Purpose::Measure)
    }
}

/// Receives the events of connections, in the worker process in which they happen.
pub trait Observer {
    /// Bytes arrived on a connection.
    fn received(&self, connection: u64, bytes: &[u8]);

    /// A connection ended, or could not be made.
    fn ended(&self, connection: u64, end: End);
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The state in which it ended.
    pub state: State,
    /// The system error that ended it, if one did.
    pub error: Option<Errno>,
    /// Whether the connection had been made.
    pub was_open: bool,
}
