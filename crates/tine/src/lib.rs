//! tine serves every TCP connection in an operating-system process of its own.
//!
//! A crash, a leak, an endless loop or a break-in stays inside one connection. The handler is an
//! ordinary function over a stream: it may block, call C, and start threads.
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! fn main() -> Result<(), tine::Error> {
//!     tine::Server::bind("[::]:9999")?
//!         .max_connections(10_000)
//!         .run(|mut connection| {
//!             let mut buffer = [0; 16 * 1024];
//!             loop {
//!                 match connection.read(&mut buffer)? {
//!                     0 => return Ok(()),
//!                     n => connection.write_all(&buffer[..n])?,
//!                 }
//!             }
//!         })
//! }
//! ```
//!
//! # Processes
//!
//! ```text
//! your program            the supervisor: calls Server::run, never reads a client's byte
//! ├─ tine: forker 1       accepts, admits, forks
//! ├─ tine: forker 2
//! ├─ tine: conn 4711      a connection process: calls the handler, then exits
//! └─ tine: conn 4712
//! ```
//!
//! The handler starts with a copy of the memory that the program had when it called
//! [`Server::run`]. What it changes there, no other connection sees. A [`Handler`] can prepare more
//! in each forker, before the server is ready, and in each connection process.
//!
//! # Sharing
//!
//! What is to be seen by all is made before the server runs, with the module [`shared`]: counters,
//! locks, tables, queues, messages to every connection. A process that dies leaves it whole, and
//! holds up nobody.
//!
//! ```no_run
//! use std::io::{BufRead, Write};
//! use tine::shared::{Table, Text};
//!
//! fn main() -> Result<(), tine::Error> {
//!     let notes: Table<Text<32>, Text<200>> = Table::new("notes", 10_000)?;
//!     tine::Server::bind("[::]:9999")?.run(move |mut connection| {
//!         while let Some(line) = connection.next_line(300)? {
//!             match line.split_once('=') {
//!                 Some((key, text)) => _ = notes.insert(Text::new(key)?, Text::new(text)?)?,
//!                 None => match notes.get(&Text::new(&line)?) {
//!                     Some(text) => writeln!(connection, "{text}")?,
//!                     None => writeln!(connection, "no such note")?,
//!                 },
//!             }
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # Where to start
//!
//! * [`Server`]: one service, with a handler or with a [`Program`] for each connection
//! * [`Services`]: several services that start and stop together
//! * [`AccessRules`], [`Rate`], [`Penalties`]: which clients are served
//! * [`ProxyProtocol`]: proxies that speak for clients
//! * [`Connection`]: the stream that a handler gets
//! * [`Handler`]: a handler with a start of its own
//! * [`shared`]: state that handlers share
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `async` | async handlers, with a tokio runtime in each connection process |
//! | `tracing` | events of the crate `tracing` in a handler are lines `handler` of the log |
//! | `testing` | the module `testing`: servers in tests |
//!
//! tine runs on Linux only.
//!
#![doc = include_str!("../recipes.md")]
#![forbid(unsafe_code)]

mod admission;
mod connection;
mod error;
mod ipc;
mod jail;
mod lifecycle;
mod log;
mod net;
mod processes;
mod program;
mod server;
mod settings;
mod system;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;

pub use admission::access::{Access, AccessRules};
pub use admission::block::NetBlockSize;
pub use admission::limits::{LimitsMode, WhenFull, WhenLimited};
pub use admission::penalty::Penalties;
pub use admission::proxy::{ProxyOthers, ProxyProtocol};
pub use admission::rate::Rate;
pub use connection::Connection;
#[cfg(feature = "async")]
pub use connection::asynchronous::{AsyncConnection, async_handler};
pub use connection::handler::Handler;
pub use connection::helper::{Helper, HelperEnd};
pub use error::{Error, ErrorKind, HandlerError};
pub use jail::{Jail, JailMode, JailProfile, PrivateNetwork, PrivateUsers};
pub use lifecycle::stop_handle::StopHandle;
pub use log::{LogFormat, LogLevel, LogTarget};
pub use net::address::Address;
pub use net::options::BindIpv6Only;
pub use net::peer::{Credentials, Peer};
pub use net::privacy::Privacy;
pub use program::warm::{Warm, WarmAllow, WarmUntil};
pub use program::{Incoming, KillMode, Prepared, Program, Resource, Stderr, Terminal};
pub use server::services::Services;
pub use settings::control::Control;
pub use settings::{Server, defaults};
pub use system::users::Identity;
pub use tine_shared as shared;
pub use watch::ClientGone;

/// What only the command `tine` uses. Not a part of the API: it can change in any release.
#[doc(hidden)]
pub mod cli {
    pub use crate::admission::access::{Decision, Moment};
    pub use crate::admission::explain::{
        ExplainedClient, ExplainedLimit, ExplainedProxy, ExplainedVerdict, Explanation,
    };
    pub use crate::error::{next_move, one_line, reason};
    pub use crate::jail::report::{JailLayer, jail_layers, try_jail};
    pub use crate::log::Dialect;
    pub use crate::net::address::resolve;
    pub use crate::net::control_socket::directories as control_directories;
    pub use crate::net::dns::{confirmed_name, host_name, leads_to};
    pub use crate::net::hints::is_overlap;
    pub use crate::net::inherit::InheritedSockets;
    pub use crate::net::misspelt::explain as explain_misspelt;
    pub use crate::net::unix_name::path_of_client;
    pub use crate::processes::own_confinement::{confine_for_test, confine_link, confine_observer};
    pub use crate::program::warm::{WarmCheckSettings, WarmReport, WarmRow, check_warm};
    pub use crate::system::users::service_port;

    pub use crate::ipc::handover::takeover::Takeover;
    /// A server that this process replaces, or that can be replaced. The library's own server can
    /// not: only a command line says how it was started.
    pub use crate::settings::replacement::{Replacement, UPGRADE_TIMEOUT};

    pub use crate::admission::access::prefix::Prefix;
    pub use crate::ipc::linking::{BanRecord, BanState, LinkRecord, Linked, ServiceRecord};
    /// The service's end of the channel of a link, for tests of links.
    pub use crate::ipc::linking::{LinkChannel, LinkSaid};
    pub use crate::ipc::observing::Observed;
    /// A process that tells others about a server.
    pub use crate::settings::observer::ObserverSetup;

    /// The same server, which is observed.
    #[must_use]
    pub fn observed(mut server: crate::Server, observation: Option<ObserverSetup>) -> crate::Server {
        server.observation = observation;
        server
    }

    /// A process that links a service with other nodes.
    pub use crate::settings::link::LinkSetup;

    /// The same server, which is linked with other nodes.
    #[must_use]
    pub fn linked(mut server: crate::Server, link: Option<LinkSetup>) -> crate::Server {
        server.link = link;
        server
    }

    /// The same services, which are observed together.
    #[must_use]
    pub fn observed_services(
        mut services: crate::Services,
        observation: Option<ObserverSetup>,
    ) -> crate::Services {
        services.observation = observation;
        services
    }

    /// The same server, which can be replaced, and takes over from another one.
    #[must_use]
    pub fn replaceable(
        mut server: crate::Server,
        replacement: Replacement,
        takeover: Option<Takeover>,
    ) -> crate::Server {
        (server.replacement, server.takeover) = (Some(replacement), takeover);
        server
    }

    /// The same services, which can be replaced, and take over from others.
    #[must_use]
    pub fn replaceable_services(
        mut services: crate::Services,
        replacement: Replacement,
        takeover: Option<Takeover>,
    ) -> crate::Services {
        (services.replacement, services.takeover) = (Some(replacement), takeover);
        services
    }

    /// A request of a controller as text, whether it changes the server, and its service. For the
    /// fuzz target of requests.
    ///
    /// # Errors
    /// It is no request, for this reason.
    pub fn read_request(line: &[u8]) -> Result<(String, bool, Option<String>), String> {
        let (request, service) = crate::processes::control::request::Request::parse(line)?;
        Ok((format!("{request:?}"), request.steers(), service))
    }

    /// Whether the bytes of a control process are an order that is the same when it is sent again;
    /// `None` if they are no order. For the fuzz target of orders.
    #[must_use]
    pub fn repeat_order(bytes: &[u8]) -> Option<bool> {
        let (sender, receiver) = crate::ipc::steering::channel().ok()?;
        rustix::net::send(&sender, bytes, rustix::net::SendFlags::NOSIGNAL).ok()?;
        let (order, path) = receiver.receive().ok()??;
        let is_sent = sender.send_with(order, path.as_deref());
        Some(is_sent && receiver.receive() == Ok(Some((order, path))))
    }

    /// Whether these bytes are the state of a service, a message of a link, or one of a lineage
    /// that is the same when it is written and read again; `None` for what they are not. For the
    /// fuzz target of the hand-over.
    #[must_use]
    pub fn repeat_handover(bytes: &[u8]) -> [Option<bool>; 3] {
        use crate::ipc::handover::lineage::LineageMessage;
        use crate::ipc::handover::link::LinkMessage;
        use crate::ipc::handover::state::ServiceState;

        let state = ServiceState::parse(bytes).ok();
        let link = LinkMessage::parse(bytes);
        let lineage = LineageMessage::parse(bytes);
        [
            state.map(|state| ServiceState::parse(state.to_text().as_bytes()) == Ok(state)),
            link.map(|link| LinkMessage::parse(link.to_json().to_string().as_bytes()) == Some(link)),
            lineage.map(|lineage| {
                LineageMessage::parse(lineage.to_json().to_string().as_bytes()) == Some(lineage)
            }),
        ]
    }

    /// Whether rules allow a client at a time, with its host name if that is known.
    #[must_use]
    pub fn decide<'a>(
        access: &'a crate::Access,
        client: &ExplainedClient,
        name: Option<&str>,
        moment: Moment,
    ) -> Decision<'a> {
        access.explain(client, name, moment)
    }

    /// What the limits of a server do with a client, when its source and its prefix have
    /// `connections` connections. Access rules are not considered: see [`decide`].
    ///
    /// # Errors
    /// ENOMEM.
    pub fn explain(
        server: &crate::Server,
        client: &ExplainedClient,
        connections: usize,
    ) -> Result<Explanation, crate::Error> {
        let limits = crate::admission::limits::Limits { rules: None, ..server.settings.limits.clone() };
        let admission = crate::admission::Admission::new(limits).map_err(|why| {
            let next = next_move::of_call(&why);
            crate::Error::system("cannot make the tables of sources", &why, next)
        })?;
        Ok(admission.explain(client, connections))
    }

    /// Adds the inherited sockets of this name, or all of them.
    ///
    /// # Errors
    /// None has the name.
    pub fn listen_on_inherited(
        mut server: crate::Server,
        sockets: &mut InheritedSockets,
        name: Option<&str>,
    ) -> Result<crate::Server, crate::Error> {
        server.listeners.extend(sockets.take(name)?);
        Ok(server)
    }

    /// The same server, which binds an address that the machine does not have yet, with a warning.
    #[must_use]
    pub fn wait_for_addresses(mut server: crate::Server) -> crate::Server {
        let free_bind = &mut server.settings.socket.at_bind.free_bind;
        if *free_bind == crate::net::options::FreeBind::Never {
            *free_bind = crate::net::options::FreeBind::IfAbsent;
        }
        server
    }

    /// The same server with the log lines of another super-server.
    #[must_use]
    pub fn log_as(mut server: crate::Server, dialect: Dialect) -> crate::Server {
        server.log.format = crate::log::Format::Peer(dialect);
        server
    }
}
