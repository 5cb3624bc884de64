//! tine serves every TCP connection in an operating-system process of its own.
//!
//! A crash, a leak, an endless loop, a break-in stays inside one connection. The handler is an
//! ordinary function over a stream; it may block, call C, start threads.
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
//! The processes: a supervisor (the one that calls [`Server::run`]), forkers that accept and fork, and
//! one process per connection, which runs the handler and ends. `ARCHITECTURE.md` draws them and says
//! what each may touch.

#![forbid(unsafe_code)]

mod admission;
mod connection;
mod error;
mod lifecycle;
mod log;
mod net;
mod processes;
mod program;
mod server;
mod services;
mod settings;
mod shared;
mod system;
mod watch;

pub use admission::access::{Access, AccessRules, Decision, Moment};
pub use admission::block::NetBlockSize;
pub use admission::limits::{WhenFull, WhenLimited};
pub use admission::penalty::Penalties;
pub use admission::rate::Rate;
pub use connection::Connection;
pub use error::{Error, HandlerError, reason};
pub use log::{Format, Level};
pub use net::address::{Address, resolve};
pub use net::dns::{confirmed_name, host_name, leads_to};
pub use net::peer::Peer;
pub use program::{Incoming, KillMode, Limit, PrepareResult, Program, Stderr, Terminal};
pub use server::Server;
pub use services::Services;
pub use system::users::{Identity, service_port};
pub use watch::Timeouts;
