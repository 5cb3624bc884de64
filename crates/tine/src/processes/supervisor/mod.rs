//! The supervisor: starts the other processes of a server, reaps them, monitors connections, writes
//! the log, drains.
//!
//! It never reads a client's byte and holds no client's socket. Every connection process is its
//! child, although a forker creates it: so the supervisor alone reaps, and a connection survives
//! its forker but not the supervisor.

mod apply;
mod bans;
mod capacity;
mod channels;
mod children;
mod connecting;
mod crash_reports;
mod crashed;
mod enforce;
mod fleet;
mod free_slots;
mod handover;
mod handovers;
mod held_ends;
mod heritage;
mod keep;
mod killings;
mod left;
mod linger;
mod lingering;
mod nodes;
mod older;
mod older_connections;
mod pidfds;
mod reached;
mod reap;
mod reload;
pub(crate) mod requirements;
mod resize;
mod role;
pub(crate) mod run;
mod set;
pub(crate) mod setup;
mod snapshot;
mod spawn;
mod state;
mod steer;
mod succession;
mod takeover;
mod timers;
mod unserved;
mod wait;
mod warm;

use std::ffi::CString;

use tine_sys::fd::Floor;
use tine_sys::memory::{FlagReader, FlagWriter};
use tine_sys::process::Alone;

use crate::admission::Admission;
use crate::admission::access::watch::RuleFiles;
use crate::ipc::board::Board;
use crate::ipc::jobs::JobPool;
use crate::ipc::members::Members;
use crate::ipc::stats::ConnStats;
use crate::lifecycle::ready::Ready;
use crate::log::Log;
use crate::log::ring::LogRing;
use crate::net::listener::Listener;
use crate::processes::control::controllers::Controllers;
use crate::processes::log_writer::LogWriter;
use crate::processes::observer::Observer;
use crate::settings::Settings;
use crate::settings::live::AtStart;
use crate::system::cgroups::Cgroups;
use crate::watch::history::History;
use crate::watch::watcher::Watcher;
use bans::Bans;
use capacity::Capacity;
use channels::Channels;
use children::Children;
use crash_reports::CrashReports;
use fleet::Fleet;
use handovers::Handovers;
use held_ends::HeldEnds;
use killings::Killings;
use older::Older;
use reached::ReachedLimits;
use timers::Timers;
use wait::SupervisorFds;

/// A supervisor: what its loop uses, and what it keeps for the processes that it starts.
struct Supervisor<'a, H> {
    alone: &'a Alone,
    handler: &'a mut H,
    /// The workers that do jobs.
    jobs: Vec<JobPool>,
    settings: Settings,
    /// What the start has decided about changes of the settings.
    at_start: AtStart,
    listeners: Vec<Listener>,
    memory: SharedMemory,
    channels: Channels,
    /// The file of the program, found before the first fork.
    program_path: Option<CString>,
    cgroups: Option<Cgroups>,
    reached: ReachedLimits,
    /// The descriptors of the server are from here on.
    first_server_fd: Floor,
    log: Log,
    /// Where the log goes elsewhere than to standard error, and no master has one.
    log_writer: Option<LogWriter>,
    observer: Option<Observer>,
    fleet: Fleet,
    ready: Ready,
    fds: SupervisorFds,
    children: Children,
    timers: Timers,
    watcher: Watcher,
    controllers: Controllers,
    /// Connections that operators end.
    killings: Killings,
    history: History,
    held_ends: HeldEnds,
    bans: Bans,
    capacity: Capacity,
    /// Files of access rules, which are read again after a change.
    rule_files: Option<RuleFiles>,
    /// Where reports of crashes are kept.
    crash_reports: Option<CrashReports>,
    /// Whether the server ends its connections, so that their signals are its own.
    ends_connections: bool,
    handovers: Handovers,
    /// Connections that older generations serve.
    older: Older,
    /// Whether a drain serves the backlog: no newer generation does.
    serves_backlog: bool,
    /// Whether a drain was announced: operators and load balancers are told of it before it begins.
    is_announced: bool,
}

/// Memory that the processes of a server share, mapped before the first fork.
struct SharedMemory {
    board: Board,
    admission: Admission,
    stats: ConnStats,
    /// The processes, where the program shares state.
    members: Members,
    /// The last lines of the log, where operators can ask for them.
    log_ring: Option<LogRing>,
    /// The writer's mapping is this process's alone.
    flags: FlagWriter,
    /// Set when the server begins to drain.
    drain: FlagReader,
}

/// Index of the flag that is set when the server begins to drain.
const DRAIN: usize = 0;
/// Index of the level of the log.
const LOG_LEVEL: usize = 1;
