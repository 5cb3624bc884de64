//! State that connects the processes of a server, and outlives each: `tine::shared`.
//!
//! A connection process has a copy of the program's memory, so what one handler changes, no other
//! sees. What is made with this module is in memory that all of them have. It is made before the
//! server runs, has a name, and its handle is copied into the handlers:
//!
//! ```no_run
//! use std::io::Write;
//! use tine::shared::Counter;
//!
//! fn main() -> Result<(), tine::Error> {
//!     let visits = Counter::new("visits")?;
//!     tine::Server::bind("[::]:9999")?.run(move |mut connection| {
//!         Ok(writeln!(connection, "You are number {}.", visits.add(1) + 1)?)
//!     })
//! }
//! ```
//!
//! | type | is |
//! | --- | --- |
//! | [`Counter`], [`Gauge`], [`Histogram`] | numbers, which monitoring sees |
//! | [`Cell`] | a value that is read and set as a whole |
//! | [`Mutex`], [`RwLock`] | a value that one process at a time changes |
//! | [`Once`] | a value that the first process that needs it makes |
//! | [`Semaphore`] | "at most N handlers here at a time" |
//! | [`Table`] | a map of fixed capacity, whose entries can expire |
//! | [`Queue`] | values from many processes to many |
//! | [`Broadcast`] | a message to every connection, or to those of a topic |
//! | [`Jobs`] | work that outlives its connection, done by worker processes |
//! | [`Frozen`] | large state that is loaded once and only read |
//! | [`Select`] | waits for a socket and for these at the same time |
//!
//! # What can be shared
//!
//! Values that are [`Plain`]: numbers, arrays, [`Text`] of a limited length, and structs and enums
//! of these (`#[derive(Clone, Copy, Plain)]`). A value has no pointers, since these mean nothing in
//! another process. For [`Frozen`] it is what the crate [`zerocopy`] can view as bytes.
//!
//! # When a process dies
//!
//! * A value is never half changed: a change counts from one instruction on.
//! * A lock opens when its holder has died, and the next holder is told
//!   ([`MutexGuard::owner_died`]). The supervisor opens it when it reaps the process.
//! * Permits of a semaphore come back. A job is begun once more.
//! * An operation that has returned counts. Of one that was in progress, it is not known.
//!
//! A process that writes beside the library, as one that is taken over can, makes values wrong, and
//! can take a lock for as long as it lives. It cannot end or hold up another process for longer,
//! nor the supervisor: what it writes is read as some value, and nobody follows it as an address.
//! State that must not be forged does not belong here.
//!
//! # What operators see
//!
//! The metrics of the server, `tine status`, and for each connection what it holds or waits for
//! (`tine show`), by the names that the program gave.
//!
//! # Limits
//!
//! State is made in one process, before it runs its server; later, it is an error
//! ([`ErrorKind::TooLate`]). Forkers must not wait: what waits panics in
//! [`Handler::on_start`](../trait.Handler.html). Threads and helpers of a handler use the state as
//! their process does. The state ends with the server. A connection that outlives it
//! (`Server::leave_connections`) and dies leaves its locks shut: the supervisor, which opens the
//! locks of the dead, is gone.

#![forbid(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, reason = "a model has no server, and no select"))]

mod bell;
mod broadcast;
mod cell;
mod copies;
mod error;
mod event;
#[cfg(not(loom))]
mod frozen;
mod gate;
mod jobs;
mod lock;
mod memory;
#[cfg(all(test, loom))]
mod models;
mod mutex;
mod numbers;
mod once;
mod owner;
mod plain;
mod queue;
mod rwlock;
#[cfg(not(loom))]
mod select;
mod semaphore;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod server;
mod show;
mod subscription;
mod suspicion;
mod sync;
mod table;
mod text;
mod turn;

pub use broadcast::{Broadcast, Message};
pub use cell::Cell;
pub use error::{Error, ErrorKind};
#[cfg(not(loom))]
pub use frozen::{Frozen, FrozenWriter, Snapshot};
pub use jobs::{Failure, JobId, JobState, Jobs, JobsFull};
pub use memory::MAX_NAME;
pub use mutex::{Mutex, MutexGuard};
pub use numbers::{Counter, Gauge, Histogram};
pub use once::Once;
pub use plain::Plain;
pub use queue::{Full, Queue};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(loom))]
pub use select::Select;
pub use semaphore::{Permit, Semaphore};
#[doc(hidden)]
pub use show::{Figure, Value};
pub use subscription::Subscription;
pub use table::{Entry, Table, TableFull};
pub use text::{Bytes, Text, TooLong};
pub use tine_derive::Plain;
pub use zerocopy;
