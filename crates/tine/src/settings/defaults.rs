//! Defaults of a server's settings.

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
