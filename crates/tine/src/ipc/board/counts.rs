//! Counts on the board for operators: rejected, reported and delayed clients; and whether the
//! server is paused.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{
    Board, DELAYED, FORKER_WORDS, HEAD, MAX_FORKERS, PAUSE_SEEN, PAUSED, REJECTED, REPORTED, SOURCE_LIMITS,
    WAITING,
};
use crate::admission::reason::Reason;

impl Board {
    /// Counts a rejected client. Runs where the rejection is decided.
    pub(crate) fn count_rejected(&self, reason: Reason) {
        self.word(REJECTED + reason.index()).fetch_add(1, Relaxed);
    }

    /// The number of clients rejected for a reason.
    pub(crate) fn rejected(&self, reason: Reason) -> u64 {
        self.word(REJECTED + reason.index()).load(Relaxed)
    }

    /// The number of rejected clients.
    pub(crate) fn rejected_total(&self) -> u64 {
        Reason::ALL.into_iter().map(|reason| self.rejected(reason)).sum()
    }

    /// Counts a client that is served although a limit or a rule objects, because these are only
    /// reported.
    pub(crate) fn count_reported(&self, reason: Reason) {
        self.word(REPORTED + reason.index()).fetch_add(1, Relaxed);
    }

    /// The number of clients reported for a reason.
    pub(crate) fn reported(&self, reason: Reason) -> u64 {
        self.word(REPORTED + reason.index()).load(Relaxed)
    }

    /// Goes on with the counts of an older generation.
    pub(crate) fn count_on(
        &self,
        rejected: &[(Reason, u64)],
        reported: &[(Reason, u64)],
        delayed: &[(Reason, u64)],
    ) {
        for (reason, count) in rejected {
            self.word(REJECTED + reason.index()).fetch_add(*count, Relaxed);
        }
        for (reason, count) in reported {
            self.word(REPORTED + reason.index()).fetch_add(*count, Relaxed);
        }
        for (reason, count) in delayed {
            self.word(DELAYED + reason.index()).fetch_add(*count, Relaxed);
        }
    }

    /// Counts a client that is passed to the delayer.
    pub(crate) fn count_delayed(&self, reason: Reason) {
        self.word(DELAYED + reason.index()).fetch_add(1, Relaxed);
    }

    /// The number of clients that were passed to the delayer for a reason.
    pub(crate) fn delayed(&self, reason: Reason) -> u64 {
        self.word(DELAYED + reason.index()).load(Relaxed)
    }

    /// Notes how many clients are in the delay queue. Runs in the delayer.
    pub(crate) fn set_waiting(&self, clients: usize) {
        self.word(WAITING).store(clients as u64, Relaxed);
    }

    /// The number of clients in the delay queue.
    pub(crate) fn waiting(&self) -> u64 {
        self.word(WAITING).load(Relaxed)
    }

    /// Pauses or resumes. Runs in the supervisor, which wakes the forkers. Each pause has a number
    /// of its own.
    pub(crate) fn set_paused(&self, pause: Option<u64>) {
        self.word(PAUSED).store(pause.unwrap_or(0), SeqCst);
    }

    /// Whether no process is to accept a client.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.word(PAUSED).load(SeqCst) != 0
    }

    /// Notes that a forker accepts no client in this pause; true if that is new.
    pub(crate) fn see_pause(&self, forker: usize) -> bool {
        let pause = self.word(PAUSED).load(SeqCst);
        self.forker_word(forker, PAUSE_SEEN).swap(pause, SeqCst) != pause
    }

    /// Whether each of these forkers has noted the pause.
    pub(crate) fn is_pause_seen(&self, forkers: usize) -> bool {
        let pause = self.word(PAUSED).load(SeqCst);
        (0..forkers).all(|forker| self.forker_word(forker, PAUSE_SEEN).load(SeqCst) == pause)
    }
}

// The words of the reasons are within the head.
const _: () = assert!(
    DELAYED + Reason::ALL.len() == SOURCE_LIMITS
        && SOURCE_LIMITS < HEAD
        && PAUSE_SEEN < FORKER_WORDS
        && MAX_FORKERS > 0
);

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;

    #[test]
    fn rejections_are_counted_by_reason() {
        let board = board(2);
        for reason in [Reason::Full, Reason::Proxy, Reason::Proxy] {
            board.count_rejected(reason);
        }
        assert_eq!((board.rejected(Reason::Full), board.rejected(Reason::Proxy)), (1, 2));
        assert_eq!((board.rejected(Reason::Rate), board.rejected_total()), (0, 3));
        board.count_reported(Reason::Banned);
        board.count_reported(Reason::Rate);
        assert_eq!((board.reported(Reason::Rate), board.reported(Reason::Full)), (1, 0));
        assert_eq!(board.rejected_total(), 3);
        assert!(board.claim(0).is_some(), "the slots are untouched");
    }

    #[test]
    fn a_pause_is_seen_by_each_forker() {
        let board = board(1);
        assert!(!board.is_paused());
        board.set_paused(Some(1));
        assert!(board.is_paused() && !board.is_pause_seen(2));
        assert!(board.see_pause(0) && !board.see_pause(0) && !board.is_pause_seen(2));
        assert!(board.see_pause(1) && board.is_pause_seen(2));
        board.set_paused(Some(2));
        assert!(!board.is_pause_seen(2));
        board.set_paused(None);
        assert!(!board.is_paused());
    }
}
