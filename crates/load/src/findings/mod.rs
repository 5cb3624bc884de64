//! What a worker has found out: it travels as JSON, and adds up.

pub mod counters;
pub mod machine;
pub mod record;
pub mod state;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::findings::record::{Record, Records};
use crate::findings::state::{Ledger, State};
use crate::plan::pattern::Fault;

/// How many wrong bytes are told of in detail.
const DETAILS: usize = 10;

/// The findings of one worker, or of several together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Connections: how many were planned, and how they ended.
    pub connections: Ledger,
    /// What the server did on connections that are kept: exchanges begun, and how they ended.
    pub exchanges: Exchanges,
    /// Durations of what was begun after the warm-up.
    pub records: Records,
    /// How old the exchanges were that were in flight at the stop.
    pub ages: Record,
    /// What was done in each second since the start.
    pub seconds: Vec<Second>,
    /// Bytes in all.
    pub bytes: Bytes,
    /// The first few that were wrong.
    pub faults: Vec<Found>,
    /// Errors of the system: where, what it said, how often.
    pub errors: BTreeMap<String, u64>,
    /// Most connections that were open at a time.
    pub most_open: u64,
    /// Arrivals that waited for a free connection.
    pub waited: u64,
    /// Connections that took more than 900 ms: the kernel tried again, as a queue was full or a packet lost.
    pub slow_connects: u64,
    /// What was done in the measured time.
    pub measured: u64,
    /// Bytes in the measured time, to a twentieth of a second.
    pub measured_bytes: Bytes,
    /// When the last was done, in nanoseconds from the start.
    pub last_done_ns: u64,
    /// What this side used.
    pub usage: Usage,
}

/// Exchanges begun, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanges {
    /// How many were planned: those begun, and those that should have been.
    pub planned: u64,
    /// Answered in full.
    pub done: u64,
    /// Not answered, or wrongly; their connections ended in an error.
    pub failed: u64,
    /// Cut off as planned.
    pub cut: u64,
    /// Not answered yet at the stop.
    pub in_flight: u64,
    /// Not begun.
    pub unstarted: u64,
}

impl Exchanges {
    /// Whether as many ended as were planned.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.planned == self.done + self.failed + self.cut + self.in_flight + self.unstarted
    }
}

/// Bytes that went and came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// To the server.
    pub sent: u64,
    /// From the server.
    pub received: u64,
}

/// A second of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Exchanges (or connections, where they are what counts) that were done.
    pub done: u64,
    /// Connections that ended in an error.
    pub errors: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
    /// The longest exchange that was done, in nanoseconds.
    pub longest_ns: u64,
}

/// Wrong bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The number of the connection, from 0.
    pub connection: u64,
    /// Where in what came on it the first wrong byte is.
    pub offset: u64,
    /// What happened to it.
    pub fault: Fault,
    /// What should have come there: the first bytes, in hexadecimal.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// What this side used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in nanoseconds. On loopback, some of it is the server's side of the network.
    pub cpu_ns: u64,
    /// Greatest memory of a process, in KiB.
    pub memory_kib: u64,
}

impl Part {
    /// Counts an error of the system.
    pub fn error(&mut self, state: State, what: &str) {
        *self.errors.entry(format!("{state}: {what}")).or_default() += 1;
    }

    /// Keeps wrong bytes, if there are not enough of them yet.
    pub fn found(&mut self, found: Found) {
        if self.faults.len() < DETAILS {
            self.faults.push(found);
        }
    }

    /// The second in which this moment lies, counted from the start.
    pub fn second(&mut self, nanoseconds: u64) -> &mut Second {
        let at = (nanoseconds / crate::plan::SECOND) as usize;
        if self.seconds.len() <= at {
            self.seconds.resize(at + 1, Second::default());
        }
        &mut self.seconds[at]
    }

    /// Adds another's findings.
    pub fn merge(&mut self, other: &Part) {
        self.connections.merge(&other.connections);
        let (mine, its) = (&mut self.exchanges, other.exchanges);
        mine.planned += its.planned;
        mine.done += its.done;
        mine.failed += its.failed;
        mine.cut += its.cut;
        mine.in_flight += its.in_flight;
        mine.unstarted += its.unstarted;
        self.records.merge(&other.records);
        self.ages.merge(&other.ages);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (mine, its) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.done += its.done;
            mine.errors += its.errors;
            mine.sent += its.sent;
            mine.received += its.received;
            mine.longest_ns = mine.longest_ns.max(its.longest_ns);
        }
        self.bytes.sent += other.bytes.sent;
        self.bytes.received += other.bytes.received;
        other.faults.iter().for_each(|found| self.found(found.clone()));
        for (what, number) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += number;
        }
        self.most_open += other.most_open;
        self.waited += other.waited;
        self.slow_connects += other.slow_connects;
        self.measured += other.measured;
        self.measured_bytes.sent += other.measured_bytes.sent;
        self.measured_bytes.received += other.measured_bytes.received;
        self.last_done_ns = self.last_done_ns.max(other.last_done_ns);
        self.usage.cpu_ns += other.usage.cpu_ns;
        self.usage.memory_kib = self.usage.memory_kib.max(other.usage.memory_kib);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_add_up() {
        let mut one = Part { most_open: 3, waited: 1, ..Part::default() };
        one.connections.planned = 2;
        one.connections.count(State::Ok, 2);
        one.exchanges = Exchanges { planned: 7, done: 5, unstarted: 2, ..Exchanges::default() };
        one.second(2_500_000_000).done = 5;
        one.error(State::Refused, "connection refused");
        let mut sum = Part::default();
        sum.second(0).longest_ns = 9;
        sum.merge(&one);
        sum.merge(&one);
        assert!(sum.connections.adds_up() && sum.exchanges.adds_up());
        assert_eq!(sum.seconds.iter().map(|second| second.done).collect::<Vec<_>>(), [0, 0, 10]);
        assert_eq!((sum.seconds[0].longest_ns, sum.most_open, sum.waited), (9, 6, 2));
        assert_eq!(sum.errors["refused: connection refused"], 2);
        let again: Part = serde_json::from_str(&serde_json::to_string(&sum).expect("text")).expect("a part");
        assert_eq!((again.records, again.ages, again.seconds), (sum.records, sum.ages, sum.seconds));
    }
}
