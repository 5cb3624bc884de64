//! The master: with several services, the process above their supervisors. It binds all addresses
//! before the first service starts, starts the supervisors and restarts them, and keeps the
//! sockets, so that clients of a service whose supervisor was killed wait in the backlog.
//!
//! It never accepts a client.

mod handover;
mod reap;
pub(crate) mod run;
mod start;
mod state;
mod steer;

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use tine_sys::process::{Alone, Ended};
use tine_sys::signal::Set;

use crate::connection::handler::AnyHandler;
use crate::error::{Error, next_move};
use crate::ipc::handover::link::Link;
use crate::ipc::handover::takeover::Takeover;
use crate::ipc::messages::{Channel, ControllerArrival};
use crate::lifecycle::ready::Ready;
use crate::lifecycle::stop_handle::{ArmedHandles, StopHandle};
use crate::log::ring::LogRing;
use crate::log::{Log, LogSettings};
use crate::processes::control::controllers::Controllers;
use crate::processes::handover::generations::Generations;
use crate::processes::log_writer::LogWriter;
use crate::processes::observer::Observer;
use crate::processes::supervisor::setup::Setup;
use crate::settings::control::Control;
use crate::settings::observer::ObserverSetup;
use crate::settings::replacement::Replacement;
use crate::system::orphans::PreexistingChildren;

/// What a program hands to the master.
pub(crate) struct MasterSetup {
    pub(crate) services: Vec<ServiceSetup>,
    pub(crate) log: LogSettings,
    pub(crate) ready: Ready,
    pub(crate) control: Control,
    /// Where the program can stop the server.
    pub(crate) stop_handles: Vec<StopHandle>,
    /// How the server is observed.
    pub(crate) observation: Option<ObserverSetup>,
    /// How the server is replaced.
    pub(crate) replacement: Option<Replacement>,
    /// The hand-over that this process was executed for.
    pub(crate) takeover: Option<Takeover>,
}

/// A service, as the master keeps it for each supervisor that it starts.
pub(crate) struct ServiceSetup {
    pub(crate) name: String,
    pub(crate) server: Setup,
    pub(crate) handler: AnyHandler,
    /// Controllers that the master hands to the supervisor; `None` without a control socket.
    pub(crate) controllers: Option<Channel<ControllerArrival>>,
    /// Where its supervisor hears of the next generation.
    pub(crate) link: Option<Link>,
}

/// A master: what its loop uses, and the services as it starts them.
struct Master<'a> {
    services: Vec<ServiceSetup>,
    alone: &'a Alone,
    /// The service of each supervisor, by process id.
    pids: HashMap<i32, usize>,
    log: Log,
    /// Where the log goes elsewhere than to standard error.
    log_writer: Option<LogWriter>,
    observer: Option<Observer>,
    /// The last lines of the log, with a control socket. Supervisors do not have this memory.
    log_ring: Option<LogRing>,
    ready: Ready,
    signals: Set,
    /// Readable while a signal is pending.
    signal_fd: OwnedFd,
    original_mask: Set,
    stop_handles: ArmedHandles,
    preexisting: PreexistingChildren,
    /// Supervisors that have ended and are not logged yet.
    ended: Vec<(usize, Ended)>,
    controllers: Controllers,
    /// Control processes, each with a service that it has stopped.
    drains: Vec<(i32, usize)>,
    generations: Generations,
    /// Until this process has taken over: the first process of the older generation.
    takeover: Option<Takeover>,
}

fn cannot_start(what: &str, why: &std::io::Error) -> Error {
    Error::system(format_args!("cannot start the services: {what}"), why, next_move::of_call(why))
}
