//! A value that any process reads and sets, as a whole.

use std::fmt;

use crate::copies::Copies;
use crate::error::Error;
use crate::lock::{Lock, Shape};
use crate::memory;
use crate::plain::Plain;
use crate::sync::{self, Acquire, AtomicU64, Relaxed, Release, fence};
use crate::turn::{Caller, Turn};

/// A value that any process reads and sets, as a whole: nobody ever reads a part of one value and a
/// part of another.
///
/// Reading takes no lock, and a process that dies while it sets leaves the value as it was.
///
/// ```
/// use tine::shared::{Cell, Text};
///
/// let notice = Cell::new("notice", Text::<80>::default())?;
/// notice.set(Text::cut("Closed on Sunday"));
/// assert_eq!(&*notice.get(), "Closed on Sunday");
/// let length = notice.update(|text| *text = Text::cut(&text[..6]));
/// assert_eq!(&*notice.get(), "Closed");
/// # Ok::<(), tine::shared::Error>(())
/// ```
pub struct Cell<T> {
    /// Writers take it in turn.
    lock: Lock,
    /// How often the value was set. The copy that counts is that of the last bit.
    version: &'static AtomicU64,
    copies: Copies<T>,
}

impl<T: Plain> Cell<T> {
    /// Makes a cell with this value.
    ///
    /// # Errors
    /// The name is invalid or taken, the server runs already, or the system has no memory.
    pub fn new(name: &str, value: T) -> Result<Cell<T>, Error> {
        memory::check(name)?;
        let cell = Cell::make(name, &value)?;
        memory::add(name, Shape { kind: "cell", lock: cell.lock });
        Ok(cell)
    }

    pub(crate) fn make(name: &str, value: &T) -> Result<Cell<T>, Error> {
        Ok(Cell {
            lock: Lock::make(name)?,
            version: &memory::words(name, 1)?[0],
            copies: Copies::make(name, value)?,
        })
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> T {
        loop {
            let before = self.version.load(Acquire);
            let value = self.copies.load((before & 1) as usize);
            fence(Acquire);
            // The copy is overwritten only when the other one counts.
            if self.version.load(Relaxed) == before {
                return value;
            }
            sync::spin();
        }
    }

    /// Sets the value.
    ///
    /// # Panics
    /// As [`Cell::update`].
    pub fn set(&self, value: T) {
        self.update(|old| *old = value);
    }

    /// Changes the value, while no other process does. Returns what the function returns.
    ///
    /// # Panics
    /// In a forker, which must not wait; or if this process holds as many locks as it can (12). If
    /// the function panics, the value stays as it was.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        self.update_as(Caller::here(), change)
    }

    pub(crate) fn update_as<R>(&self, caller: Caller, change: impl FnOnce(&mut T) -> R) -> R {
        let turn = Turn::take(self.lock, caller);
        let version = self.version.load(Relaxed);
        let mut value = self.copies.load((version & 1) as usize);
        let result = change(&mut value);
        // A process that reads a word of the copy below also sees that it does not count any more.
        fence(Release);
        self.copies.store((version & 1 ^ 1) as usize, &value);
        self.version.store(version.wrapping_add(1), Release);
        drop(turn);
        result
    }
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Cell<T> {}

impl<T: Plain + fmt::Debug> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cell").field(&self.get()).finish()
    }
}
