//! Findings: the data that workers measure. Those of one worker are sent to the coordinator as
//! JSON, those of several add up.

pub mod agents;
pub mod corruption;
pub mod counters;
pub mod machine;
pub mod measurement;
pub mod record;
pub mod state;
pub mod summary;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::findings::corruption::Corruption;
use crate::findings::record::{Record, Records};
use crate::findings::state::{Ledger, State};
use crate::units::SECOND;

/// Number of corruptions that are kept with their bytes.
const DETAILS: usize = 10;

/// The findings of one worker, or of several together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Connections: how many were planned, and in which state each ended.
    pub connections: Ledger,
    /// Exchanges: how many were planned, and how each ended.
    pub exchanges: Exchanges,
    /// Durations of connections and exchanges that began after the warm-up.
    pub records: Records,
    /// Ages of the connections and exchanges in flight at the stop.
    pub ages: Record,
    /// Counts for each second since the start.
    pub seconds: Vec<Second>,
    /// Bytes of the whole run.
    pub bytes: Bytes,
    /// The first few corruptions.
    pub faults: Vec<WrongBytes>,
    /// System errors, as "state: text", and the number of each.
    pub errors: BTreeMap<String, u64>,
    /// Maximum number of connections open at the same time.
    pub most_open: u64,
    /// Greatest time from the planned start of the run to the first turn of a worker's loop, in
    /// nanoseconds. `None` if no worker has reached the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_late_ns: Option<u64>,
    /// Arrivals that waited for a free connection.
    pub waited: u64,
    /// Connections that took more than 900 ms to make: the kernel retried, because a queue was full
    /// or a packet was lost.
    pub slow_connects: u64,
    /// Exchanges (or connections, in modes that count those) done in the measured time.
    pub measured: u64,
    /// Bytes in the measured time, to a twentieth of a second.
    pub measured_bytes: Bytes,
    /// Time of the last exchange that was done, in nanoseconds since the start.
    pub last_done_ns: u64,
    /// Resources that the client used.
    pub usage: Usage,
}

/// Numbers of exchanges, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanges {
    /// Exchanges planned: those begun, and those due but not begun.
    pub planned: u64,
    /// Exchanges with a complete and correct reply.
    pub done: u64,
    /// Exchanges without a reply or with a wrong one; their connections ended in an error.
    pub failed: u64,
    /// Exchanges cut off as planned.
    pub cut: u64,
    /// Exchanges without a complete reply at the stop.
    pub in_flight: u64,
    /// Exchanges not begun at the stop.
    pub unstarted: u64,
}

impl Exchanges {
    /// Whether the exchanges that ended add up to those planned.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.planned == self.done + self.failed + self.cut + self.in_flight + self.unstarted
    }
}

/// Numbers of bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes to the server.
    pub sent: u64,
    /// Bytes from the server.
    pub received: u64,
}

/// Counts for one second of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Exchanges (or connections, in modes that count those) done.
    pub done: u64,
    /// Connections that ended in an error.
    pub errors: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Longest exchange done, in nanoseconds.
    pub longest_ns: u64,
}

/// Wrong bytes of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongBytes {
    /// The number of the connection, from 0.
    pub connection: u64,
    /// Offset of the first wrong byte in the received stream.
    pub offset: u64,
    /// What happened to the bytes.
    pub fault: Corruption,
    /// The first bytes expected, in hexadecimal.
    pub expected: String,
    /// The first bytes received, in hexadecimal.
    pub got: String,
}

/// Resources that the client used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in nanoseconds. On loopback, part of it is the server's half of the network.
    pub cpu_ns: u64,
    /// Peak memory of a process, in KiB.
    pub memory_kib: u64,
}

impl Findings {
    /// Counts a system error.
    pub fn count_error(&mut self, state: State, text: &str) {
        *self.errors.entry(format!("{state}: {text}")).or_default() += 1;
    }

    /// Keeps wrong bytes, unless there are enough already.
    pub fn keep(&mut self, wrong: WrongBytes) {
        if self.faults.len() < DETAILS {
            self.faults.push(wrong);
        }
    }

    /// Returns the counts of the second that contains a time, in nanoseconds since the start.
    pub fn second(&mut self, nanoseconds: u64) -> &mut Second {
        let at = (nanoseconds / SECOND) as usize;
        if self.seconds.len() <= at {
            self.seconds.resize(at + 1, Second::default());
        }
        &mut self.seconds[at]
    }

    /// Adds other findings to these.
    pub fn merge(&mut self, other: &Findings) {
        self.connections.merge(&other.connections);
        self.exchanges.merge(&other.exchanges);
        self.records.merge(&other.records);
        self.ages.merge(&other.ages);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (second, more) in self.seconds.iter_mut().zip(&other.seconds) {
            second.merge(more);
        }
        self.bytes.merge(other.bytes);
        other.faults.iter().for_each(|wrong| self.keep(wrong.clone()));
        for (text, number) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += number;
        }
        self.most_open += other.most_open;
        self.start_late_ns = self.start_late_ns.max(other.start_late_ns);
        self.waited += other.waited;
        self.slow_connects += other.slow_connects;
        self.measured += other.measured;
        self.measured_bytes.merge(other.measured_bytes);
        self.last_done_ns = self.last_done_ns.max(other.last_done_ns);
        self.usage.cpu_ns += other.usage.cpu_ns;
        self.usage.memory_kib = self.usage.memory_kib.max(other.usage.memory_kib);
    }
}

impl Exchanges {
    fn merge(&mut self, other: &Exchanges) {
        self.planned += other.planned;
        self.done += other.done;
        self.failed += other.failed;
        self.cut += other.cut;
        self.in_flight += other.in_flight;
        self.unstarted += other.unstarted;
    }
}

impl Second {
    fn merge(&mut self, other: &Second) {
        self.done += other.done;
        self.errors += other.errors;
        self.sent += other.sent;
        self.received += other.received;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }
}

impl Bytes {
    /// Adds other numbers to these.
    pub fn merge(&mut self, other: Bytes) {
        self.sent += other.sent;
        self.received += other.received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_findings_add_up() {
        let mut one = Findings { most_open: 3, waited: 1, ..Findings::default() };
        one.connections.planned = 2;
        one.connections.count(State::Ok, 2);
        one.exchanges = Exchanges { planned: 7, done: 5, unstarted: 2, ..Exchanges::default() };
        one.second(2_500_000_000).done = 5;
        one.count_error(State::Refused, "connection refused");
        let mut sum = Findings::default();
        sum.second(0).longest_ns = 9;
        sum.merge(&one);
        sum.merge(&one);
        assert!(sum.connections.adds_up() && sum.exchanges.adds_up());
        assert_eq!(sum.seconds.iter().map(|second| second.done).collect::<Vec<_>>(), [0, 0, 10]);
        assert_eq!((sum.seconds[0].longest_ns, sum.most_open, sum.waited), (9, 6, 2));
        assert_eq!(sum.errors["refused: connection refused"], 2);
        let text = serde_json::to_string(&sum).expect("text");
        let again: Findings = serde_json::from_str(&text).expect("findings");
        assert_eq!((again.records, again.ages, again.seconds), (sum.records, sum.ages, sum.seconds));
    }
}
