//! State that the processes of a tine server share: `tine::shared`.
//!
//! See the module `shared` of the crate `tine`, which this crate is a part of.

#![forbid(unsafe_code)]

mod cell;
mod copies;
mod error;
mod jobs;
#[cfg(not(loom))]
mod frozen;
mod lock;
mod memory;
mod mutex;
mod numbers;
mod owner;
mod plain;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod server;
mod show;
mod sync;
mod table;
mod text;

pub use cell::Cell;
pub use error::{Error, ErrorKind};
pub use jobs::{Failure, JobId, JobState, Jobs, JobsFull};
#[cfg(not(loom))]
pub use frozen::{Frozen, FrozenWriter, Snapshot};
pub use memory::MAX_NAME;
pub use mutex::{Mutex, MutexGuard};
pub use numbers::{Counter, Gauge, Histogram};
pub use plain::Plain;
#[doc(hidden)]
pub use show::{Figure, Value};
pub use table::{Entry, Table, TableFull};
pub use text::{Bytes, Text, TooLong};
pub use tine_derive::Plain;
pub use zerocopy;
