//! A value in two copies, of which one counts: a process that dies while it writes leaves the other
//! one whole.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::error::Error;
use crate::memory;
use crate::plain::Plain;
use crate::sync::{AtomicU32, AtomicU64, Relaxed};

/// The two copies.
pub(crate) struct Copies<T> {
    words: &'static [AtomicU64],
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Copies<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Copies<T> {}

impl<T: Plain> Copies<T> {
    /// Makes both copies, of which the first has this value.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(crate) fn make(name: &str, first: &T) -> Result<Copies<T>, Error> {
        Ok(Copies::of(memory::words(name, 2 * T::WORDS)?, first))
    }

    /// Makes both copies right behind a word for a lock: a small value is in its cache line, so
    /// that one transfer between two processors brings both.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(crate) fn behind_futex(name: &str, first: &T) -> Result<(&'static AtomicU32, Copies<T>), Error> {
        let (word, words) = memory::futex_and_words(name, 2 * T::WORDS)?;
        Ok((word, Copies::of(words, first)))
    }

    fn of(words: &'static [AtomicU64], first: &T) -> Copies<T> {
        let copies = Copies { words, value: PhantomData };
        copies.store(0, first);
        copies
    }

    /// The value of a copy.
    #[inline]
    pub(crate) fn load(self, side: usize) -> T {
        load(&self.words[side * T::WORDS..])
    }

    /// Overwrites a copy.
    #[inline]
    pub(crate) fn store(self, side: usize, value: &T) {
        store(&self.words[side * T::WORDS..], value);
    }
}

/// A copy of the value that counts, in the process that holds its lock. What is changed in it
/// counts once the lock says that the other copy does.
pub(crate) struct Draft<T> {
    copies: Copies<T>,
    /// The copy that counts.
    side: usize,
    value: T,
    is_changed: bool,
}

impl<T: Plain> Draft<T> {
    #[inline]
    pub(crate) fn of(copies: Copies<T>, side: usize) -> Draft<T> {
        Draft { copies, side, value: copies.load(side), is_changed: false }
    }

    /// Stores what was changed in the other copy. True if that counts from now on; a panic drops
    /// the change.
    #[inline]
    pub(crate) fn store(&self) -> bool {
        let stores = self.is_changed && !std::thread::panicking();
        if stores {
            self.copies.store(1 - self.side, &self.value);
        }
        stores
    }
}

impl<T> Deref for Draft<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Draft<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}

/// The value in these words.
#[inline]
pub(crate) fn load<T: Plain>(words: &[AtomicU64]) -> T {
    let mut words = words.iter();
    T::take(&mut || words.next().map_or(0, |word| word.load(Relaxed)))
}

/// Writes a value to these words.
#[inline]
pub(crate) fn store<T: Plain>(words: &[AtomicU64], value: &T) {
    let mut words = words.iter();
    value.put(&mut |put| {
        if let Some(word) = words.next() {
            word.store(put, Relaxed);
        }
    });
}
