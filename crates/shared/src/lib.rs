//! State that the processes of a tine server share: `tine::shared`.
//!
//! See the module `shared` of the crate `tine`, which this crate is a part of.

#![forbid(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, reason = "a model has no server, and no select"))]

mod bell;
mod broadcast;
mod cell;
mod copies;
mod error;
mod event;
mod gate;
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
mod sync;
mod text;
mod turn;

pub use broadcast::{Broadcast, Message};
pub use cell::Cell;
pub use error::{Error, ErrorKind};
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
pub use text::{Bytes, Text, TooLong};
pub use tine_derive::Plain;
