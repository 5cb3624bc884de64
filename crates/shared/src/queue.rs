//! A queue that any process fills and empties.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::bell::Bell;
use crate::copies;
use crate::error::Error;
use crate::event::Event;
use crate::lock::{Lock, deadline_in};
use crate::memory;
use crate::plain::Plain;
use crate::show::{Figure, LetGo, Shown};
use crate::sync::{AtomicU64, Relaxed, Release};
use crate::turn::{Caller, Turn};

/// The most values that a queue can hold.
const MAX_CAPACITY: usize = 1 << 24;

/// A queue of a limited length, which any number of processes fill and empty: each value is popped
/// once, in the order in which they were pushed.
///
/// A process that dies while it pushes or pops, at whatever instruction, leaves the queue whole:
/// its value is in the queue or not. What a process had popped when it died is gone.
///
/// ```
/// use tine::shared::Queue;
///
/// let jobs = Queue::new("jobs", 100)?;
/// jobs.push(7u32);
/// assert_eq!(jobs.try_push(8), Ok(()));
/// assert_eq!((jobs.pop(), jobs.try_pop(), jobs.try_pop()), (7, Some(8), None));
/// # Ok::<(), tine::shared::Error>(())
/// ```
pub struct Queue<T> {
    pub(crate) ring: Ring,
    value: PhantomData<fn() -> T>,
}

/// The queue is full, and this value not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The queue without the type of its values.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    /// Held by the process that changes the queue.
    pub(crate) lock: Lock,
    /// How many values were popped. Each change of the queue is one store to this or the next.
    popped: &'static AtomicU64,
    /// How many values were pushed.
    pushed: &'static AtomicU64,
    slots: &'static [AtomicU64],
    capacity: usize,
    /// There are more values.
    filled: Bell,
    /// There are fewer values.
    emptied: Event,
}

impl Ring {
    /// The number of values, if nobody changes it meanwhile; otherwise more or fewer, but not 0 if
    /// it was never 0.
    fn len(&self) -> usize {
        let popped = self.popped.load(Relaxed);
        (self.pushed.load(Relaxed).wrapping_sub(popped) as usize).min(self.capacity)
    }

    /// Whether there is no room; false if there was room meanwhile.
    fn is_full(&self) -> bool {
        let pushed = self.pushed.load(Relaxed);
        pushed.wrapping_sub(self.popped.load(Relaxed)) as usize == self.capacity
    }

    /// How many values were popped, and how many are there. Runs while the lock is held.
    ///
    /// Numbers that cannot be were written beside the library: the queue is empty then.
    fn ends(&self) -> (u64, usize) {
        let (popped, pushed) = (self.popped.load(Relaxed), self.pushed.load(Relaxed));
        match usize::try_from(pushed.wrapping_sub(popped)) {
            Ok(length) if length <= self.capacity => (popped, length),
            _ => {
                self.popped.store(pushed, Release);
                (pushed, 0)
            }
        }
    }

    /// The words of the value with this number.
    fn slot<T: Plain>(&self, number: u64) -> &'static [AtomicU64] {
        let place = (number % self.capacity as u64) as usize;
        &self.slots[place * T::WORDS..(place + 1) * T::WORDS]
    }
}

impl<T: Plain> Queue<T> {
    /// Makes an empty queue that holds this many values at most.
    ///
    /// # Errors
    /// The capacity is 0 or more than 16,777,216, the name is invalid or taken, the server runs
    /// already, or the system has no memory or descriptors.
    pub fn new(name: &str, capacity: usize) -> Result<Queue<T>, Error> {
        memory::check(name)?;
        memory::check_capacity(name, capacity, MAX_CAPACITY)?;
        let queue = Queue::<T>::make(name, capacity)?;
        memory::add(name, queue.ring);
        Ok(queue)
    }

    pub(crate) fn make(name: &str, capacity: usize) -> Result<Queue<T>, Error> {
        let ring = Ring {
            lock: Lock::make(name)?,
            popped: &memory::words(name, 1)?[0],
            pushed: &memory::words(name, 1)?[0],
            slots: memory::words(name, capacity.saturating_mul(T::WORDS))?,
            capacity,
            filled: Bell::make(name)?,
            emptied: Event::make(name)?,
        };
        Ok(Queue { ring, value: PhantomData })
    }

    /// Adds a value at the end; while the queue is full, it waits.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; or if this
    /// process holds as many locks as it can (12).
    pub fn push(&self, value: T) {
        let pushed = self.push_as(Caller::here(), value, None);
        debug_assert!(pushed, "it waits for as long as it takes");
    }

    /// Adds a value at the end, if there is room. It waits only while another process is about to
    /// push or pop.
    ///
    /// # Errors
    /// The queue is full.
    ///
    /// # Panics
    /// As [`Queue::push`].
    pub fn try_push(&self, value: T) -> Result<(), Full<T>> {
        if self.try_push_as(Caller::here(), value) { Ok(()) } else { Err(Full(value)) }
    }

    /// Adds a value at the end; while the queue is full, it waits for this time at most.
    ///
    /// # Errors
    /// The queue was full for that time.
    ///
    /// # Panics
    /// As [`Queue::push`].
    pub fn push_for(&self, value: T, time: Duration) -> Result<(), Full<T>> {
        let deadline = deadline_in(time);
        if self.push_as(Caller::here(), value, deadline) { Ok(()) } else { Err(Full(value)) }
    }

    /// Takes the value at the front; while there is none, it waits.
    ///
    /// # Panics
    /// As [`Queue::push`].
    pub fn pop(&self) -> T {
        match self.pop_as(Caller::here(), None) {
            Some(value) => value,
            None => unreachable!("it waits for as long as it takes"),
        }
    }

    /// Takes the value at the front, if there is one. It waits only while another process is about
    /// to push or pop.
    ///
    /// # Panics
    /// As [`Queue::push`].
    pub fn try_pop(&self) -> Option<T> {
        self.try_pop_as(Caller::here())
    }

    /// Takes the value at the front; while there is none, it waits for this time at most.
    ///
    /// # Panics
    /// As [`Queue::push`].
    pub fn pop_for(&self, time: Duration) -> Option<T> {
        self.pop_as(Caller::here(), deadline_in(time))
    }

    pub(crate) fn push_as(&self, caller: Caller, value: T, deadline: Option<Instant>) -> bool {
        let push = || self.try_push_as(caller, value).then_some(());
        if push().is_some() {
            return true;
        }
        // A process that dies after it was woken leaves a claim: another one is woken then.
        let _claim = caller.claims(self.ring.lock.object());
        let pushed = self.ring.emptied.wait(deadline, push);
        if !self.ring.is_full() {
            self.ring.emptied.notify(1);
        }
        pushed.is_some()
    }

    pub(crate) fn pop_as(&self, caller: Caller, deadline: Option<Instant>) -> Option<T> {
        let pop = || self.try_pop_as(caller);
        if let Some(value) = pop() {
            return Some(value);
        }
        let _claim = caller.claims(self.ring.lock.object());
        let popped = self.ring.filled.event.wait(deadline, pop);
        if !self.is_empty() {
            self.ring.filled.event.notify(1);
        }
        popped
    }

    pub(crate) fn try_push_as(&self, caller: Caller, value: T) -> bool {
        let ring = &self.ring;
        if ring.is_full() {
            return false;
        }
        let turn = Turn::take(ring.lock, caller);
        if !self.add(&value) {
            return false;
        }
        drop(turn);
        ring.filled.ring(1);
        true
    }

    /// Adds a value, if there is room. Runs while the lock is held.
    pub(crate) fn add(&self, value: &T) -> bool {
        let ring = &self.ring;
        let (popped, length) = ring.ends();
        if length == ring.capacity {
            return false;
        }
        let pushed = popped.wrapping_add(length as u64);
        copies::store(ring.slot::<T>(pushed), value);
        ring.pushed.store(pushed.wrapping_add(1), Release);
        true
    }

    pub(crate) fn try_pop_as(&self, caller: Caller) -> Option<T> {
        let ring = &self.ring;
        if ring.len() == 0 {
            return None;
        }
        let turn = Turn::take(ring.lock, caller);
        let (popped, length) = ring.ends();
        if length == 0 {
            return None;
        }
        let value = copies::load(ring.slot::<T>(popped));
        ring.popped.store(popped.wrapping_add(1), Release);
        drop(turn);
        ring.emptied.notify(1);
        Some(value)
    }
}

impl<T> Queue<T> {
    /// The number of values now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is no value now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.len() == 0
    }

    /// The most values that the queue holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.capacity
    }

    /// The event of a value that is pushed.
    #[cfg(not(loom))]
    pub(crate) fn bell(&self) -> Bell {
        self.ring.filled
    }
}

impl Shown for Ring {
    fn kind(&self) -> &'static str {
        "queue"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::gauge("length", self.len() as f64),
            Figure::gauge("capacity", self.capacity as f64),
            Figure::counter("pushed", self.pushed.load(Relaxed)),
            Figure::counter("popped", self.popped.load(Relaxed)),
        ]
    }

    fn let_go(&self, dead: LetGo) {
        self.lock.let_go(dead.owner);
        // It may have changed the queue without telling, or have been woken in the place of
        // another process.
        if self.len() > 0 {
            self.filled.ring_again(1);
        }
        if !self.is_full() {
            self.emptied.wake_again(1);
        }
    }

    fn number(&self) -> Option<u32> {
        Some(self.lock.object())
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Queue<T> {}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is full")
    }
}

impl<T: fmt::Debug> std::error::Error for Full<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::owner::test_members;

    #[test]
    fn every_value_is_popped_once_and_in_order() {
        const EACH: u64 = 2000;
        let queue = Queue::<(u64, u64)>::make("queue", 3).expect("memory");
        let members = test_members(6);
        let caller = |number| Caller { own: members.owner(number), members };
        let popped: Vec<Vec<(u64, u64)>> = std::thread::scope(|threads| {
            for number in 0..3 {
                threads.spawn(move || {
                    (0..EACH).for_each(|value| {
                        queue.push_as(caller(number), (number as u64, value), None);
                    });
                });
            }
            let pops = |number| {
                move || (0..EACH).map(|_| queue.pop_as(caller(number), None).expect("a value")).collect()
            };
            let poppers: Vec<_> = (3..6).map(|number| threads.spawn(pops(number))).collect();
            poppers.into_iter().map(|popper| popper.join().expect("no panic")).collect()
        });
        for values in &popped {
            for producer in 0..3 {
                let of_one = values.iter().filter(|(number, _)| *number == producer);
                assert!(of_one.is_sorted_by(|one, next| one.1 < next.1));
            }
        }
        let mut all: Vec<(u64, u64)> = popped.concat();
        all.sort_unstable();
        let expected: Vec<_> =
            (0..3).flat_map(|number| (0..EACH).map(move |value| (number, value))).collect();
        assert!(all == expected && queue.is_empty());
    }

    #[test]
    fn numbers_that_cannot_be_empty_the_queue() {
        let queue = Queue::make("queue", 2).expect("memory");
        let caller = Caller { own: test_members(1).owner(0), members: test_members(1) };
        for (popped, pushed) in [(0, 3), (5, 4), (0, u64::MAX)] {
            queue.ring.popped.store(popped, Relaxed);
            queue.ring.pushed.store(pushed, Relaxed);
            assert!(queue.len() <= 2, "{popped} {pushed}");
            assert_eq!(queue.try_pop_as(caller), None, "{popped} {pushed}");
            let pushes = [7, 8, 9].map(|value| queue.try_push_as(caller, value));
            assert_eq!((pushes, queue.len()), ([true, true, false], 2), "{popped} {pushed}");
            assert_eq!(queue.try_pop_as(caller), Some(7));
        }
    }

    #[test]
    fn a_full_queue_returns_the_value() {
        let queue = Queue::make("queue", 1).expect("memory");
        assert_eq!(queue.try_push(1), Ok(()));
        assert_eq!(queue.try_push(2), Err(Full(2)));
        assert_eq!(queue.push_for(3, Duration::from_millis(1)), Err(Full(3)));
        assert_eq!(queue.pop_for(Duration::from_secs(1)), Some(1));
        assert_eq!(queue.pop_for(Duration::from_millis(1)), None);
    }
}
