//! Places: with `Server::exit_after`, the connections that are left to the server. A process takes
//! one before it accepts a client, and returns it if the client is not admitted, so that never one
//! more is accepted than can be served.
//!
//! The words are at the end of the board, and only there where places are limited.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::{Board, MAX_FORKERS, PLACE_HOLDERS, PLACES_LEFT, PLACES_USED};

// Words of a holder.
const NONE: u64 = 0;
/// For a client that is not admitted yet.
const HELD: u64 = 1;
/// Used for a client whose connection is not on the board yet.
const ADMITTED: u64 = 2;

/// A process that can hold a place while it accepts a client and has it admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceHolder {
    /// The forker of this index.
    Forker(usize),
    /// The spare or worker in this slot.
    Spare(usize),
}

impl Board {
    /// Sets how many places there are. Runs before the first fork.
    pub(super) fn set_places(&self, places: u64) {
        self.place_word(PLACES_LEFT).store(places, SeqCst);
    }

    /// Takes a place; false if none is left, for the moment or for good. True where places are not
    /// limited.
    #[inline(always)]
    pub(crate) fn take_place(&self, holder: PlaceHolder) -> bool {
        self.places.is_none() || self.take_limited_place(holder)
    }

    #[cold]
    fn take_limited_place(&self, holder: PlaceHolder) -> bool {
        let taken = self.place_word(PLACES_LEFT).fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if taken.is_ok() {
            self.holder_word(holder).store(HELD, SeqCst);
        }
        taken.is_ok()
    }

    /// Returns the place that a process holds, if it holds one: its client is not admitted, or the
    /// process has died.
    #[inline(always)]
    pub(crate) fn return_place(&self, holder: PlaceHolder) {
        if self.places.is_some() && self.holder_word(holder).swap(NONE, SeqCst) == HELD {
            self.place_word(PLACES_LEFT).fetch_add(1, SeqCst);
        }
    }

    /// Uses the place that a process holds, for good: its client is admitted.
    #[inline(always)]
    pub(crate) fn use_place(&self, holder: PlaceHolder) {
        if self.places.is_some() {
            self.use_limited_place(holder);
        }
    }

    #[cold]
    fn use_limited_place(&self, holder: PlaceHolder) {
        let word = self.holder_word(holder);
        if word.load(SeqCst) == HELD {
            // Before the count, so that nobody counts a place whose connection is not on the board.
            word.store(ADMITTED, SeqCst);
            self.place_word(PLACES_USED).fetch_add(1, SeqCst);
        }
    }

    /// The connection of an admitted client is on the board, and a notice of it. True if it is the
    /// last one of all places.
    #[inline(always)]
    pub(crate) fn settle_place(&self, holder: PlaceHolder) -> bool {
        self.places.is_some() && self.settle_limited_place(holder)
    }

    #[cold]
    fn settle_limited_place(&self, holder: PlaceHolder) -> bool {
        self.holder_word(holder).store(NONE, SeqCst);
        self.are_places_settled()
    }

    /// Whether every place is used: the server accepts no more client.
    pub(crate) fn are_places_used(&self) -> bool {
        self.places.is_some_and(|places| self.place_word(PLACES_USED).load(SeqCst) >= places)
    }

    /// Whether every place is used, and its connection on the board.
    pub(crate) fn are_places_settled(&self) -> bool {
        self.are_places_used() && self.place_holders().all(|word| word.load(SeqCst) != ADMITTED)
    }

    fn place_holders(&self) -> impl Iterator<Item = &AtomicU64> {
        let first = self.places_at() + PLACE_HOLDERS;
        (first..first + MAX_FORKERS + self.slot_count()).map(|index| self.word(index))
    }

    fn place_word(&self, which: usize) -> &AtomicU64 {
        self.word(self.places_at() + which)
    }

    fn holder_word(&self, holder: PlaceHolder) -> &AtomicU64 {
        self.place_word(match holder {
            PlaceHolder::Forker(index) => PLACE_HOLDERS + index,
            PlaceHolder::Spare(slot) => PLACE_HOLDERS + MAX_FORKERS + slot,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PlaceHolder::{Forker, Spare};

    fn board(places: Option<u64>) -> Board {
        let (_, [drain]) = tine_sys::memory::flags().expect("memory");
        Board::new(130, drain, true, places).expect("memory")
    }

    #[test]
    fn places_are_taken_returned_and_used() {
        let board = board(Some(2));
        assert_eq!([Forker(0), Spare(129), Forker(63)].map(|one| board.take_place(one)), [true, true, false]);
        board.return_place(Forker(63));
        assert!(!board.take_place(Forker(1)), "a process without a place returns none");
        board.return_place(Spare(129));
        board.return_place(Spare(129));
        assert_eq!([Forker(1), Spare(0)].map(|one| board.take_place(one)), [true, false]);
        [Spare(0), Forker(0)].into_iter().for_each(|one| board.use_place(one));
        assert!(!board.are_places_used());
        board.use_place(Forker(1));
        assert!(board.are_places_used() && !board.are_places_settled());
        assert!(!board.settle_place(Forker(0)) && !board.are_places_settled(), "one is not on the board");
        assert!(board.settle_place(Forker(1)) && board.are_places_settled());
        board.return_place(Forker(1));
        assert!(board.are_places_used() && !board.take_place(Forker(0)));
        assert!((0..130).filter_map(|_| board.claim(0)).count() == 130, "the bitmaps are untouched");
        assert_eq!((0..130).find_map(|slot| board.proxied(slot)), None);
    }

    #[test]
    fn a_holder_that_dies_with_an_admitted_client_has_used_its_place() {
        let board = board(Some(1));
        assert!(board.take_place(Forker(0)));
        board.use_place(Forker(0));
        assert!(!board.are_places_settled());
        board.return_place(Forker(0));
        assert!(board.are_places_settled() && !board.take_place(Forker(1)));
    }

    #[test]
    fn places_without_a_limit_are_never_used_up() {
        let board = board(None);
        for _ in 0..3 {
            assert!(board.take_place(Forker(0)));
            board.use_place(Forker(0));
            assert!(!board.settle_place(Forker(0)) && !board.are_places_used());
        }
        board.return_place(Forker(0));
    }
}
