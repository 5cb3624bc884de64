//! What a supervisor remembers for operators: the connections that have ended, the most at a time,
//! and the rates of the last minutes. No system call here.
//!
//! It is ordinary memory of the supervisor: a control process is forked for each request, and so
//! has a copy of it.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::metrics::Metrics;
use crate::lifecycle::outcome::Outcome;
use crate::log::Usage;
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndedConnection {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    pub(crate) proxied: Option<Proxied>,
    pub(crate) pid: i32,
    /// When its process or turn began: monotonic clock, nanoseconds.
    pub(crate) start: u64,
    pub(crate) outcome: Outcome,
    pub(crate) usage: Usage,
}

/// The newest of the connections that have ended, up to a number of them.
#[derive(Debug)]
pub(crate) struct History {
    capacity: usize,
    ended: VecDeque<EndedConnection>,
    /// Connections that have ended, and those of them that did not end as usual.
    pub(crate) ended_total: u64,
    pub(crate) failed_total: u64,
    /// Connections of workers that have ended without a record.
    pub(crate) unrecorded_total: u64,
    /// The most connections at a time.
    pub(crate) peak: usize,
    pub(crate) rates: RecentRates,
    /// 1 for the first process of the server, one more for each that has replaced another.
    pub(crate) generation: u64,
    /// For monitoring.
    pub(crate) metrics: Metrics,
    /// When the server began to serve: monotonic clock, nanoseconds.
    pub(crate) started: u64,
    /// The same time as a date. Made once: made anew from the age, it would differ a little each
    /// time, and monitoring would take that for a restart.
    pub(crate) start_date: SystemTime,
}

impl History {
    /// An empty history of at most this many connections.
    pub(crate) fn new(capacity: usize) -> History {
        let (ended, rates) = (VecDeque::new(), RecentRates::default());
        let started = crate::system::clock::now();
        History {
            capacity,
            ended,
            ended_total: 0,
            failed_total: 0,
            unrecorded_total: 0,
            peak: 0,
            rates,
            generation: 1,
            metrics: Metrics::default(),
            started,
            start_date: SystemTime::now(),
        }
    }

    /// Takes over the start of an older generation, if it is earlier.
    pub(crate) fn take_start(&mut self, started: u64) {
        let earlier = Duration::from_nanos(self.started.saturating_sub(started));
        self.started = self.started.min(started);
        self.start_date = self.start_date.checked_sub(earlier).unwrap_or(self.start_date);
    }

    /// Takes over records of an older generation, the oldest first.
    pub(crate) fn take_over(&mut self, records: Vec<EndedConnection>) {
        let surplus = records.len().saturating_sub(self.capacity);
        self.ended = records.into_iter().skip(surplus).collect();
    }

    /// Records a number of connections at a time.
    pub(crate) fn record_count(&mut self, connections: usize) {
        self.peak = self.peak.max(connections);
    }

    /// Records a connection that has ended; the oldest makes room for it.
    pub(crate) fn record_end(&mut self, connection: EndedConnection) {
        self.metrics.record(connection.id, &connection.outcome, &connection.usage, SystemTime::now());
        self.ended_total += 1;
        self.failed_total += u64::from(connection.outcome.is_failure());
        if self.capacity == 0 {
            return;
        }
        if self.ended.len() == self.capacity {
            self.ended.pop_front();
        }
        self.ended.push_back(connection);
    }

    /// Whether there is a record of a connection.
    pub(crate) fn has_record(&self, id: u64) -> bool {
        self.newest_first().any(|connection| connection.id == id)
    }

    /// Counts connections that have ended without a record.
    pub(crate) fn count_unrecorded(&mut self, ends: u64, failures: u64) {
        self.metrics.count_unrecorded(ends);
        self.ended_total += ends;
        self.failed_total += failures;
        self.unrecorded_total += ends;
    }

    /// The connections that have ended, the oldest first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = &EndedConnection> {
        self.ended.iter()
    }

    /// The connections that have ended, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &EndedConnection> {
        self.ended.iter().rev()
    }
}

/// Totals at a second in the past.
#[derive(Clone, Copy, Debug)]
struct Sample {
    second: u64,
    totals: Totals,
}

/// How many clients were accepted and rejected since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
}

/// The longest time that a rate is about.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Totals at the seconds in which they changed, for the last fifteen minutes.
#[derive(Debug, Default)]
pub(crate) struct RecentRates {
    samples: VecDeque<Sample>,
}

impl RecentRates {
    /// Notes the totals at a time since the start. Called whenever the supervisor is awake: between
    /// two calls they are taken to have changed at the second.
    pub(crate) fn note(&mut self, at: Duration, totals: Totals) {
        let second = at.as_secs();
        match self.samples.back_mut() {
            Some(last) if last.totals == totals => return,
            Some(last) if last.second == second => last.totals = totals,
            _ => self.samples.push_back(Sample { second, totals }),
        }
        // One sample older than the longest time stays: it has the totals at its beginning.
        let oldest = second.saturating_sub(LONGEST.as_secs());
        while self.samples.get(1).is_some_and(|next| next.second <= oldest) {
            self.samples.pop_front();
        }
    }

    /// How many clients were accepted and rejected in the `window` before a time since the start.
    pub(crate) fn within(&self, at: Duration, window: Duration) -> Totals {
        let now = self.samples.back().map(|last| last.totals).unwrap_or_default();
        let Some(begin) = at.as_secs().checked_sub(window.as_secs()) else { return now };
        let before = self.samples.iter().rev().find(|sample| sample.second <= begin);
        let before = before.map(|sample| sample.totals).unwrap_or_default();
        Totals { accepted: now.accepted - before.accepted, rejected: now.rejected - before.rejected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Times;

    fn ended(id: u64, outcome: Outcome) -> EndedConnection {
        let (none, times) = (Duration::ZERO, Times::default());
        let usage = Usage { duration: none, bytes: None, cpu: none, peak_kib: 0, times, start_kind: None };
        EndedConnection { id, peer: Peer::Unix(None), proxied: None, pid: 1, start: 0, outcome, usage }
    }

    #[test]
    fn the_oldest_records_are_forgotten() {
        for (capacity, kept) in [(0, vec![]), (1, vec![4]), (3, vec![4, 3, 2]), (9, vec![4, 3, 2, 1])] {
            let mut history = History::new(capacity);
            for id in 1..=4 {
                history.record_end(ended(id, Outcome::Exit(i32::from(id == 2))));
            }
            let ids: Vec<u64> = history.newest_first().map(|connection| connection.id).collect();
            assert_eq!(ids, kept);
            history.count_unrecorded(3, 2);
            assert_eq!((history.ended_total, history.failed_total, history.unrecorded_total), (7, 3, 3));
        }
    }

    #[test]
    fn the_start_is_that_of_the_oldest_generation() {
        let mut history = History::new(0);
        let (started, date) = (history.started, history.start_date);
        history.take_start(started + 5);
        assert_eq!((history.started, history.start_date), (started, date));
        history.take_start(started - 1_000);
        assert_eq!(date.duration_since(history.start_date).ok(), Some(Duration::from_nanos(1_000)));
        assert_eq!(history.started, started - 1_000);
    }

    #[test]
    fn rates_are_differences_of_totals() {
        let mut rates = RecentRates::default();
        let second = Duration::from_secs;
        for (at, accepted, rejected) in [(1, 10, 0), (1, 12, 1), (50, 100, 1), (70, 100, 1), (119, 130, 4)] {
            rates.note(second(at), Totals { accepted, rejected });
        }
        for (at, window, accepted, rejected) in [
            (119, 60, 30, 3),
            (119, 900, 130, 4),
            // In the second of a sample, what it counted is before.
            (110, 60, 30, 3),
            (200, 60, 0, 0),
            (178, 60, 30, 3),
        ] {
            let found = rates.within(second(at), second(window));
            assert_eq!(found, Totals { accepted, rejected }, "{window} s before {at}");
        }
    }

    #[test]
    fn samples_beyond_the_longest_window_are_dropped() {
        let mut rates = RecentRates::default();
        for at in 0..3000 {
            rates.note(Duration::from_secs(at), Totals { accepted: at, rejected: 0 });
        }
        assert!(rates.samples.len() <= 902, "{}", rates.samples.len());
        let found = rates.within(Duration::from_secs(2999), LONGEST);
        assert_eq!(found.accepted, 900);
    }
}
