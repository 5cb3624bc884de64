//! What forkers count for monitoring: how long the start of a process takes, forks that have
//! failed, waits for a slot.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Board, TIMING_WORDS};
use crate::watch::histogram::{Histogram, SECONDS, bucket};

const BUCKETS: usize = SECONDS.len() + 1;
const START_SUM: usize = BUCKETS;
const FORK_FAILURES: usize = BUCKETS + 1;
const SLOT_WAITS: usize = BUCKETS + 2;

const _: () = assert!(SLOT_WAITS + 1 == TIMING_WORDS);

impl Board {
    /// Counts the time from an accept until the process of the connection was started. Runs in a
    /// forker.
    #[inline]
    pub(crate) fn count_start(&self, time: Duration) {
        let at = self.timings_at();
        self.word(at + bucket(SECONDS, time.as_secs_f64())).fetch_add(1, Relaxed);
        self.word(at + START_SUM).fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// The times that were counted.
    pub(crate) fn starts(&self) -> Histogram {
        let at = self.timings_at();
        let counts = (0..BUCKETS).map(|bucket| self.word(at + bucket).load(Relaxed)).collect();
        let sum = Duration::from_nanos(self.word(at + START_SUM).load(Relaxed));
        Histogram::of_counts(SECONDS, counts, sum.as_secs_f64())
    }

    /// Counts a process that could not be created.
    pub(crate) fn count_fork_failure(&self) {
        self.word(self.timings_at() + FORK_FAILURES).fetch_add(1, Relaxed);
    }

    /// The processes that could not be created.
    pub(crate) fn fork_failures(&self) -> u64 {
        self.word(self.timings_at() + FORK_FAILURES).load(Relaxed)
    }

    /// Counts that a forker has found no free slot, and waits for one.
    pub(crate) fn count_slot_wait(&self) {
        self.word(self.timings_at() + SLOT_WAITS).fetch_add(1, Relaxed);
    }

    /// How often a forker has waited for a slot.
    pub(crate) fn slot_waits(&self) -> u64 {
        self.word(self.timings_at() + SLOT_WAITS).load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;

    #[test]
    fn starts_are_counted_beside_everything_else() {
        let board = board(70);
        board.count_start(Duration::from_micros(60));
        board.count_start(Duration::from_secs(2));
        board.count_fork_failure();
        (0..3).for_each(|_| board.count_slot_wait());
        let json = board.starts().to_json();
        assert_eq!((&json["counts"][3], &json["counts"][16]), (&1.into(), &1.into()), "{json}");
        assert_eq!(json["sum"], 2.00006);
        assert_eq!((board.fork_failures(), board.slot_waits()), (1, 3));
        assert!(board.claim(0).is_some() && board.rejected_total() == 0);
        assert_eq!(board.bans_at() + crate::admission::access::bans::BAN_WORDS, board.tables.first().len());
    }
}
