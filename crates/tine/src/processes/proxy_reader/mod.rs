//! The proxy reader: reads the PROXY headers of proxies, and passes their clients back to the
//! forkers with the addresses in them.
//!
//! It parses what other hosts send, so it has nothing that decides: no board, no table, no
//! listener. Seccomp and Landlock confine it, where the kernel has them. A proxy reader that is
//! taken over can give the clients of proxies wrong addresses, and no more.

mod pending;
mod read;
pub(crate) mod run;

use std::time::Duration;

use rustix::process::Pid;
use tine_sys::process::Alone;

use crate::ipc::messages::{Identified, ProxyArrival, Receiver, Sender};
use crate::log::Log;
use crate::processes::start::StartReport;
use crate::system::users::Identity;
use crate::system::wakeup::Wakeup;

/// What the supervisor hands to the proxy reader: everything that it keeps.
pub(crate) struct ProxyReaderStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    /// The time for a header.
    pub(crate) timeout: Duration,
    /// Proxies whose header is to be read.
    pub(crate) arrivals: Receiver<ProxyArrival>,
    /// Clients whose proxy has sent its header, to the forkers.
    pub(crate) identified: Sender<Identified>,
    /// Readable once no more proxies will come.
    pub(crate) last: Wakeup,
    pub(crate) log: Log,
    pub(crate) report: StartReport,
}
