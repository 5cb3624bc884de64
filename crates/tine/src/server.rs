//! How a server is described: the builder that a program uses.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tine_sys::process::Alone;

use crate::admission::access::Access;
use crate::admission::block::{Aggregations, NetBlockSize};
use crate::admission::limits::{WhenFull, WhenLimited};
use crate::admission::penalty::Penalties;
use crate::admission::rate::{Rate, Rates};
use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::lifecycle::ready::Ready;
use crate::log::{Format, Level, Log};
use crate::net::address::Address;
use crate::net::listener::Listener;
use crate::processes::supervisor;
use crate::processes::supervisor::run::Setup;
use crate::program::Program;
use crate::settings::Settings;
use crate::shared::board::MAX_FORKERS;
use crate::system::users::Identity;
use crate::watch::Timeouts;

/// A server that gives every connection a process of its own.
///
/// The process that calls [`Server::run`] becomes the supervisor: it never reads a client's byte. It
/// must have one thread then, and until `run` returns it blocks and takes SIGTERM, SIGINT, SIGHUP,
/// SIGUSR2, SIGCHLD and one real-time signal, and adopts orphans (`PR_SET_CHILD_SUBREAPER`).
#[derive(Debug, Default)]
pub struct Server {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) settings: Settings,
    pub(crate) format: Format,
    pub(crate) level: Level,
    pub(crate) ready: Ready,
}

impl Server {
    /// A server at one address, which is bound and listens when this returns. The forms of addresses
    /// are those of [`Address`]: `"[::]:9999"`, `"9999"`, `"localhost:0"`, `"unix:/run/echo"`.
    ///
    /// # Errors
    /// The address makes no sense or cannot be had.
    pub fn bind(address: &str) -> Result<Server, Error> {
        let mut server = Server::new();
        server.listeners = Listener::bind(&address.parse::<Address>()?, server.settings.backlog)?;
        Ok(server)
    }

    /// A server without an address yet: [`Server::and_bind`] gives it some.
    #[must_use]
    pub fn new() -> Server {
        Server::default()
    }

    /// Whether these settings can be served together, with this program if there is one.
    ///
    /// # Errors
    /// They cannot, or the program cannot be executed.
    pub fn check(&self, program: Option<&Program>) -> Result<(), Error> {
        let program = program.or(self.settings.program.as_ref()).cloned();
        Settings { program, ..self.settings.clone() }.check().map(drop)
    }

    /// A server on the sockets that a service manager passed (`LISTEN_FDS`, sd_listen_fds(3)), if it
    /// passed any. The variables are removed from the environment.
    ///
    /// # Errors
    /// What was passed cannot be served.
    pub fn inherited() -> Result<Option<Server>, Error> {
        let mut server = Server::new();
        server.listeners = crate::net::inherit::listeners()?;
        Ok((!server.listeners.is_empty()).then_some(server))
    }

    /// A server on a stream socket that listens already.
    ///
    /// # Errors
    /// It does not.
    pub fn on(socket: OwnedFd) -> Result<Server, Error> {
        let mut server = Server::new();
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|why| Error::system("cannot serve a socket", &why.into(), "pass one that listens"))?;
        let mut listener = Listener::inherited(socket, "given")?;
        listener.shared = false;
        server.listeners.push(listener);
        Ok(server)
    }

    /// One more address for the same service; 64 sockets are the most.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn and_bind(mut self, address: &str) -> Result<Server, Error> {
        self.listeners.extend(Listener::bind(&address.parse::<Address>()?, self.settings.backlog)?);
        Ok(self)
    }

    /// The TCP addresses that it listens on, in order.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let name = |listener| rustix::net::getsockname(listener).ok();
        self.listeners.iter().filter_map(name).filter_map(|name| SocketAddr::try_from(name).ok()).collect()
    }

    /// How many connections are served at a time, over all addresses; at least 1. Default: 1024.
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Server {
        self.settings.max_connections = most.max(1);
        self
    }

    /// What happens to a client beyond that. Default: it waits.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Server {
        self.settings.limits.when_full = when_full;
        self
    }

    /// How many connections one source address may have at a time. Who has as many is refused, with the text
    /// of [`Server::when_full`] if there is one; nobody else waits for it. Default: no limit. Clients over
    /// Unix sockets have no source address.
    #[must_use]
    pub fn max_connections_per_source(mut self, most: Option<usize>) -> Server {
        self.settings.limits.max_per_source = most.map(|most| most.max(1));
        self
    }

    /// The same for a prefix: a /24 of IPv4, a /56 of IPv6.
    #[must_use]
    pub fn max_connections_per_prefix(mut self, most: Option<usize>) -> Server {
        self.settings.limits.max_per_prefix = most.map(|most| most.max(1));
        self
    }

    /// What happens to a client that is beyond a limit of its source or its prefix, or has a penalty to wait for.
    /// Default: it is refused.
    #[must_use]
    pub fn when_limited(mut self, when_limited: WhenLimited) -> Server {
        self.settings.limits.when_limited = when_limited;
        self
    }

    /// What is a source and what is a prefix, for all limits and penalties. Default: [`NetBlockSize::SOURCE`],
    /// [`NetBlockSize::PREFIX`].
    ///
    /// # Errors
    /// A prefix would be less than a source.
    pub fn net_block_sizes(mut self, source: NetBlockSize, prefix: NetBlockSize) -> Result<Server, Error> {
        self.settings.limits.aggregations = Aggregations::new(source, prefix)?;
        Ok(self)
    }

    /// How often one source may come (an address of IPv4, a /64 of IPv6), and one prefix (a /24, a /56). Who comes more
    /// often is refused, as for [`Server::max_connections_per_source`]. 100,000 sources are remembered, in 1.6 MB.
    /// Default: as often as they like.
    #[must_use]
    pub fn rates(mut self, source: Option<Rate>, prefix: Option<Rate>) -> Server {
        self.settings.limits.rates = Rates { source, prefix };
        self
    }

    /// Who may come. Who may not is closed without a word, and logged. Files of rules are read again when they have
    /// changed, or at SIGHUP. Default: everyone. Clients over Unix sockets
    /// have no address, and always may.
    #[must_use]
    pub fn access(mut self, access: Option<&Access>) -> Server {
        self.settings.limits.rules = access.map(|access| access.clone().compiled());
        self
    }

    /// What sources pay for connections that crash, time out or never say a word, but for those whom these rules allow.
    /// Default: nothing.
    #[must_use]
    pub fn penalties(mut self, penalties: Option<Penalties>, exempt: Option<&Access>) -> Server {
        self.settings.limits.penalties = penalties;
        self.settings.limits.penalty_exempt = exempt.map(|access| access.clone().compiled());
        self
    }

    /// How many clients the kernel keeps waiting, 4096 by default; `net.core.somaxconn` caps it.
    ///
    /// # Errors
    /// None that a bound address can cause.
    pub fn backlog(mut self, clients: u32) -> Result<Server, Error> {
        self.settings.backlog = clients;
        self.listeners
            .iter()
            .filter(|listener| !listener.blocks)
            .try_for_each(|listener| listener.set_backlog(clients))?;
        Ok(self)
    }

    /// Whether what is written goes out at once (`TCP_NODELAY`, tcp(7)), instead of waiting a little for more. Default: yes.
    ///
    /// # Errors
    /// None that a bound address can cause.
    pub fn no_delay(self, at_once: bool) -> Result<Server, Error> {
        self.listeners.iter().try_for_each(|listener| listener.set_no_delay(at_once))?;
        Ok(self)
    }

    /// How many fresh processes stand ready; 0, the default, forks after accepting.
    #[must_use]
    pub fn spares(mut self, processes: usize) -> Server {
        self.settings.spares = processes;
        self
    }

    /// How many connections a process serves, one after the other, before it ends. 1, the default,
    /// isolates; more is a pool, in which a connection can harm those that the same process serves
    /// later. Needs [`Server::spares`].
    #[must_use]
    pub fn reuse(mut self, connections: u64) -> Server {
        self.settings.reuse = connections.max(1);
        self
    }

    /// How many processes accept and fork, 1 to 64. Default: 2, or 1 on one processor.
    #[must_use]
    pub fn forkers(mut self, processes: usize) -> Server {
        self.settings.forkers = processes.clamp(1, MAX_FORKERS);
        self
    }

    /// How long a stopping server lets connections finish. Default: 10 s.
    #[must_use]
    pub fn drain_timeout(mut self, time: Duration) -> Server {
        self.settings.drain_timeout = time;
        self
    }

    /// Whether connections go on when the server stops, and whatever becomes of it; then it stops as soon as it accepts nobody any
    /// more. Default: no, they have the drain timeout, and end with the server.
    #[must_use]
    pub fn leave_connections(mut self, leave: bool) -> Server {
        self.settings.leaves_connections = leave;
        self
    }

    /// Whether programs go on for ever that do not notice that their client has gone. Default: no, they are ended.
    #[must_use]
    pub fn ignore_gone_clients(mut self, ignore: bool) -> Server {
        self.settings.ignores_gone_clients = ignore;
        self
    }

    /// Times that end a connection. Default: none.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Server {
        self.settings.timeouts = timeouts;
        self
    }

    /// Who forkers and connections run as; the supervisor stays who it is. Default: the same.
    #[must_use]
    pub fn identity(mut self, identity: Option<Identity>) -> Server {
        self.settings.identity = identity;
        self
    }

    /// Shows id and peer in each connection's command line. Costs a page or more per connection.
    #[must_use]
    pub fn titles(mut self, titles: bool) -> Server {
        self.settings.titles = titles;
        self
    }

    /// Whether the handler writes to standard output through the standard library's buffer, so that a
    /// process flushes it at its end. Default: yes. A handler that does not saves a little.
    #[must_use]
    pub fn handler_prints(mut self, prints: bool) -> Server {
        self.settings.handler_prints = prints;
        self
    }

    /// How the log on standard error looks, and how much it says. Default: text, every event.
    #[must_use]
    pub fn log(mut self, format: Format, level: Level) -> Server {
        self.format = format;
        self.level = level;
        self
    }

    /// When ready, prints the port of each TCP address on standard output, which then becomes
    /// `/dev/null`.
    #[must_use]
    pub fn print_ports(mut self, print: bool) -> Server {
        self.ready.ports = print;
        self
    }

    /// When ready, writes a newline to this inherited descriptor and closes it (s6's convention).
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn ready_descriptor(mut self, number: i32) -> Result<Server, Error> {
        self.ready.descriptor = Some(descriptor_for_readiness(number)?);
        Ok(self)
    }

    /// What the supervisor takes over.
    pub(crate) fn into_setup(self) -> Setup {
        let log = Log::new(self.format, self.level, self.settings.service.clone());
        Setup { listeners: self.listeners, settings: self.settings, log, ready: self.ready }
    }

    /// Serves until SIGTERM or SIGINT and the drain that follows; then returns. The handler runs in a
    /// process of its own for each connection: it may block, crash, leak, start threads. Its error or
    /// panic ends that connection and is logged.
    ///
    /// # Errors
    /// The server cannot start: this process has several threads, or the system is out of something.
    pub fn run<H>(self, mut handler: H) -> Result<(), Error>
    where
        H: FnMut(Connection) -> Result<(), HandlerError>,
    {
        supervisor::run::run(self.into_setup(), &alone()?, &mut handler)
    }
}

impl Server {
    /// Serves like [`Server::run`], with a program that is executed for each connection. It may be run
    /// with [`Server::spares`], which then wait up to the moment of execution, not with [`Server::reuse`].
    ///
    /// # Errors
    /// As [`Server::run`]; or the program cannot be executed.
    pub fn run_program(mut self, program: Program) -> Result<(), Error> {
        self.settings.program = Some(program);
        self.run(|_| unreachable!("a program is executed instead"))
    }
}

/// Proof that this process may fork.
pub(crate) fn alone() -> Result<Alone, Error> {
    Alone::check().map_err(|why| {
        Error::usage(
            format_args!("cannot fork for each connection: {why}"),
            "start the server before any thread, and threads in the handler",
        )
    })
}

/// An inherited descriptor that somebody waits at.
pub(crate) fn descriptor_for_readiness(number: i32) -> Result<OwnedFd, Error> {
    tine_sys::fd::inherited(number).map_err(|why| {
        let next = "open it in whatever starts the server, or leave out --ready-fd";
        Error::usage(format_args!("descriptor {number} for readiness: {}", crate::error::reason(&why)), next)
    })
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.listeners.iter().map(|listener| listener.name.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}
