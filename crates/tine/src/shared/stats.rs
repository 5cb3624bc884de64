//! What connections show of themselves: shared memory that every one of them can write.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tine_sys::memory::Shared;

use crate::lifecycle::outcome::ExitReport;

// Words of a slot's display: bytes in, bytes out, report, text.
const BYTES_IN: usize = 0;
const BYTES_OUT: usize = 1;
const REPORT: usize = 2;
const TEXT: usize = 3;
const STATS_WORDS: usize = 32;
/// Bytes of text that a report keeps.
const TEXT_ROOM: usize = (STATS_WORDS - TEXT) * 8;
/// Set in the word of bytes in: they are not all counted (the handler took the descriptor).
const NOT_COUNTED: u64 = 1 << 63;

/// What connections show of themselves. Any of them can write all of it: for eyes, not for decisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnStats(Shared<[AtomicU64; STATS_WORDS]>);

impl ConnStats {
    /// Room for so many slots.
    pub(crate) fn new(slots: usize) -> io::Result<ConnStats> {
        Shared::new(slots).map(ConnStats)
    }

    /// Makes a slot ready for its next connection.
    pub(crate) fn clear(self, slot: usize) {
        for at in [BYTES_IN, BYTES_OUT, REPORT] {
            self.0[slot][at].store(0, Relaxed);
        }
    }

    pub(crate) fn received(self, slot: usize, bytes: usize) {
        self.0[slot][BYTES_IN].fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(self, slot: usize, bytes: usize) {
        self.0[slot][BYTES_OUT].fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn stop_counting(self, slot: usize) {
        self.0[slot][BYTES_IN].fetch_or(NOT_COUNTED, Relaxed);
    }

    /// Bytes in and out; `None` where the handler took the descriptor for itself.
    pub(crate) fn bytes(self, slot: usize) -> Option<(u64, u64)> {
        let bytes_in = self.0[slot][BYTES_IN].load(Relaxed);
        let bytes_out = self.0[slot][BYTES_OUT].load(Relaxed);
        (bytes_in & NOT_COUNTED == 0).then_some((bytes_in, bytes_out))
    }

    /// Notes that the client reset the connection.
    #[inline]
    pub(crate) fn reset(self, slot: usize) {
        self.0[slot][REPORT].store(u64::from(ExitReport::Reset.to_parts().0), Relaxed);
    }

    /// Whether that was noted.
    #[inline]
    pub(crate) fn was_reset(self, slot: usize) -> bool {
        self.0[slot][REPORT].load(Relaxed) == u64::from(ExitReport::Reset.to_parts().0)
    }

    /// Shows how the connection ended; a long text is cut.
    #[inline]
    pub(crate) fn report(self, slot: usize, report: &ExitReport) {
        let (number, text) = report.to_parts();
        if text.is_empty() {
            self.0[slot][REPORT].store(u64::from(number), Relaxed);
            return;
        }
        let bytes = &text.as_bytes()[..text.len().min(TEXT_ROOM)];
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0[slot][TEXT + at].store(u64::from_le_bytes(word), Relaxed);
        }
        self.0[slot][REPORT].store(u64::from(number) | (bytes.len() as u64) << 8, Relaxed);
    }

    /// What the connection reported. Anything may stand there: numbers are clamped, text is made
    /// valid, and the log escapes it.
    pub(crate) fn reported(self, slot: usize) -> Option<ExitReport> {
        let word = self.0[slot][REPORT].load(Relaxed);
        let length = ((word >> 8) as usize).min(TEXT_ROOM);
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
        let display = ConnStats::new(1).expect("memory");
        let long = "é".repeat(TEXT_ROOM);
        display.report(0, &ExitReport::Error(long.clone()));
        assert_eq!(display.reported(0), Some(ExitReport::Error(long[..TEXT_ROOM].to_owned())));
        display.0[0][REPORT].store(u64::MAX, Relaxed);
        assert_eq!(display.reported(0), None);
        display.0[0][REPORT].store(u64::MAX << 8 | 4, Relaxed);
        assert!(matches!(display.reported(0), Some(ExitReport::Error(_))));
        display.received(0, 5);
        display.sent(0, 7);
        assert_eq!(display.bytes(0), Some((5, 7)));
        display.stop_counting(0);
        assert_eq!(display.bytes(0), None);
    }
}
