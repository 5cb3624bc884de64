//! A lock of a table, and the number of the entries below it.

use super::meta::Meta;
use crate::lock::{Held, Lock};
use crate::owner::{self, Members, Owner};
use crate::sync::{AcqRel, AtomicU32, AtomicU64, Relaxed, Release};
use std::time::Instant;

/// The words of a stripe: a cache line.
pub(super) const WORDS_OF_STRIPE: usize = 16;

/// A part of the keys of a table, of which one at a time is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stripe {
    pub(super) lock: Lock,
    /// The number of entries.
    length: &'static AtomicU32,
    /// Not 0 while an entry is made or removed: whoever dies then may have left a wrong number.
    is_counting: &'static AtomicU32,
    /// How many entries have expired and were replaced or removed.
    expired: &'static AtomicU32,
}

/// A stripe that this process holds, until this is dropped.
#[must_use]
pub(super) struct StripeTurn {
    lock: Lock,
    held: Held,
}

impl Drop for StripeTurn {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.release(self.held, owner::members(), false);
    }
}

impl Stripe {
    #[inline]
    pub(super) fn of(words: &'static [AtomicU32], object: u32) -> Stripe {
        let [lock, length, is_counting, expired, ..] = words else { unreachable!("a stripe has 16 words") };
        Stripe { lock: Lock::of(lock, object), length, is_counting, expired }
    }

    /// Waits for the lock. `recount` counts the entries.
    ///
    /// # Panics
    /// In a forker; or if this process holds as many locks as it can.
    #[inline(always)]
    pub(super) fn take(self, recount: impl FnOnce() -> u32) -> StripeTurn {
        let Ok(held) = self.lock.acquire(owner::waiter(), owner::members(), None) else {
            unreachable!("it waits for as long as it takes")
        };
        self.begin(held, recount)
    }

    /// Takes the lock if it is free.
    pub(super) fn try_take(
        self,
        own: Owner,
        members: Members,
        recount: impl FnOnce() -> u32,
    ) -> Option<StripeTurn> {
        let held = self.lock.acquire(own, members, Some(Instant::now())).ok()?;
        Some(self.begin(held, recount))
    }

    #[inline(always)]
    fn begin(self, held: Held, recount: impl FnOnce() -> u32) -> StripeTurn {
        let turn = StripeTurn { lock: self.lock, held };
        if self.is_counting.load(Relaxed) != 0 {
            self.length.store(recount(), Relaxed);
            self.is_counting.store(0, Release);
        }
        turn
    }

    /// Changes the first word of a slot, and the number of entries. False if the word is another.
    /// The caller holds the stripe.
    #[inline]
    pub(super) fn change(self, word: &AtomicU64, from: Meta, to: Meta, entries: i32) -> bool {
        self.is_counting.store(1, Relaxed);
        let is_done = word.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok();
        if is_done {
            self.length.store(self.length.load(Relaxed).wrapping_add_signed(entries), Relaxed);
        }
        self.is_counting.store(0, Release);
        is_done
    }

    /// The number of entries, expired ones included.
    pub(super) fn length(self) -> u32 {
        self.length.load(Relaxed)
    }

    /// How many entries have expired and were replaced or removed.
    pub(super) fn expired(self) -> u32 {
        self.expired.load(Relaxed)
    }

    /// Counts an entry that has expired.
    pub(super) fn count_expired(self) {
        self.expired.fetch_add(1, Relaxed);
    }
}
