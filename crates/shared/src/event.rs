//! A place where processes wait for a change that another process makes.
//!
//! A process that waits marks the word, looks whether the change is there already, and sleeps while
//! the word stays as it is. A process that makes a change looks at the mark afterwards: one of the
//! two sees the other.
//!
//! A change for one process alone wakes one only. It has taken the mark away, so the woken process
//! sets it again, for those behind it, and looks whether there is more for them. If it dies before
//! that, the supervisor wakes another one in its place ([`Event::wake_again`]).

use std::time::Instant;

use crate::error::Error;
use crate::lock::time_to_look;
use crate::memory;
use crate::sync::{self, AcqRel, AtomicU32, Relaxed, SeqCst, fence};

/// Processes may wait.
const WAITERS: u32 = 1;
/// A change: the rest of the word counts them.
const CHANGE: u32 = 2;

/// Wakes all.
pub(crate) const ALL: u32 = u32::MAX;

/// A place where processes wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    word: &'static AtomicU32,
}

impl Event {
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(crate) fn make(name: &str) -> Result<Event, Error> {
        Ok(Event { word: &memory::futexes(name, 1)?[0] })
    }

    /// Calls `take` until it returns something, and sleeps in between until a change; `None` at the
    /// deadline. `take` is called at least once.
    pub(crate) fn wait<R>(self, deadline: Option<Instant>, mut take: impl FnMut() -> Option<R>) -> Option<R> {
        loop {
            let marked = self.word.fetch_or(WAITERS, AcqRel) | WAITERS;
            // Either this process sees the change below, or who made it sees the mark.
            fence(SeqCst);
            let taken = take();
            if taken.is_some() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return taken;
            }
            sync::wait(self.word, marked, time_to_look(deadline));
        }
    }

    /// Tells of a change that this process has made: wakes up to this many.
    #[inline]
    pub(crate) fn notify(self, processes: u32) {
        fence(SeqCst);
        let mut word = self.word.load(Relaxed);
        while word & WAITERS != 0 {
            let changed = word.wrapping_add(CHANGE) & !WAITERS;
            match self.word.compare_exchange(word, changed, AcqRel, Relaxed) {
                Ok(_) => return sync::wake(self.word, processes),
                Err(now) => word = now,
            }
        }
    }

    /// Says that processes may wait: the next change is told.
    pub(crate) fn mark(self) {
        self.word.fetch_or(WAITERS, AcqRel);
        fence(SeqCst);
    }

    /// Wakes up to this many, whether or not there is a mark: in the place of a process that has
    /// died after it was woken, or before it woke others. Runs in the supervisor.
    pub(crate) fn wake_again(self, processes: u32) {
        self.mark();
        self.word.fetch_add(CHANGE, AcqRel);
        sync::wake(self.word, processes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU32 as Count;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_ends_with_the_change_or_the_deadline() {
        let event = Event::make("event").expect("memory");
        assert_eq!(event.wait(Some(Instant::now()), || Some(1)), Some(1));
        let mut looks = 0;
        let ended = event.wait(Some(Instant::now() + Duration::from_millis(1)), || {
            looks += 1;
            None::<()>
        });
        assert!(ended.is_none() && looks >= 2, "{looks}");
    }

    #[test]
    fn every_change_reaches_somebody() {
        let (event, left, taken) = (Event::make("event").expect("memory"), Count::new(0), Count::new(0));
        let take = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..500 {
                        event.wait(None, take).expect("no deadline");
                        taken.fetch_add(1, Relaxed);
                        if left.load(Relaxed) > 0 {
                            event.notify(1);
                        }
                    }
                });
            }
            for _ in 0..2000 {
                left.fetch_add(1, Relaxed);
                event.notify(1);
            }
        });
        assert_eq!((left.into_inner(), taken.into_inner()), (0, 2000));
    }
}
