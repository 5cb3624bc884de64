//! Statistics of connections, in shared memory that every connection process can write. They are
//! informational only; no decision depends on them.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tine_sys::fault::{self, FaultWords};
use tine_sys::memory::Shared;

use crate::lifecycle::crash::{CrashNote, FaultNote, MAX_PLACE};
use crate::lifecycle::outcome::ExitReport;
use crate::log::whole_characters;

// The words of a slot: bytes in, bytes out, the exit report, the time of the client's first byte,
// the text of the report with the place of a panic behind it. A process that faults has no report:
// the note of the fault has its place.
const BYTES_IN: usize = 0;
const BYTES_OUT: usize = 1;
const REPORT: usize = 2;
const FIRST_BYTE: usize = 3;
const TEXT: usize = 4;
const STATS_WORDS: usize = 32;
/// The maximum length of a report's text in bytes; longer ones are cut.
const MAX_TEXT: usize = (STATS_WORDS - TEXT) * 8;
/// Words of the note of a fault, at the beginning of the text.
const FAULT_WORDS: usize = 3;
/// Set in `BYTES_IN` if the counts are incomplete: the handler took the descriptor.
const NOT_COUNTED: u64 = 1 << 63;

/// The statistics of all connections. A connection process can write those of others, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnStats(Shared<[AtomicU64; STATS_WORDS]>);

impl ConnStats {
    /// Maps zeroed statistics for a number of slots.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(slots: usize) -> io::Result<ConnStats> {
        Shared::new(slots).map(ConnStats)
    }

    /// Gives up the right to write, for good.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn make_read_only(self) -> io::Result<()> {
        self.0.make_read_only()
    }

    /// Clears a slot for its next connection.
    pub(crate) fn clear(self, slot: usize) {
        for at in [BYTES_IN, BYTES_OUT, REPORT, FIRST_BYTE, TEXT] {
            self.0[slot][at].store(0, Relaxed);
        }
    }

    /// Counts bytes received from the client. Runs in the connection process.
    pub(crate) fn received(self, slot: usize, bytes: usize) {
        self.0[slot][BYTES_IN].fetch_add(bytes as u64, Relaxed);
    }

    /// Notes when the first byte of the client was read: monotonic clock, nanoseconds. Runs in the
    /// connection process.
    pub(crate) fn note_first_byte(self, slot: usize, at: u64) {
        self.0[slot][FIRST_BYTE].store(at, Relaxed);
    }

    /// The time from the start of a connection to the first byte of its client, if one was noted
    /// that can be true.
    pub(crate) fn first_byte(self, slot: usize, start: u64, now: u64) -> Option<Duration> {
        let at = self.0[slot][FIRST_BYTE].load(Relaxed);
        (start..=now).contains(&at).then(|| Duration::from_nanos(at - start))
    }

    /// Counts bytes sent to the client. Runs in the connection process.
    pub(crate) fn sent(self, slot: usize, bytes: usize) {
        self.0[slot][BYTES_OUT].fetch_add(bytes as u64, Relaxed);
    }

    /// Marks the counts of a connection as incomplete.
    pub(crate) fn stop_counting(self, slot: usize) {
        self.0[slot][BYTES_IN].fetch_or(NOT_COUNTED, Relaxed);
    }

    /// Bytes in and out; `None` if the counts are incomplete.
    pub(crate) fn bytes(self, slot: usize) -> Option<(u64, u64)> {
        let bytes_in = self.0[slot][BYTES_IN].load(Relaxed);
        let bytes_out = self.0[slot][BYTES_OUT].load(Relaxed);
        (bytes_in & NOT_COUNTED == 0).then_some((bytes_in, bytes_out))
    }

    /// Stores the report of a handler that succeeded, the usual one.
    #[inline]
    pub(crate) fn done(self, slot: usize) {
        self.0[slot][REPORT].store(u64::from(ExitReport::Done.to_parts().0), Relaxed);
    }

    /// Stores the report that the client reset the connection.
    #[inline]
    pub(crate) fn reset(self, slot: usize) {
        self.0[slot][REPORT].store(u64::from(ExitReport::Reset.to_parts().0), Relaxed);
    }

    /// Whether the connection reported a reset.
    #[inline]
    pub(crate) fn was_reset(self, slot: usize) -> bool {
        self.0[slot][REPORT].load(Relaxed) == u64::from(ExitReport::Reset.to_parts().0)
    }

    /// Stores the exit report of a connection; a long text is cut.
    #[inline]
    pub(crate) fn report(self, slot: usize, report: &ExitReport) {
        self.report_at(slot, report, "");
    }

    /// The same, with the place of a panic.
    pub(crate) fn report_at(self, slot: usize, report: &ExitReport, place: &str) {
        let (number, text) = report.to_parts();
        if text.is_empty() && place.is_empty() {
            self.0[slot][REPORT].store(u64::from(number), Relaxed);
            return;
        }
        let place = &place.as_bytes()[..place.len().min(MAX_PLACE)];
        let bytes = &text.as_bytes()[..text.len().min(MAX_TEXT - place.len())];
        let bytes = &bytes[..whole_characters(bytes)];
        let all = [bytes, place].concat();
        for (at, chunk) in all.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0[slot][TEXT + at].store(u64::from_le_bytes(word), Relaxed);
        }
        let lengths = (bytes.len() as u64) << 8 | (place.len() as u64) << 16;
        self.0[slot][REPORT].store(u64::from(number) | lengths, Relaxed);
    }

    /// The exit report of a connection, if it stored one. The words may have any value: lengths are
    /// clamped, the text is made valid UTF-8, and the log escapes it.
    pub(crate) fn reported(self, slot: usize) -> Option<ExitReport> {
        let (number, text, _) = self.parts(slot);
        ExitReport::from_parts(number, text)
    }

    /// The number of the report, its text, and the place of a panic.
    fn parts(self, slot: usize) -> (u8, String, String) {
        let word = self.0[slot][REPORT].load(Relaxed);
        let length = usize::from((word >> 8) as u8).min(MAX_TEXT);
        let place = usize::from((word >> 16) as u8).min(MAX_TEXT - length);
        let words = self.0[slot][TEXT..].iter().take((length + place).div_ceil(8));
        let bytes: Vec<u8> = words.flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        let (text, rest) = bytes.split_at(length);
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (word as u8, text_of(text), text_of(&rest[..place]))
    }

    /// Has a fault of this process noted in the slot of its connection. Runs in the connection
    /// process.
    pub(crate) fn note_faults(self, slot: usize) {
        if let Some(words) = self.fault_words(slot) {
            fault::note_in(words);
        }
    }

    /// What a process that was ended by this signal, or by none, has noted about its crash. It is
    /// as untrusted as the report.
    pub(crate) fn crash_note(self, slot: usize, signal: Option<i32>) -> CrashNote {
        let words = self.fault_words(slot).map(|words| words.each_ref().map(|word| word.load(Relaxed)));
        let is_noted = |noted: u64, signal: i32| noted & !fault::HAS_ADDRESS == signal as u64;
        let fault = words.zip(signal).filter(|([noted, ..], signal)| is_noted(*noted, *signal));
        let (.., place) = self.parts(slot);
        CrashNote {
            fault: fault.map(|([noted, address, instruction], signal)| FaultNote {
                signal,
                address: (noted & fault::HAS_ADDRESS != 0).then_some(address),
                instruction: (instruction != fault::NOT_IN_PROGRAM).then_some(instruction),
            }),
            place: (signal.is_none() && !place.is_empty()).then_some(place),
        }
    }

    fn fault_words(&self, slot: usize) -> Option<&'static FaultWords> {
        self.0.entry(slot)?[TEXT..].first_chunk::<FAULT_WORDS>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_cut_and_hostile_ones_clamped() {
        let stats = ConnStats::new(1).expect("memory");
        for (long, length) in
            [("é".repeat(MAX_TEXT), MAX_TEXT), (format!("a{}", "é".repeat(MAX_TEXT)), MAX_TEXT - 1)]
        {
            stats.report(0, &ExitReport::Error(long.clone()));
            assert_eq!(stats.reported(0), Some(ExitReport::Error(long[..length].to_owned())));
        }
        stats.0[0][REPORT].store(u64::MAX, Relaxed);
        assert_eq!(stats.reported(0), None);
        stats.0[0][REPORT].store(u64::MAX << 8 | 4, Relaxed);
        assert!(matches!(stats.reported(0), Some(ExitReport::Error(_))));
        assert!(stats.crash_note(0, None).place.is_none_or(|place| place.len() <= MAX_TEXT * 3));
        stats.received(0, 5);
        stats.sent(0, 7);
        assert_eq!(stats.bytes(0), Some((5, 7)));
        stats.stop_counting(0);
        assert_eq!(stats.bytes(0), None);
        for (at, found) in [(0, None), (9, None), (10, Some(0)), (17, Some(7)), (20, Some(10)), (21, None)] {
            stats.note_first_byte(0, at);
            assert_eq!(stats.first_byte(0, 10, 20), found.map(Duration::from_nanos), "{at}");
        }
        let long = "m".repeat(MAX_TEXT);
        for (message, place, kept) in [("m", "src/a.rs:1:2", 1), (&long, "p", MAX_TEXT - 1), ("", "p", 0)] {
            stats.report_at(0, &ExitReport::Panic(message.to_owned()), place);
            assert_eq!(stats.reported(0), Some(ExitReport::Panic(message[..kept].to_owned())));
            assert_eq!(stats.crash_note(0, None).place.as_deref(), Some(place));
            assert_eq!(stats.crash_note(0, Some(11)), CrashNote::default());
        }
        stats.clear(0);
        assert_eq!(stats.first_byte(0, 0, 0), Some(Duration::ZERO));
        assert_eq!(stats.first_byte(0, 1, 2), None);
    }

    #[test]
    fn a_fault_is_that_of_the_signal_that_has_ended_the_process() {
        let stats = ConnStats::new(1).expect("memory");
        let words = stats.fault_words(0).expect("a slot");
        let outside = fault::NOT_IN_PROGRAM;
        let segv = fault::HAS_ADDRESS | 11;
        for (noted, ended_by, fault) in [
            ([segv, 0x10, 0x20], 11, Some((Some(0x10), Some(0x20)))),
            ([segv, 0, outside], 11, Some((Some(0), None))),
            ([6, 0x10, 0x20], 6, Some((None, Some(0x20)))),
            // It was killed otherwise, or the words are not of a signal.
            ([segv, 0x10, 0x20], 9, None),
            ([u64::MAX, 0, 0], 11, None),
            ([0, 0, 0], 11, None),
        ] {
            for (word, value) in words.iter().zip(noted) {
                word.store(value, Relaxed);
            }
            let found = stats.crash_note(0, Some(ended_by));
            assert_eq!(found.fault.map(|fault| (fault.address, fault.instruction)), fault, "{noted:?}");
            assert_eq!(stats.crash_note(0, None), CrashNote::default());
        }
        stats.clear(0);
        assert_eq!(stats.crash_note(0, Some(11)), CrashNote::default());
    }
}
