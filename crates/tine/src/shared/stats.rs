//! Statistics of connections, in shared memory that every connection process can write. They are
//! informational only; no decision depends on them.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tine_sys::memory::Shared;

use crate::lifecycle::outcome::ExitReport;
use crate::log::whole_characters;

// The words of a slot: bytes in, bytes out, the exit report, the time of the client's first byte,
// the text of the report.
const BYTES_IN: usize = 0;
const BYTES_OUT: usize = 1;
const REPORT: usize = 2;
const FIRST_BYTE: usize = 3;
const TEXT: usize = 4;
const STATS_WORDS: usize = 32;
/// The maximum length of a report's text in bytes; longer ones are cut.
const MAX_TEXT: usize = (STATS_WORDS - TEXT) * 8;
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
        for at in [BYTES_IN, BYTES_OUT, REPORT, FIRST_BYTE] {
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
        let (number, text) = report.to_parts();
        if text.is_empty() {
            self.0[slot][REPORT].store(u64::from(number), Relaxed);
            return;
        }
        let bytes = &text.as_bytes()[..text.len().min(MAX_TEXT)];
        let bytes = &bytes[..whole_characters(bytes)];
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0[slot][TEXT + at].store(u64::from_le_bytes(word), Relaxed);
        }
        self.0[slot][REPORT].store(u64::from(number) | (bytes.len() as u64) << 8, Relaxed);
    }

    /// The exit report of a connection, if it stored one. The words may have any value: lengths are
    /// clamped, the text is made valid UTF-8, and the log escapes it.
    pub(crate) fn reported(self, slot: usize) -> Option<ExitReport> {
        let word = self.0[slot][REPORT].load(Relaxed);
        let length = ((word >> 8) as usize).min(MAX_TEXT);
        let mut bytes: Vec<u8> = self.0[slot][TEXT..]
            .iter()
            .take(length.div_ceil(8))
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect();
        bytes.truncate(length);
        ExitReport::from_parts(word as u8, String::from_utf8_lossy(&bytes).into_owned())
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
        stats.received(0, 5);
        stats.sent(0, 7);
        assert_eq!(stats.bytes(0), Some((5, 7)));
        stats.stop_counting(0);
        assert_eq!(stats.bytes(0), None);
        for (at, found) in [(0, None), (9, None), (10, Some(0)), (17, Some(7)), (20, Some(10)), (21, None)] {
            stats.note_first_byte(0, at);
            assert_eq!(stats.first_byte(0, 10, 20), found.map(Duration::from_nanos), "{at}");
        }
        stats.clear(0);
        assert_eq!(stats.first_byte(0, 0, 0), Some(Duration::ZERO));
        assert_eq!(stats.first_byte(0, 1, 2), None);
    }
}
