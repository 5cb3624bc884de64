//! A value that is made once, by the first process that needs it.

use std::fmt;
use std::marker::PhantomData;

use crate::copies;
use crate::error::Error;
use crate::lock::Lock;
use crate::memory;
use crate::plain::Plain;
use crate::show::{Figure, LetGo, Shown};
use crate::sync::{Acquire, AtomicU64, Relaxed, Release};
use crate::turn::{Caller, Turn};

/// A value that is made once, by the first process that needs it.
///
/// If that process dies or panics before the value is made, the next one makes it.
///
/// ```
/// use tine::shared::Once;
///
/// let key = Once::new("key")?;
/// assert_eq!(key.get(), None);
/// assert_eq!(key.get_or_init(|| 7u64), 7);
/// assert_eq!(key.get_or_init(|| 8), 7);
/// assert_eq!(key.get(), Some(7));
/// # Ok::<(), tine::shared::Error>(())
/// ```
pub struct Once<T> {
    state: State,
    value: PhantomData<fn() -> T>,
}

/// A value that is made once, without its type.
#[derive(Clone, Copy)]
struct State {
    /// Held by the process that makes the value.
    lock: Lock,
    /// Not zero: the value is made.
    is_made: &'static AtomicU64,
    words: &'static [AtomicU64],
}

impl<T: Plain> Once<T> {
    /// Makes one without a value.
    ///
    /// # Errors
    /// The name is invalid or taken, the server runs already, or the system has no memory.
    pub fn new(name: &str) -> Result<Once<T>, Error> {
        memory::check(name)?;
        let once = Once::<T>::make(name)?;
        memory::add(name, once.state);
        Ok(once)
    }

    pub(crate) fn make(name: &str) -> Result<Once<T>, Error> {
        let state = State {
            lock: Lock::make(name)?,
            is_made: &memory::words(name, 1)?[0],
            words: memory::words(name, T::WORDS)?,
        };
        Ok(Once { state, value: PhantomData })
    }

    /// The value, if it is made. It never waits.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Option<T> {
        (self.state.is_made.load(Acquire) != 0).then(|| copies::load(self.state.words))
    }

    /// The value. If it is not made, the function makes it, while others that need it wait.
    ///
    /// A function that needs the same value waits for itself.
    ///
    /// # Panics
    /// If the value is not made: in a forker ([`Handler::on_start`](../trait.Handler.html)), which
    /// must not wait; or if this process holds as many locks as it can (12). If the function
    /// panics, the value is not made.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> T {
        self.get().unwrap_or_else(|| self.make_as(Caller::here(), make))
    }

    pub(crate) fn make_as(&self, caller: Caller, make: impl FnOnce() -> T) -> T {
        let turn = Turn::take(self.state.lock, caller);
        if let Some(value) = self.get() {
            return value;
        }
        let value = make();
        copies::store(self.state.words, &value);
        self.state.is_made.store(1, Release);
        drop(turn);
        value
    }

    /// The turn to make the value.
    #[cfg(all(test, loom))]
    pub(crate) fn turn(&self, caller: Caller) -> Turn {
        Turn::take(self.state.lock, caller)
    }

    /// Opens it after the death of a process that claimed it.
    #[cfg(all(test, loom))]
    pub(crate) fn let_go(&self, dead: LetGo) {
        self.state.let_go(dead);
    }
}

impl Shown for State {
    fn kind(&self) -> &'static str {
        "once"
    }

    fn figures(&self) -> Vec<Figure> {
        let is_made = self.is_made.load(Relaxed) != 0;
        let figure = |name, is: bool| Figure::gauge(name, f64::from(u8::from(is)));
        vec![figure("made", is_made), figure("held", self.lock.is_held())]
    }

    fn let_go(&self, dead: LetGo) {
        self.lock.let_go(dead.owner);
    }

    fn number(&self) -> Option<u32> {
        Some(self.lock.object())
    }
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Once<T> {}

impl<T: Plain + fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn one_makes_the_value_after_another_has_panicked() {
        let once = Once::<(u64, u64)>::make("once").expect("memory");
        let panics = catch_unwind(AssertUnwindSafe(|| once.get_or_init(|| panic!("expected"))));
        assert!(panics.is_err() && once.get().is_none());
        let made = AtomicU32::new(0);
        let make = || {
            let number = u64::from(made.fetch_add(1, Relaxed));
            (number, number)
        };
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| assert_eq!(once.get_or_init(make), (0, 0)));
            }
        });
        assert_eq!((made.load(Relaxed), once.get()), (1, Some((0, 0))));
    }
}
