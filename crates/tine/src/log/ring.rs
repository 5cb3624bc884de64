//! The last lines of a log in shared memory, for operators. Every process that has a log writes its
//! lines there.
//!
//! A ring of cells. A writer reserves as many as its record needs by one addition to the head, and
//! fills them; there is no lock. A cell has the number of its place since the start, and a check
//! sum of everything in it. So a reader sees whether a cell is complete and the one that it looks
//! for, also if its writer has died in it, or two writers were in it at the same time. Others are
//! left out, and counted by the numbers of the lines.
//!
//! Every process that has the memory can write anything there: it is informational only, as the log
//! itself is.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::SystemTime;

use tine_sys::memory::Shared;

use super::record::encode;
use super::value::FieldValue;

/// The cells of a ring.
const CELLS: u64 = 2048;

// The words of a cell: the number of its place, and 1; the line that it is of; the check sum; a
// part of the record.
const STAMP: usize = 0;
const LINE: usize = 1;
const CHECK: usize = 2;
const RECORD: usize = 3;
const CELL_WORDS: usize = 32;
// The words of the first cell: the head, and the lines that the target of the log has not taken.
const HEAD: usize = 0;
const DROPPED: usize = 1;
/// Bytes of a record in a cell.
const PART: usize = (CELL_WORDS - RECORD) * 8;
/// The cells of the longest record.
const MAX_PARTS: usize = 16;

/// The lower bits of the head count cells, the others lines.
const PLACE_BITS: u32 = 44;
const PLACES: u64 = (1 << PLACE_BITS) - 1;
const LINES: u64 = u64::MAX >> PLACE_BITS;

/// A cell.
pub(crate) type LogCell = [AtomicU64; CELL_WORDS];

/// The last lines of a log. The first cell is the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRing(Shared<LogCell>);

/// The line of a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
struct LineInfo {
    number: u64,
    /// The bytes of its record.
    length: usize,
    /// Which cell of it this is.
    part: usize,
}

/// What is at a place.
enum AtPlace {
    /// The beginning of a line.
    Begin(LineInfo, Vec<u8>),
    /// Another part of one, or a later line.
    Other,
    /// A line that is not complete: it is being written, or its writer has died.
    Incomplete,
}

impl LogRing {
    /// The number of cells of its memory.
    const LENGTH: usize = CELLS as usize + 1;

    /// A ring in a mapping of its own.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new() -> io::Result<LogRing> {
        Shared::new(LogRing::LENGTH).map(LogRing)
    }

    /// The same, which processes forked from this one do not have.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn alone() -> io::Result<LogRing> {
        let ring = LogRing::new()?;
        ring.0.set_in_forks(false)?;
        Ok(ring)
    }

    /// Whether processes forked from this one have the ring.
    pub(crate) fn set_in_forks(self, is_in_forks: bool) {
        // It cannot fail for a mapped region.
        let _ = self.0.set_in_forks(is_in_forks);
    }

    /// Gives up the right to write, for good.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn make_read_only(self) -> io::Result<()> {
        self.0.make_read_only()
    }

    /// Keeps the line of an event.
    pub(super) fn keep(self, time: SystemTime, event: &str, fields: &[(&str, FieldValue)]) {
        self.write(&encode(time, event, fields, MAX_PARTS * PART));
    }

    /// Writes a record.
    fn write(self, record: &[u8]) {
        let (place, number) = self.reserve(record.len().div_ceil(PART) as u64);
        for (part, bytes) in record.chunks(PART).enumerate() {
            let info = LineInfo { number, length: record.len(), part };
            self.write_cell(place + part as u64, info, bytes);
        }
    }

    /// Reserves cells for a line. Returns the place of the first one, and the number of the line.
    fn reserve(self, cells: u64) -> (u64, u64) {
        let head = self.head().fetch_add(1 << PLACE_BITS | cells, Relaxed);
        (head & PLACES, head >> PLACE_BITS)
    }

    fn write_cell(self, place: u64, info: LineInfo, bytes: &[u8]) {
        let cell = self.cell(place);
        cell[STAMP].store(0, Relaxed);
        let mut check = begin_check(place, info);
        for (word, chunk) in cell[RECORD..].iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            let value = u64::from_le_bytes(value);
            word.store(value, Relaxed);
            check = mix(check, value);
        }
        cell[LINE].store(info.to_word(), Relaxed);
        cell[CHECK].store(check, Relaxed);
        cell[STAMP].store(place + 1, Release);
    }

    /// Reads the part of a line at a place, and appends it.
    fn read_cell(self, place: u64, record: &mut Vec<u8>) -> Result<LineInfo, AtPlace> {
        let cell = self.cell(place);
        match cell[STAMP].load(Acquire) {
            stamp if stamp == place + 1 => {}
            stamp if stamp > place => return Err(AtPlace::Other),
            _ => return Err(AtPlace::Incomplete),
        }
        let info = LineInfo::from_word(cell[LINE].load(Relaxed)).ok_or(AtPlace::Incomplete)?;
        let length = (info.length - info.part * PART).min(PART);
        let mut check = begin_check(place, info);
        for word in cell[RECORD..].iter().take(length.div_ceil(8)) {
            let value = word.load(Relaxed);
            check = mix(check, value);
            record.extend_from_slice(&value.to_le_bytes());
        }
        if check != cell[CHECK].load(Relaxed) {
            return Err(AtPlace::Incomplete);
        }
        record.truncate(info.part * PART + length);
        Ok(info)
    }

    /// Reads what is at a place.
    fn read(self, place: u64) -> AtPlace {
        let mut record = Vec::with_capacity(PART);
        let info = match self.read_cell(place, &mut record) {
            Ok(info) if info.part == 0 => info,
            Ok(_) => return AtPlace::Other,
            Err(found) => return found,
        };
        for part in 1..info.parts() {
            match self.read_cell(place + part as u64, &mut record) {
                Ok(next) if next == (LineInfo { part, ..info }) => {}
                Ok(_) | Err(AtPlace::Other) => return AtPlace::Other,
                Err(_) => return AtPlace::Incomplete,
            }
        }
        AtPlace::Begin(info, record)
    }

    fn head(&self) -> &AtomicU64 {
        &self.0[0][HEAD]
    }

    /// Counts a line that the target of the log has not taken.
    pub(super) fn count_dropped(self) {
        self.0[0][DROPPED].fetch_add(1, Relaxed);
    }

    /// The lines that the target of the log has not taken.
    pub(crate) fn dropped(self) -> u64 {
        self.0[0][DROPPED].load(Relaxed)
    }

    fn cell(&self, place: u64) -> &LogCell {
        &self.0[1 + (place % CELLS) as usize]
    }

    /// A reader of the ring, at its oldest line.
    pub(crate) fn reader(self) -> RingReader {
        let head = self.head().load(Relaxed) & PLACES;
        let place = head.saturating_sub(CELLS);
        RingReader { ring: self, place, next_line: (place == 0).then_some(0), lost: 0 }
    }
}

impl LineInfo {
    fn to_word(self) -> u64 {
        self.number << 32 | (self.length as u64) << 8 | self.part as u64
    }

    /// `None` if no line has such a word.
    fn from_word(word: u64) -> Option<LineInfo> {
        let (number, length, part) = (word >> 32, (word >> 8 & 0xff_ffff) as usize, (word & 0xff) as usize);
        let info = LineInfo { number, length, part };
        (length <= MAX_PARTS * PART && part < info.parts()).then_some(info)
    }

    /// The number of its cells.
    fn parts(self) -> usize {
        self.length.div_ceil(PART)
    }
}

fn begin_check(place: u64, info: LineInfo) -> u64 {
    mix(mix(0, place + 1), info.to_word())
}

/// Adds a word to a check sum: that of other words is the same by accident only.
fn mix(check: u64, word: u64) -> u64 {
    // An odd constant without structure: the golden ratio.
    (check.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Reads the lines of a ring one after the other.
#[derive(Debug)]
pub(crate) struct RingReader {
    ring: LogRing,
    place: u64,
    /// The number of the next line; `None` before the first one, if older ones are overwritten.
    next_line: Option<u64>,
    lost: u64,
}

/// What a reader finds next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextLine {
    /// The record of a line.
    Record(Vec<u8>),
    /// A line that is not complete yet.
    Incomplete,
    /// There is none.
    End,
}

impl RingReader {
    /// Takes the next line. Incomplete ones are passed over if `skips`.
    pub(crate) fn next_line(&mut self, skips: bool) -> NextLine {
        // A process that changes the head all the time does not keep a reader here.
        for _ in 0..2 * CELLS {
            let head = self.ring.head().load(Acquire) & PLACES;
            if self.place >= head {
                self.place = head;
                return NextLine::End;
            }
            self.place = self.place.max(head.saturating_sub(CELLS));
            match self.ring.read(self.place) {
                AtPlace::Begin(info, record) => {
                    self.place += info.parts() as u64;
                    self.count(info.number);
                    return NextLine::Record(record);
                }
                AtPlace::Incomplete if !skips => return NextLine::Incomplete,
                AtPlace::Incomplete | AtPlace::Other => self.place += 1,
            }
        }
        NextLine::End
    }

    fn count(&mut self, number: u64) {
        let expected = self.next_line.unwrap_or(number);
        self.lost += number.wrapping_sub(expected) & LINES;
        self.next_line = Some((number + 1) & LINES);
    }

    /// Takes the number of lines that were passed over.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> LogRing {
        LogRing::new().expect("memory")
    }

    fn record(number: u64, length: usize) -> Vec<u8> {
        [&number.to_le_bytes()[..], &vec![number as u8; length]].concat()
    }

    fn all(reader: &mut RingReader) -> Vec<u64> {
        std::iter::from_fn(|| match reader.next_line(true) {
            NextLine::Record(found) => {
                let number = u64::from_le_bytes(found[..8].try_into().expect("8 bytes"));
                assert_eq!(found, record(number, found.len() - 8));
                Some(number)
            }
            _ => None,
        })
        .collect()
    }

    #[test]
    fn the_newest_lines_are_kept() {
        for length in [0, 1, PART - 8, PART - 7, 3 * PART, MAX_PARTS * PART - 8] {
            let ring = ring();
            let mut follower = ring.reader();
            ring.write(&record(0, length));
            assert_eq!(all(&mut follower), [0]);
            assert_eq!(follower.next_line(false), NextLine::End);
            (1..10_000).for_each(|number| ring.write(&record(number, length)));
            let kept = CELLS / (length + 8).div_ceil(PART) as u64;
            let last: Vec<u64> = (10_000 - kept..10_000).collect();
            assert_eq!(all(&mut ring.reader()), last, "{length}");
            assert_eq!(all(&mut follower), last);
            assert_eq!((follower.take_lost(), follower.take_lost()), (9_999 - kept, 0));
        }
    }

    #[test]
    fn incomplete_lines_are_passed_over_and_counted() {
        let ring = ring();
        let mut reader = ring.reader();
        ring.write(&record(1, 300));
        // Its writer has died, or writes.
        let (place, number) = ring.reserve(2);
        let info = LineInfo { number, length: PART + 1, part: 0 };
        ring.write_cell(place, info, &[7; PART]);
        ring.write(&record(3, 0));
        assert_eq!(reader.next_line(false), NextLine::Record(record(1, 300)));
        assert_eq!(reader.next_line(false), NextLine::Incomplete);
        ring.write_cell(place + 1, LineInfo { part: 1, ..info }, &[7]);
        assert_eq!(reader.next_line(false), NextLine::Record(vec![7; PART + 1]));
        // A word of another writer is in it.
        ring.cell(place)[RECORD].store(8, Relaxed);
        let mut reader = ring.reader();
        assert_eq!(all(&mut reader), [1, 3]);
        assert_eq!(reader.take_lost(), 1);
    }

    #[test]
    fn lines_of_many_writers_are_read_whole() {
        const WRITERS: u64 = 4;
        const EACH: u64 = 20_000;
        let ring = ring();
        let mut reader = ring.reader();
        ring.write(&record(u64::MAX, 0));
        let mut found = all(&mut reader);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        for number in 0..EACH {
                            ring.write(&record(writer << 32 | number, (number % 700) as usize));
                        }
                    })
                })
                .collect();
            while !writers.iter().all(|writer| writer.is_finished()) {
                found.extend(all(&mut reader));
            }
        });
        ring.write(&record(u64::MAX, 0));
        found.extend(all(&mut reader));
        assert_eq!(found.len() as u64 + reader.take_lost(), WRITERS * EACH + 2);
        assert_eq!((found.first(), found.last()), (Some(&u64::MAX), Some(&u64::MAX)));
        for writer in 0..WRITERS {
            let numbers = found.iter().filter(|number| **number >> 32 == writer);
            assert!(numbers.is_sorted(), "the lines of one writer are in order");
        }
    }

    #[test]
    fn any_words_can_be_read() {
        let ring = ring();
        ring.write(&record(1, 0));
        let mut reader = ring.reader();
        for word in [0, 1, u64::MAX, 1 << 8, 0xff_ffff << 8, 0xffff << 8 | 3] {
            ring.cell(0)[LINE].store(word, Relaxed);
            assert_eq!(reader.next_line(false), NextLine::Incomplete, "{word:x}");
        }
        for head in [u64::MAX, 0, PLACES, 1 << PLACE_BITS] {
            ring.head().store(head, Relaxed);
            assert_eq!(reader.next_line(true), NextLine::End, "{head:x}");
            assert_eq!(ring.reader().next_line(true), NextLine::End, "{head:x}");
        }
    }
}
