//! The ends of the connections of workers (`--reuse`), which the supervisor does not see: it sees
//! the ends of processes. Each slot has a few records, which its worker writes and the supervisor
//! takes. A worker never waits: an end without room for its record is counted.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use tine_sys::memory::SharedTables;
use tine_sys::process::How;

use super::slots::{waited_from_word, waited_word};
use super::{Board, Entry, SERVED_MOST, SERVED_NOW, SlotPhase};
use crate::lifecycle::outcome::{ExitReport, Outcome};
use crate::log::{ByteCounts, Times, Usage, whole_characters};
use crate::net::peer::Peer;
use crate::net::proxied::{PROXIED_WORDS, Proxied};
use crate::watch::history::EndedConnection;

/// Records of a slot.
const ROOM: usize = 32;

/// So many that wait are taken soon: a supervisor that has to wait for a processor is late.
const SOON: u64 = 8;

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
const MAX_TEXT: usize = (RECORD_WORDS - TEXT) * 8;

const SLOT_WORDS: usize = HEAD_WORDS + ROOM * RECORD_WORDS;

/// The records of all slots.
#[derive(Debug)]
pub(super) struct EndedTable(SharedTables<AtomicU64, [AtomicU64; SLOT_WORDS]>);

/// The end of a connection that a worker has served.
#[derive(Debug)]
pub(crate) struct WorkerEnd<'a> {
    pub(crate) entry: Entry,
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
}

impl Board {
    /// Whether workers leave the ends of their connections here.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Counts a connection that a worker is about to serve, before it is entered.
    pub(crate) fn count_served(&self) {
        let now = self.word(SERVED_NOW).fetch_add(1, Relaxed).wrapping_add(1).cast_signed();
        let most = self.word(SERVED_MOST).load(Relaxed).cast_signed();
        if now > most {
            // A worker that is killed can leave the count too high by one: the slots are exact.
            let exact = self.count(SlotPhase::Serving, None) as u64 + 1;
            self.word(SERVED_MOST).fetch_max(exact.min(now as u64), Relaxed);
        }
    }

    /// Counts the end of a connection of a worker, or of a worker that has exited while it served
    /// one.
    pub(crate) fn count_unserved(&self) {
        self.word(SERVED_NOW).fetch_sub(1, Relaxed);
    }

    /// The most connections that workers have served at a time.
    pub(crate) fn served_most(&self) -> usize {
        self.word(SERVED_MOST).load(Relaxed) as usize
    }

    /// Leaves the end of a connection for the supervisor. Runs in the worker in this slot. True if
    /// the supervisor should take the records soon.
    pub(crate) fn leave_end(&self, slot: usize, end: &WorkerEnd) -> bool {
        let Some(table) = &self.ended else { return false };
        let words = &table.0.second()[slot];
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
        self.mark_changed(slot);
        waiting >= SOON
    }

    /// Takes the records of a slot, the oldest first. Runs in the supervisor.
    pub(crate) fn take_ends(&self, slot: usize, taken: &mut Vec<EndedConnection>) -> LostEnds {
        let Some(table) = &self.ended else { return LostEnds::default() };
        let words = &table.0.second()[slot];
        let written = words[WRITTEN].load(Acquire);
        let mut at = words[TAKEN].load(Relaxed);
        // What a worker has written beyond its room would be read twice.
        let count = written.wrapping_sub(at).min(ROOM as u64);
        for _ in 0..count {
            taken.push(read_record(record(words, at)));
            at = at.wrapping_add(1);
        }
        words[TAKEN].store(written, Release);
        let failures = words[LOST_FAILURES].swap(0, SeqCst);
        LostEnds { ends: words[LOST].swap(0, SeqCst), failures }
    }
}

fn record(words: &[AtomicU64; SLOT_WORDS], number: u64) -> &[AtomicU64] {
    let first = HEAD_WORDS + (number % ROOM as u64) as usize * RECORD_WORDS;
    &words[first..first + RECORD_WORDS]
}

fn write_record(record: &[AtomicU64], end: &WorkerEnd) {
    let WorkerEnd { entry, proxied, pid, exit_code, report, usage } = end;
    let set = |at: usize, value: u64| record[at].store(value, Relaxed);
    let nanoseconds = |time: Duration| time.as_nanos() as u64;
    set(ID, entry.id);
    entry.peer.to_words().into_iter().enumerate().for_each(|(at, word)| set(PEER + at, word));
    Proxied::to_words(*proxied).into_iter().enumerate().for_each(|(at, word)| set(PROXIED + at, word));
    set(START, entry.start);
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
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;
    use crate::log::Waited;

    fn usage() -> Usage {
        let second = Duration::from_secs(1);
        let times = Times {
            first_byte: Some(Duration::from_micros(5)),
            waited: Some(Waited { time: second / 2, limit: "rate" }),
        };
        Usage {
            duration: second,
            bytes: Some(ByteCounts::of_process((3, 4))),
            cpu: second / 8,
            peak_kib: 900,
            times,
        }
    }

    fn leave(board: &Board, id: u64, exit_code: i32, report: &ExitReport, usage: Usage) -> bool {
        let peer = Peer::Tcp("192.0.2.1:5".parse().expect("an address"));
        let entry = Entry { id, peer, start: 1000 + id };
        board.leave_end(1, &WorkerEnd { entry, proxied: None, pid: 77, exit_code, report, usage })
    }

    #[test]
    fn ends_arrive_as_they_were_left() {
        let board = board(2).with_ended().expect("memory");
        let unknown = Usage { bytes: None, times: Times::default(), ..usage() };
        for (exit_code, report, usage) in [
            (0, ExitReport::Done, usage()),
            (0, ExitReport::Reset, unknown),
            (1, ExitReport::Error("größe".into()), usage()),
            (101, ExitReport::Panic(String::new()), unknown),
        ] {
            leave(&board, 9, exit_code, &report, usage);
            let mut taken = Vec::new();
            assert_eq!(board.take_ends(1, &mut taken), LostEnds::default());
            let [end] = &taken[..] else { panic!("{taken:?}") };
            assert_eq!(
                (end.id, end.peer.to_string().as_str(), end.pid, end.start),
                (9, "192.0.2.1:5", 77, 1009)
            );
            assert_eq!(end.outcome, Outcome::new(How::Exited(exit_code), Some(report)));
            assert_eq!((end.usage, end.proxied), (usage, None));
        }
    }

    #[test]
    fn ends_without_room_are_counted() {
        let board = board(2).with_ended().expect("memory");
        let asked: Vec<bool> =
            (0..ROOM as u64).map(|id| leave(&board, id, 0, &ExitReport::Done, usage())).collect();
        assert_eq!(asked.iter().position(|asked| *asked), Some(SOON as usize));
        for id in 0..4 {
            leave(&board, 1000 + id, 1, &ExitReport::Error("a".repeat(500)), usage());
        }
        let mut taken = Vec::new();
        assert_eq!(board.take_ends(1, &mut taken), LostEnds { ends: 4, failures: 4 });
        assert!(taken.iter().map(|end| end.id).eq(0..ROOM as u64), "{taken:?}");
        taken.clear();
        assert_eq!(board.take_ends(1, &mut taken), LostEnds::default());
        leave(&board, 7, 1, &ExitReport::Error("a".repeat(500)), usage());
        board.take_ends(1, &mut taken);
        assert_eq!((taken.len(), taken[0].outcome.to_string().len()), (1, "error ".len() + MAX_TEXT));
        let mut changed = Vec::new();
        board.take_changed(&mut changed);
        assert_eq!(changed, [1]);
    }

    #[test]
    fn a_hostile_record_is_clamped() {
        let board = board(1).with_ended().expect("memory");
        let words = &board.ended.as_ref().expect("a table").0.second()[0];
        words.iter().for_each(|word| word.store(u64::MAX, Relaxed));
        words[TAKEN].store(3, Relaxed);
        let mut taken = Vec::new();
        board.take_ends(0, &mut taken);
        assert_eq!(taken.len(), ROOM);
        assert_eq!(board.take_ends(0, &mut taken), LostEnds::default());
        assert_eq!(taken.len(), ROOM);
    }

    #[test]
    fn the_most_at_a_time_are_counted() {
        let board = board(8);
        let begin = || {
            board.count_served();
            let slot = board.claim(0).expect("free");
            board.begin(slot, Peer::Unix(None));
            slot
        };
        let slots = [begin(), begin(), begin()];
        for slot in slots {
            board.mark_idle(slot);
            board.count_unserved();
        }
        begin();
        assert_eq!(board.served_most(), 3);
        // Two killed workers were not counted out: the slots tell.
        board.count_served();
        board.count_served();
        begin();
        assert_eq!(board.served_most(), 3);
    }
}
