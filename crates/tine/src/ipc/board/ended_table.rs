//! The ends of the connections of workers (`--reuse`), which the supervisor does not see: it sees
//! the ends of processes. Each slot has a few records, which its worker writes and the supervisor
//! takes. A worker never waits: an end without room for its record is counted.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use tine_sys::memory::SharedTables;
use tine_sys::process::How;

use super::waited::{waited_from_word, waited_word};
use crate::lifecycle::outcome::{ExitReport, Outcome};
use crate::log::{ByteCounts, Times, Usage, whole_characters};
use crate::net::peer::Peer;
use crate::net::proxied::{PROXIED_WORDS, Proxied};
use crate::watch::history::EndedConnection;

/// Records of a slot.
pub(super) const ROOM: usize = 32;

/// So many that wait are taken soon: a supervisor that has to wait for a processor is late.
pub(super) const SOON: u64 = 8;

// Words of a slot, before its records.
/// The number of records that its workers have written.
const WRITTEN: usize = 0;
/// The number of those that the supervisor has taken.
const TAKEN: usize = 1;
/// Ends without a record, and those of them that were failures.
const LOST: usize = 2;
const LOST_FAILURES: usize = 3;
const HEAD_WORDS: usize = 4;

// Words of a record.
const ID: usize = 0;
const PEER: usize = 1;
const PROXIED: usize = 4;
const START: usize = PROXIED + PROXIED_WORDS;
const PID: usize = START + 1;
/// Exit code, number of the exit report, length of its text.
const OUTCOME: usize = START + 2;
const DURATION: usize = START + 3;
/// `u64::MAX` in both if the bytes were not counted.
const RECEIVED: usize = START + 4;
const SENT: usize = START + 5;
const CPU: usize = START + 6;
const PEAK_KIB: usize = START + 7;
/// 0 if it is not known.
const FIRST_BYTE: usize = START + 8;
const WAITED: usize = START + 9;
const TEXT: usize = START + 10;
const RECORD_WORDS: usize = 32;
/// The most bytes of a report's text that are kept.
pub(super) const MAX_TEXT: usize = (RECORD_WORDS - TEXT) * 8;

const SLOT_WORDS: usize = HEAD_WORDS + ROOM * RECORD_WORDS;

/// The records of all slots.
#[derive(Debug)]
pub(super) struct EndedTable(SharedTables<AtomicU64, [AtomicU64; SLOT_WORDS]>);

/// The end of a connection that a worker has served.
#[derive(Debug)]
pub(crate) struct WorkerEnd<'a> {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// Monotonic clock, nanoseconds.
    pub(crate) start: u64,
    pub(crate) proxied: Option<&'a Proxied>,
    pub(crate) pid: i32,
    pub(crate) exit_code: i32,
    pub(crate) report: &'a ExitReport,
    pub(crate) usage: Usage,
}

/// Ends that had no room for a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LostEnds {
    pub(crate) ends: u64,
    pub(crate) failures: u64,
}

impl EndedTable {
    pub(super) fn new(slots: usize) -> io::Result<EndedTable> {
        SharedTables::new(0, slots).map(EndedTable)
    }

    pub(super) fn exclude_from_fork(&self) -> io::Result<()> {
        self.0.exclude_from_fork()
    }

    pub(super) fn make_read_only(&self) -> io::Result<()> {
        self.0.make_read_only()
    }

    pub(super) fn unmap(self) -> io::Result<()> {
        self.0.unmap()
    }

    /// Writes a record. Runs in the worker in this slot. True if the supervisor should take the
    /// records soon.
    pub(super) fn leave(&self, slot: usize, end: &WorkerEnd) -> bool {
        let words = &self.0.second()[slot];
        let written = words[WRITTEN].load(Relaxed);
        let waiting = written.wrapping_sub(words[TAKEN].load(Acquire));
        if waiting >= ROOM as u64 {
            let is_failure = Outcome::new(How::Exited(end.exit_code), Some(end.report.clone())).is_failure();
            words[LOST_FAILURES].fetch_add(u64::from(is_failure), Relaxed);
            words[LOST].fetch_add(1, Relaxed);
        } else {
            write_record(record(words, written), end);
            words[WRITTEN].store(written.wrapping_add(1), Release);
        }
        waiting >= SOON
    }

    /// Takes the records of a slot, the oldest first. Runs in the supervisor.
    pub(super) fn take(&self, slot: usize, taken: &mut Vec<EndedConnection>) -> LostEnds {
        let words = &self.0.second()[slot];
        let written = words[WRITTEN].load(Acquire);
        let at = words[TAKEN].load(Relaxed);
        // No worker writes more than there is room for, unless it is not to be trusted any more.
        let count = written.wrapping_sub(at).min(ROOM as u64);
        taken.extend((0..count).map(|number| read_record(record(words, at.wrapping_add(number)))));
        words[TAKEN].store(written, Release);
        let failures = words[LOST_FAILURES].swap(0, SeqCst);
        LostEnds { ends: words[LOST].swap(0, SeqCst), failures }
    }

    /// Fills a slot with a value that no worker writes.
    #[cfg(test)]
    pub(super) fn spoil(&self, slot: usize) {
        self.0.second()[slot].iter().for_each(|word| word.store(u64::MAX, Relaxed));
        self.0.second()[slot][TAKEN].store(3, Relaxed);
    }
}

fn record(words: &[AtomicU64; SLOT_WORDS], number: u64) -> &[AtomicU64] {
    let first = HEAD_WORDS + (number % ROOM as u64) as usize * RECORD_WORDS;
    &words[first..first + RECORD_WORDS]
}

fn write_record(record: &[AtomicU64], end: &WorkerEnd) {
    let WorkerEnd { id, peer, start, proxied, pid, exit_code, report, usage } = end;
    let set = |at: usize, value: u64| record[at].store(value, Relaxed);
    let nanoseconds = |time: Duration| time.as_nanos() as u64;
    set(ID, *id);
    peer.to_words().into_iter().enumerate().for_each(|(at, word)| set(PEER + at, word));
    Proxied::to_words(*proxied).into_iter().enumerate().for_each(|(at, word)| set(PROXIED + at, word));
    set(START, *start);
    set(PID, *pid as u64);
    let (number, text) = report.to_parts();
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    let text = &text[..whole_characters(text)];
    set(OUTCOME, *exit_code as u64 & 0xff | u64::from(number) << 8 | (text.len() as u64) << 16);
    set(DURATION, nanoseconds(usage.duration));
    set(RECEIVED, usage.bytes.map_or(u64::MAX, |bytes| bytes.received));
    set(SENT, usage.bytes.map_or(u64::MAX, |bytes| bytes.sent));
    set(CPU, nanoseconds(usage.cpu));
    set(PEAK_KIB, usage.peak_kib);
    set(FIRST_BYTE, usage.times.first_byte.map_or(0, |time| nanoseconds(time).max(1)));
    set(WAITED, waited_word(usage.times.waited));
    for (at, chunk) in text.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        set(TEXT + at, u64::from_le_bytes(word));
    }
}

fn read_record(record: &[AtomicU64]) -> EndedConnection {
    let get = |at: usize| record[at].load(Relaxed);
    let time = |at: usize| Duration::from_nanos(get(at));
    let outcome = get(OUTCOME);
    let length = ((outcome >> 16) as usize).min(MAX_TEXT);
    let mut text: Vec<u8> = (TEXT..TEXT + length.div_ceil(8)).flat_map(|at| get(at).to_le_bytes()).collect();
    text.truncate(length);
    let text = String::from_utf8_lossy(&text).into_owned();
    let report = ExitReport::from_parts((outcome >> 8) as u8, text);
    let first_byte = get(FIRST_BYTE);
    let times = Times {
        first_byte: (first_byte > 0).then(|| Duration::from_nanos(first_byte)),
        waited: waited_from_word(get(WAITED)),
    };
    let is_counted = get(RECEIVED) != u64::MAX;
    EndedConnection {
        id: get(ID),
        peer: Peer::from_words([PEER, PEER + 1, PEER + 2].map(get)),
        proxied: Proxied::from_words(std::array::from_fn(|at| get(PROXIED + at))),
        pid: get(PID) as i32,
        start: get(START),
        outcome: Outcome::new(How::Exited((outcome & 0xff) as i32), report),
        usage: Usage {
            duration: time(DURATION),
            bytes: is_counted.then(|| ByteCounts::of_process((get(RECEIVED), get(SENT)))),
            cpu: time(CPU),
            peak_kib: get(PEAK_KIB),
            times,
            // Workers are forked.
            start_kind: None,
        },
    }
}
