//! The monotonic clock, as shared memory keeps it.

use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock (clock_gettime(2)), in nanoseconds: the same in every process of this
/// machine, which an `Instant` could not carry through shared memory.
#[inline]
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
