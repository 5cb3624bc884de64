//! The clock of a run.

use crate::units::SECOND;

/// Returns the time of the monotonic clock of this machine, in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
