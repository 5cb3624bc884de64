//! The delayer: holds the delay queue, and releases clients to the forkers when their limits admit
//! them.
//!
//! Forkers keep no client's descriptor, so this process does. While a source has clients here, its
//! bucket is marked, and forkers send its later clients here as well.

mod counts;
mod queue;
mod release;
pub(crate) mod run;

use rustix::process::Pid;
use tine_sys::process::Alone;

use crate::admission::for_delayer::DelayerAdmission;
use crate::ipc::board::for_delayer::DelayerBoard;
use crate::ipc::messages::{Delayed, Receiver, Rejection, Sender};
use crate::system::users::Identity;
use crate::system::wakeup::Wakeup;

/// What the supervisor hands to the delayer: everything that it keeps.
pub(crate) struct DelayerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    pub(crate) board: DelayerBoard,
    pub(crate) admission: DelayerAdmission,
    /// Clients to be queued.
    pub(crate) arrivals: Receiver<Delayed>,
    /// Clients to be served, to the forkers.
    pub(crate) released: Sender<Delayed>,
    pub(crate) rejector: Sender<Rejection>,
    /// Wakes this process: a connection has ended, or a drain begins.
    pub(crate) wakeup: Wakeup,
}
