//! When a connection has to end, as its handler has said: pure state.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::lifecycle::outcome::PassedDeadline;

/// The deadlines of a connection. Times are of the monotonic clock, in nanoseconds; 0 stands for
/// none. Several threads may read and write the connection.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Time without a byte in either direction.
    idle: AtomicU64,
    /// When the last byte was read or written.
    last: AtomicU64,
    /// The end of the connection.
    end: AtomicU64,
}

impl Deadlines {
    pub(super) fn set_idle(&self, time: Option<Duration>, now: u64) {
        self.last.store(now, Relaxed);
        self.idle.store(time.map_or(0, nanoseconds), Relaxed);
    }

    pub(super) fn set_end(&self, end: Option<u64>) {
        self.end.store(end.map_or(0, |end| end.max(1)), Relaxed);
    }

    pub(super) fn are_any(&self) -> bool {
        (self.idle.load(Relaxed), self.end.load(Relaxed)) != (0, 0)
    }

    /// Notes that bytes were read or written.
    pub(super) fn note_bytes(&self, now: u64) {
        self.last.fetch_max(now, Relaxed);
    }

    /// Whether the connection may still read and write at all.
    pub(super) fn check_end(&self, now: u64) -> Result<(), PassedDeadline> {
        let end = self.end.load(Relaxed);
        if end != 0 && end <= now { Err(PassedDeadline::Lifetime) } else { Ok(()) }
    }

    /// How long a read or write that finds the socket not ready may wait, at most; the error if a
    /// deadline has passed. The time can grow meanwhile: another thread may write.
    pub(super) fn left(&self, now: u64) -> Result<Option<Duration>, PassedDeadline> {
        self.check_end(now)?;
        let (idle, end) = (self.idle.load(Relaxed), self.end.load(Relaxed));
        let idle_end = self.last.load(Relaxed).saturating_add(idle);
        if idle != 0 && idle_end <= now {
            return Err(PassedDeadline::Idle);
        }
        let ends = [(idle != 0).then_some(idle_end), (end != 0).then_some(end)];
        Ok(ends.into_iter().flatten().min().map(|end| Duration::from_nanos(end - now)))
    }
}

/// At least 1, which is not none.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_counts_and_bytes_move_that_of_idleness() {
        let deadlines = Deadlines::default();
        assert!(!deadlines.are_any());
        assert_eq!(deadlines.left(50), Ok(None));
        deadlines.set_idle(Some(Duration::from_nanos(10)), 100);
        assert!(deadlines.are_any());
        deadlines.set_end(Some(125));
        let left = |now| deadlines.left(now).map(|left| left.map(|left| left.as_nanos()));
        assert_eq!(left(100), Ok(Some(10)));
        assert_eq!(left(109), Ok(Some(1)));
        assert_eq!(left(110), Err(PassedDeadline::Idle));
        deadlines.note_bytes(109);
        deadlines.note_bytes(105);
        assert_eq!(left(110), Ok(Some(9)));
        deadlines.note_bytes(120);
        assert_eq!(left(120), Ok(Some(5)));
        assert_eq!(deadlines.check_end(124), Ok(()));
        assert_eq!(left(125), Err(PassedDeadline::Lifetime));
        deadlines.set_end(None);
        deadlines.set_idle(None, 200);
        assert_eq!(left(u64::MAX), Ok(None));
    }

    #[test]
    fn no_time_is_so_long_or_short_that_it_is_none() {
        let deadlines = Deadlines::default();
        deadlines.set_idle(Some(Duration::MAX), 5);
        assert!(deadlines.left(7).is_ok_and(|left| left.is_some()));
        deadlines.set_idle(Some(Duration::ZERO), 5);
        assert_eq!(deadlines.left(6), Err(PassedDeadline::Idle));
        deadlines.set_end(Some(0));
        assert_eq!(deadlines.check_end(1), Err(PassedDeadline::Lifetime));
    }
}
