//! A control process: serves one request of a controller, then exits.
//!
//! The supervisor forks it when a controller has sent something. So it has a copy of what the
//! supervisor knows at that moment, and the board and the stats as they change, read-only. It
//! parses what a controller sends, so it decides nothing: it asks the supervisor to, by fixed
//! words. Seccomp and Landlock confine it, where the kernel has them. A controller that is hostile,
//! slow or silent keeps its own control process busy, and nothing else.

mod answer;
pub(crate) mod controllers;
pub(crate) mod crashes;
mod fleet;
mod gather;
mod logs;
mod metrics;
mod reply;
pub(crate) mod request;
pub(crate) mod router;
mod rows;
pub(crate) mod run;
pub(crate) mod served;
mod shared_state;
pub(crate) mod view;
mod warm;

use std::os::fd::OwnedFd;

use rustix::process::Pid;
use tine_sys::process::Alone;

use crate::ipc::steering::OrderSender;
use crate::net::operator::Operator;
use crate::processes::start::StartReport;
use crate::system::users::Identity;
use view::View;

/// The controller of a control process.
pub(crate) struct NewController {
    /// Its socket.
    pub(crate) stream: OwnedFd,
    pub(crate) operator: Operator,
    /// To the supervisor or master.
    pub(crate) orders: OrderSender,
}

/// What the supervisor hands to a control process: everything that it keeps.
pub(crate) struct ControlStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    pub(crate) controller: NewController,
    pub(crate) view: View,
    pub(crate) report: StartReport,
}
