//! The settings of a server and their defaults. `check.rs` validates them; `derived.rs` answers
//! questions about them.

pub(crate) mod check;
pub(crate) mod derived;

use std::time::Duration;

use rustix::process::Pid;

use crate::admission::limits::Limits;
use crate::net::listener::SocketOptions;
use crate::program::Program;
use crate::system::users::Identity;
use crate::watch::Timeouts;

/// Defaults of a server's settings.
pub mod defaults {
    use std::time::Duration;

    use crate::admission::block::NetBlockSize;
    pub use crate::admission::limits::{DELAY_TIMEOUT, MAX_DELAYED};

    /// [`Server::max_connections`](crate::Server::max_connections).
    pub const MAX_CONNECTIONS: usize = 1024;
    /// The source of [`Server::net_block_sizes`](crate::Server::net_block_sizes).
    pub const SOURCE_BLOCK_SIZE: NetBlockSize = NetBlockSize::SOURCE;
    /// The prefix of [`Server::net_block_sizes`](crate::Server::net_block_sizes).
    pub const PREFIX_BLOCK_SIZE: NetBlockSize = NetBlockSize::PREFIX;
    /// [`Server::backlog`](crate::Server::backlog).
    pub const BACKLOG: u32 = 4096;
    /// [`Server::keep_alive_time`](crate::Server::keep_alive_time).
    pub const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
    /// [`Server::spares`](crate::Server::spares).
    pub const SPARES: usize = 0;
    /// [`Server::reuse`](crate::Server::reuse).
    pub const REUSE: u64 = 1;
    /// [`Server::drain_timeout`](crate::Server::drain_timeout).
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(crate) max_connections: usize,
    pub(crate) limits: Limits,
    pub(crate) socket: SocketOptions,
    pub(crate) spares: usize,
    pub(crate) reuse: u64,
    pub(crate) forkers: usize,
    pub(crate) drain_timeout: Duration,
    /// Connections outlive the server, which stops as soon as it has stopped accepting.
    pub(crate) leaves_connections: bool,
    /// Programs whose clients are gone are not ended.
    pub(crate) ignores_gone_clients: bool,
    pub(crate) identity: Option<Identity>,
    pub(crate) titles: bool,
    pub(crate) flushes_stdout: bool,
    pub(crate) timeouts: Timeouts,
    /// The inherited descriptor that is written to when the server is ready.
    pub(crate) ready_descriptor: Option<i32>,
    /// The program that is executed for each connection, instead of calling the handler.
    pub(crate) program: Option<Program>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            service: None,
            master: None,
            max_connections: defaults::MAX_CONNECTIONS,
            limits: Limits::default(),
            socket: SocketOptions {
                backlog: defaults::BACKLOG,
                no_delay: true,
                keep_alive_time: defaults::KEEP_ALIVE_TIME,
            },
            spares: defaults::SPARES,
            reuse: defaults::REUSE,
            forkers: defaults::forkers(),
            drain_timeout: defaults::DRAIN_TIMEOUT,
            leaves_connections: false,
            ignores_gone_clients: false,
            identity: None,
            titles: false,
            flushes_stdout: true,
            timeouts: Timeouts::default(),
            ready_descriptor: None,
            program: None,
        }
    }
}
