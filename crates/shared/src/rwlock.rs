//! A value that several processes read, or one changes.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::copies::{Copies, Draft};
use crate::error::Error;
use crate::gate::Gate;
use crate::lock::{Held, deadline_in};
use crate::memory;
use crate::owner::Claim;
use crate::plain::Plain;
#[cfg(test)]
use crate::show::{LetGo, Shown};
use crate::turn::Caller;

/// A value that several processes read at a time, or one changes while nobody reads.
///
/// A process that only needs the value as it is now is served better by a
/// [`Cell`](crate::Cell): a read guard says that nobody changes the value, or what else it stands
/// for, while the guard lives. New readers wait while another process writes or waits to write.
///
/// What a process changes counts from the moment at which its guard is dropped, all at once, as
/// with a [`Mutex`](crate::Mutex). Neither a reader nor a writer that dies keeps others waiting.
///
/// Before the server runs, and after it, readers keep out the writers of their own process only.
///
/// ```
/// use tine::shared::RwLock;
///
/// let prices = RwLock::new("prices", [1.0, 2.0])?;
/// prices.write()[1] = 3.0;
/// let (one, other) = (prices.read(), prices.read());
/// assert_eq!((one[1], other[1]), (3.0, 3.0));
/// assert!(prices.try_write().is_none());
/// # Ok::<(), tine::shared::Error>(())
/// ```
pub struct RwLock<T> {
    gate: Gate,
    copies: Copies<T>,
}

/// An [`RwLock`] that this process reads, with its value.
#[must_use = "nobody can write for as long as the guard lives"]
pub struct RwLockReadGuard<T> {
    gate: Gate,
    caller: Caller,
    claim: Claim,
    value: T,
}

/// An [`RwLock`] that this process alone has, with its value.
#[must_use = "nobody can read for as long as the guard lives"]
pub struct RwLockWriteGuard<T: Plain> {
    gate: Gate,
    caller: Caller,
    held: Held,
    draft: Draft<T>,
}

impl<T: Plain> RwLock<T> {
    /// Makes one with this value.
    ///
    /// # Errors
    /// The name is invalid or taken, the server runs already, or the system has no memory.
    pub fn new(name: &str, value: T) -> Result<RwLock<T>, Error> {
        memory::check(name)?;
        let rwlock = RwLock::make(name, &value)?;
        memory::add(name, rwlock.gate);
        Ok(rwlock)
    }

    pub(crate) fn make(name: &str, value: &T) -> Result<RwLock<T>, Error> {
        Ok(RwLock { gate: Gate::make(name)?, copies: Copies::make(name, value)? })
    }

    /// Waits until no process writes or waits to write, and reads.
    ///
    /// A process that reads and then writes waits for itself.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; or if this
    /// process holds as many locks as it can (12).
    pub fn read(&self) -> RwLockReadGuard<T> {
        match self.read_as(Caller::here(), None) {
            Some(guard) => guard,
            None => unreachable!("it waits for as long as it takes"),
        }
    }

    /// Reads, if no process writes or waits to write.
    ///
    /// # Panics
    /// As [`RwLock::read`].
    pub fn try_read(&self) -> Option<RwLockReadGuard<T>> {
        self.read_as(Caller::here(), Some(Instant::now()))
    }

    /// Waits to read, for this time at most.
    ///
    /// # Panics
    /// As [`RwLock::read`].
    pub fn try_read_for(&self, time: Duration) -> Option<RwLockReadGuard<T>> {
        self.read_as(Caller::here(), deadline_in(time))
    }

    /// Waits until no other process reads or writes, and takes the value alone.
    ///
    /// # Panics
    /// As [`RwLock::read`].
    pub fn write(&self) -> RwLockWriteGuard<T> {
        match self.write_as(Caller::here(), None) {
            Some(guard) => guard,
            None => unreachable!("it waits for as long as it takes"),
        }
    }

    /// Takes the value alone, if no other process reads or writes.
    ///
    /// # Panics
    /// As [`RwLock::read`].
    pub fn try_write(&self) -> Option<RwLockWriteGuard<T>> {
        self.write_as(Caller::here(), Some(Instant::now()))
    }

    /// Waits to write, for this time at most.
    ///
    /// # Panics
    /// As [`RwLock::read`].
    pub fn try_write_for(&self, time: Duration) -> Option<RwLockWriteGuard<T>> {
        self.write_as(Caller::here(), deadline_in(time))
    }

    pub(crate) fn read_as(&self, caller: Caller, deadline: Option<Instant>) -> Option<RwLockReadGuard<T>> {
        let gate = self.gate;
        let (claim, side) = gate.enter(caller, deadline)?;
        Some(RwLockReadGuard { gate, caller, claim, value: self.copies.load(side) })
    }

    pub(crate) fn write_as(&self, caller: Caller, deadline: Option<Instant>) -> Option<RwLockWriteGuard<T>> {
        let held = self.gate.shut(caller, deadline)?;
        Some(RwLockWriteGuard { gate: self.gate, caller, held, draft: Draft::of(self.copies, held.side) })
    }

    /// Opens it after the death of a process that claimed it.
    #[cfg(test)]
    pub(crate) fn let_go(&self, dead: LetGo) {
        self.gate.let_go(dead);
    }
}

impl<T: Plain> RwLockWriteGuard<T> {
    /// Whether the last writer died before it had let go.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.held.owner_died
    }
}

impl<T> Deref for RwLockReadGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> Deref for RwLockWriteGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.draft
    }
}

impl<T: Plain> DerefMut for RwLockWriteGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.draft
    }
}

impl<T> Drop for RwLockReadGuard<T> {
    fn drop(&mut self) {
        self.gate.leave(self.caller, self.claim);
    }
}

impl<T: Plain> Drop for RwLockWriteGuard<T> {
    fn drop(&mut self) {
        self.gate.open(self.caller, self.held, self.draft.store());
    }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RwLock<T> {}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("is_held", &self.gate.is_shut()).finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.value, f)
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockWriteGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;
    use crate::owner::test_members;

    #[test]
    fn readers_see_whole_values_and_writers_lose_none() {
        let (rwlock, members) = (RwLock::make("rwlock", &(0u64, 0u64)).expect("memory"), test_members(6));
        std::thread::scope(|threads| {
            for number in 0..6 {
                let caller = Caller { own: members.owner(number), members };
                threads.spawn(move || {
                    for _ in 0..500 {
                        if number < 2 {
                            let mut value = rwlock.write_as(caller, None).expect("no deadline");
                            *value = (value.0 + 1, value.1 + 1);
                        } else {
                            let value = rwlock.read_as(caller, None).expect("no deadline");
                            assert_eq!(value.0, value.1);
                        }
                    }
                });
            }
        });
        assert_eq!(*rwlock.read(), (1000, 1000));
    }

    #[test]
    fn a_dead_reader_and_a_dead_writer_keep_nobody_out() {
        let (rwlock, members) = (RwLock::make("rwlock", &1u32).expect("memory"), test_members(2));
        let caller = |number| Caller { own: members.owner(number), members };
        let now = || Some(Instant::now());
        let end = || {
            let (owner, claims) = members.end(0, &members.lives[0]);
            assert!(!claims.is_empty());
            rwlock.let_go(LetGo { owner, object: 0 });
        };
        let _ = ManuallyDrop::new(rwlock.read_as(caller(0), None));
        assert!(rwlock.write_as(caller(1), now()).is_none());
        assert!(rwlock.read_as(caller(1), now()).is_some());
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| rwlock.write_as(caller(1), None).is_some());
            end();
            assert!(writer.join().expect("no panic"));
        });
        let mut dies = ManuallyDrop::new(rwlock.write_as(caller(0), None).expect("no deadline"));
        **dies = 2;
        assert!(rwlock.read_as(caller(1), now()).is_none());
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| *rwlock.read_as(caller(1), None).expect("no deadline"));
            end();
            assert_eq!(reader.join().expect("no panic"), 1);
        });
        assert!(rwlock.write_as(caller(1), None).expect("no deadline").owner_died());
    }
}
