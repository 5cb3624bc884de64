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

mod accept;
mod access;
mod address;
mod board;
mod cgroup;
mod child;
mod connection;
mod delayer;
mod display;
mod door;
mod error;
mod family;
mod flood;
mod forker;
mod handover;
mod helper;
mod hosts;
mod inherit;
mod listener;
mod log;
mod names;
mod open_files;
mod orphans;
mod outcome;
mod peer;
mod penalty;
mod procfs;
mod program;
mod rate;
mod reach;
mod ready;
mod refuser;
mod restart;
mod scribe;
mod server;
mod settings;
mod signals;
mod sources;
mod supervisor;
mod tree;
mod warden;
mod watch;

pub use access::{Access, AccessRules, Decision, Moment};
pub use address::{Address, resolve};
pub use connection::Connection;
pub use error::{Error, HandlerError, reason};
pub use hosts::{confirmed_name, host_name, leads_to};
pub use log::{Format, Level};
pub use names::{Identity, service_port};
pub use peer::Peer;
pub use penalty::Penalties;
pub use program::{Arrival, KillMode, Limit, Prepared, Program, Stderr, Terminal};
pub use rate::Rate;
pub use reach::NetBlockSize;
pub use server::Server;
pub use settings::{WhenFull, WhenLimited};
pub use tree::Tree;
pub use watch::Timeouts;
