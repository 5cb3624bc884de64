//! The settings of a server: their defaults, and the builder methods of [`Server`] that store them.
//!
//! The methods only store, in any order; `check.rs` validates when the server is checked or run,
//! and `derived.rs` answers questions about the settings.

mod admission;
pub(crate) mod check;
pub(crate) mod control;
pub(crate) mod derived;
mod jail_users;
mod jobs;
pub(crate) mod link;
pub(crate) mod live;
pub(crate) mod observer;
pub(crate) mod replacement;
mod reports;
mod sockets;

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;

use crate::admission::limits::Limits;
use crate::admission::sources::SourceSecret;
use crate::ipc::handover::takeover::Takeover;
use crate::ipc::jobs::JobPool;
use crate::jail::Jail;
use crate::jail::plan::Plan;
use crate::lifecycle::ready::Ready;
use crate::lifecycle::stop_handle::StopHandle;
use crate::log::{LogLevel, LogSettings};
use crate::net::listener::Listener;
use crate::net::options::SocketOptions;
use crate::net::privacy::Privacy;
use crate::program::Program;
use crate::system::users::Identity;
use crate::watch::{ClientGone, Timeouts};
use control::Control;
use link::LinkSetup;
use observer::ObserverSetup;
use replacement::Replacement;

/// Defaults of a server's settings.
pub mod defaults {
    use std::time::Duration;

    use crate::admission::block::NetBlockSize;
    pub use crate::admission::limits::{DELAY_TIMEOUT, MAX_DELAYED};
    pub use crate::admission::proxy::PROXY_TIMEOUT;
    pub use crate::net::options::{
        BACKLOG, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_PROBES, KEEP_ALIVE_TIME, SOCKET_MODE,
    };

    /// [`Server::max_connections`](crate::Server::max_connections).
    pub const MAX_CONNECTIONS: usize = 1024;
    /// The source of [`Server::net_block_sizes`](crate::Server::net_block_sizes).
    pub const SOURCE_BLOCK_SIZE: NetBlockSize = NetBlockSize::SOURCE;
    /// The prefix of [`Server::net_block_sizes`](crate::Server::net_block_sizes).
    pub const PREFIX_BLOCK_SIZE: NetBlockSize = NetBlockSize::PREFIX;
    /// [`Server::history`](crate::Server::history).
    pub const HISTORY: usize = 1000;
    /// [`Server::spares`](crate::Server::spares).
    pub const SPARES: usize = 0;
    /// [`Server::reuse`](crate::Server::reuse).
    pub const REUSE: u64 = 1;
    /// [`Server::drain_timeout`](crate::Server::drain_timeout). With the two seconds between TERM
    /// and KILL it stays below the ten seconds after which container engines kill.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(7);

    /// [`Server::forkers`](crate::Server::forkers): 2, or 1 on one processor.
    ///
    /// Measured: while one forker is inside `clone`, the other accepts; more gained nothing on two
    /// processors.
    #[must_use]
    pub fn forkers() -> usize {
        std::thread::available_parallelism().map_or(1, |processors| processors.get().min(2))
    }
}

/// The settings of a server, as the builder stored them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name of the service, if the server has several.
    pub(crate) service: Option<String>,
    /// The master, if the server has several services.
    pub(crate) master: Option<Pid>,
    /// What each client gets before it is served; empty for nothing.
    pub(crate) banner: Vec<u8>,
    pub(crate) max_connections: usize,
    /// The connections after which the server accepts no more and stops.
    pub(crate) exit_after: Option<u64>,
    pub(crate) limits: Limits,
    pub(crate) socket: SocketOptions,
    pub(crate) spares: usize,
    pub(crate) reuse: u64,
    pub(crate) forkers: usize,
    /// The time between a request to stop and the drain.
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    /// The time that connections have to finish once the server is replaced; `None`: any.
    pub(crate) upgrade_drain_timeout: Option<Duration>,
    /// Connections outlive the server, which stops as soon as it has stopped accepting.
    pub(crate) leaves_connections: bool,
    pub(crate) client_gone: ClientGone,
    pub(crate) identity: Option<Identity>,
    pub(crate) titles: bool,
    pub(crate) flushes_stdout: bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_output: Option<u64>,
    /// The socket of each connection is noted when it is accepted: at the start a rule needed it.
    pub(crate) notes_sockets: bool,
    /// The inherited descriptor that is written to when the server is ready.
    pub(crate) ready_descriptor: Option<i32>,
    /// The program that is executed for each connection, instead of calling the handler.
    pub(crate) program: Option<Program>,
    pub(crate) control: Control,
    /// Connections that have ended of which the control socket tells.
    pub(crate) history: usize,
    /// What connections may no longer do: what was asked for.
    pub(crate) jail: Jail,
    /// What is in force of it. Known when the server is set up.
    pub(crate) jail_plan: Plan,
    /// Where crash reports are kept.
    pub(crate) crash_dir: Option<PathBuf>,
    /// Whether operators can ask for the records of connections. Known when the server is set up.
    pub(crate) keeps_records: bool,
    /// The level of the log now. Known when the server is set up.
    pub(crate) log_level: LogLevel,
    /// How peers are shown.
    pub(crate) privacy: Privacy,
    /// Where bans are kept for the next start.
    pub(crate) state_file: Option<PathBuf>,
    /// What makes the keys of sources.
    pub(crate) source_secret: SourceSecret,
    /// Connections that older generations may have, at most.
    pub(crate) older_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            service: None,
            master: None,
            banner: Vec::new(),
            max_connections: defaults::MAX_CONNECTIONS,
            exit_after: None,
            limits: Limits::default(),
            socket: SocketOptions::default(),
            spares: defaults::SPARES,
            reuse: defaults::REUSE,
            forkers: defaults::forkers(),
            drain_delay: Duration::ZERO,
            drain_timeout: defaults::DRAIN_TIMEOUT,
            upgrade_drain_timeout: None,
            leaves_connections: false,
            client_gone: ClientGone::End,
            identity: None,
            titles: false,
            flushes_stdout: true,
            timeouts: Timeouts::default(),
            max_output: None,
            notes_sockets: false,
            ready_descriptor: None,
            program: None,
            control: Control::none(),
            history: defaults::HISTORY,
            jail: Jail::default(),
            jail_plan: Plan::default(),
            crash_dir: None,
            keeps_records: false,
            log_level: LogLevel::default(),
            privacy: Privacy::None,
            state_file: None,
            source_secret: SourceSecret::random(),
            older_connections: 0,
        }
    }
}

/// A server that gives every connection a process of its own.
///
/// The methods that describe it only store; [`Server::run`] validates, so their order does not
/// matter.
///
/// The process that calls [`Server::run`] becomes the supervisor, which never reads a client's
/// byte. It must have only one thread then. Until `run` returns, it blocks and handles SIGTERM,
/// SIGINT, SIGQUIT, SIGPWR, SIGHUP, SIGCHLD and one real-time signal, ignores SIGUSR1, SIGUSR2,
/// SIGALRM, SIGVTALRM, SIGPROF and SIGIO with a warning, and adopts orphans
/// (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
#[derive(Debug, Default)]
pub struct Server {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) settings: Settings,
    pub(crate) log: LogSettings,
    pub(crate) ready: Ready,
    /// Where the program can stop the server.
    pub(crate) stop_handle: Option<StopHandle>,
    pub(crate) replacement: Option<Replacement>,
    pub(crate) takeover: Option<Takeover>,
    pub(crate) observation: Option<ObserverSetup>,
    /// How the service is linked with other nodes.
    pub(crate) link: Option<LinkSetup>,
    /// The workers that do jobs.
    pub(crate) jobs: Vec<JobPool>,
}

/// Processes and times.
impl Server {
    /// The maximum length of a banner, in bytes.
    pub const MAX_BANNER: usize = 64 << 10;

    /// Sets the bytes that each client gets before its handler or program starts. The connection's
    /// process sends them, so a client that does not read holds up no other. A program is then
    /// executed by a process that is forked for it, which takes longer. Default: none.
    #[must_use]
    pub fn banner(mut self, banner: impl Into<Vec<u8>>) -> Server {
        self.settings.banner = banner.into();
        self
    }

    /// Sets the jail that each connection is served in. Default: none.
    #[must_use]
    pub fn jail(mut self, jail: Jail) -> Server {
        self.settings.jail = jail;
        self
    }

    /// Sets the number of spares: processes that are forked in advance and accept one client each.
    /// Default: 0, processes are forked for accepted clients.
    #[must_use]
    pub fn spares(mut self, processes: usize) -> Server {
        self.settings.spares = processes;
        self
    }

    /// Sets how many connections a process serves, one after the other, before it ends. More than 1
    /// needs [`Server::spares`] and isolates less: a connection can harm those that the same
    /// process serves later. Default: 1.
    #[must_use]
    pub fn reuse(mut self, connections: u64) -> Server {
        self.settings.reuse = connections;
        self
    }

    /// Sets the number of processes that accept and fork, 1 to 64. Default: 2, or 1 on one
    /// processor.
    #[must_use]
    pub fn forkers(mut self, processes: usize) -> Server {
        self.settings.forkers = processes;
        self
    }

    /// Sets how long a server that is to stop still accepts clients, while it tells those that ask
    /// for its phase, load balancers among them, that it drains. Then the drain begins. Default: 0.
    #[must_use]
    pub fn drain_delay(mut self, time: Duration) -> Server {
        self.settings.drain_delay = time;
        self
    }

    /// Sets how long connections may take to finish when the server stops. Default: 7 s.
    #[must_use]
    pub fn drain_timeout(mut self, time: Duration) -> Server {
        self.settings.drain_timeout = time;
        self
    }

    /// Sets how long connections may take to finish once the command `tine` has replaced the
    /// server by its next generation, which accepts the clients. Default: `None`, any time.
    #[must_use]
    pub fn upgrade_drain_timeout(mut self, time: Option<Duration>) -> Server {
        self.settings.upgrade_drain_timeout = time;
        self
    }

    /// Ends a connection after this time without a byte in either direction. Default: never.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Server {
        self.settings.timeouts.idle = Some(time);
        self
    }

    /// Ends a connection this long after it was accepted. Default: never.
    #[must_use]
    pub fn max_lifetime(mut self, time: Duration) -> Server {
        self.settings.timeouts.lifetime = Some(time);
        self
    }

    /// Ends a connection whose client has received more than this number of bytes. The kernel
    /// counts them, for TCP, and the supervisor looks 20 times a second: a client can receive more,
    /// as much as it takes in that time. Default: no limit.
    #[must_use]
    pub fn max_output(mut self, bytes: u64) -> Server {
        self.settings.max_output = Some(bytes);
        self
    }

    /// Ends a connection whose client has sent nothing this long after it was accepted. Default:
    /// never.
    #[must_use]
    pub fn first_byte_timeout(mut self, time: Duration) -> Server {
        self.settings.timeouts.first_byte = Some(time);
        self
    }

    /// Sets whether connections outlive the server. If so, it stops as soon as it has stopped
    /// accepting. Default: false, connections have the drain timeout, and end with the server.
    #[must_use]
    pub fn leave_connections(mut self, leave: bool) -> Server {
        self.settings.leaves_connections = leave;
        self
    }

    /// Sets what happens to a connection whose client is gone and whose program or handler does not
    /// notice. Default: it is ended.
    #[must_use]
    pub fn client_gone(mut self, client_gone: ClientGone) -> Server {
        self.settings.client_gone = client_gone;
        self
    }

    /// Sets the user and groups of forkers and connections; the supervisor keeps its own. Default:
    /// the same.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Server {
        self.settings.identity = Some(identity);
        self
    }

    /// Sets whether the command line of each connection's process shows id and peer. That costs a
    /// memory page or more per connection. Default: false.
    #[must_use]
    pub fn titles(mut self, titles: bool) -> Server {
        self.settings.titles = titles;
        self
    }

    /// Sets whether a process flushes the standard library's buffer of standard output after the
    /// handler. False saves a little where the handler does not print. Default: true.
    #[must_use]
    pub fn flush_stdout(mut self, flush: bool) -> Server {
        self.settings.flushes_stdout = flush;
        self
    }
}
