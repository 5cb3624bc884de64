//! A value that one process at a time changes.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::copies::{Copies, Draft};
use crate::error::Error;
use crate::lock::{self, Held, Lock, NotFree, Shape, deadline_in};
use crate::memory;
use crate::owner;
use crate::plain::Plain;

/// A value that one process at a time changes.
///
/// The guard has a copy of the value. What is changed in it counts from the moment at which the
/// guard is dropped, all at once: a process that dies while it holds the mutex, at whatever
/// instruction, leaves the value as it was. The next one is told
/// ([`MutexGuard::owner_died`]), since something else that the mutex protects may be half done. A
/// panic drops the change, too.
///
/// The supervisor opens the mutex when it reaps its holder, so nobody waits for a dead process.
///
/// ```
/// use tine::shared::Mutex;
///
/// let total = Mutex::new("total", 0u64)?;
/// *total.lock() += 5;
/// assert_eq!(*total.lock(), 5);
/// # Ok::<(), tine::shared::Error>(())
/// ```
pub struct Mutex<T> {
    lock: Lock,
    copies: Copies<T>,
}

/// A [`Mutex`] that this process holds, with its value.
#[must_use = "the mutex is held for as long as the guard"]
pub struct MutexGuard<T: Plain> {
    lock: Lock,
    held: Held,
    draft: Draft<T>,
}

impl<T: Plain> Mutex<T> {
    /// Makes a mutex with this value.
    ///
    /// # Errors
    /// The name is invalid or taken, the server runs already, or the system has no memory.
    pub fn new(name: &str, value: T) -> Result<Mutex<T>, Error> {
        memory::check(name)?;
        let (word, copies) = Copies::behind_futex(name, &value)?;
        let mutex = Mutex { lock: Lock::of(word, lock::next_object()), copies };
        memory::add(name, Shape { kind: "mutex", lock: mutex.lock });
        Ok(mutex)
    }

    /// Waits until no other process holds the mutex, and takes it.
    ///
    /// A process that takes it twice waits for itself.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; or if this
    /// process holds as many locks as it can (12).
    #[inline]
    pub fn lock(&self) -> MutexGuard<T> {
        match self.take(None) {
            Ok(guard) => guard,
            Err(NotFree) => unreachable!("it waits for as long as it takes"),
        }
    }

    /// Takes the mutex if no process holds it.
    ///
    /// # Panics
    /// As [`Mutex::lock`].
    pub fn try_lock(&self) -> Option<MutexGuard<T>> {
        self.take(Some(Instant::now())).ok()
    }

    /// Waits for this time at most.
    ///
    /// # Panics
    /// As [`Mutex::lock`].
    pub fn try_lock_for(&self, time: Duration) -> Option<MutexGuard<T>> {
        self.take(deadline_in(time)).ok()
    }

    #[inline]
    fn take(&self, deadline: Option<Instant>) -> Result<MutexGuard<T>, NotFree> {
        let held = self.lock.acquire(owner::waiter(), owner::members(), deadline)?;
        Ok(MutexGuard { lock: self.lock, held, draft: Draft::of(self.copies, held.side) })
    }
}

impl<T: Plain> MutexGuard<T> {
    /// Whether the last holder died before it had let go.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.held.owner_died
    }
}

impl<T: Plain> Deref for MutexGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.draft
    }
}

impl<T: Plain> DerefMut for MutexGuard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.draft
    }
}

impl<T: Plain> Drop for MutexGuard<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release(self.held, owner::members(), self.draft.store());
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Mutex<T> {}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("is_held", &self.lock.is_held()).finish_non_exhaustive()
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for MutexGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
