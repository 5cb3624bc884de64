//! Permits: at most so many processes at a time.

use std::fmt;
use std::time::{Duration, Instant};

use crate::bell::Bell;
use crate::error::Error;
use crate::lock::{deadline_in, next_object};
use crate::memory;
use crate::owner::{Claim, ClaimKind, Members, Owner, Standing};
use crate::show::{Figure, LetGo, Shown};
use crate::suspicion::Suspicion;
use crate::sync::{AcqRel, AtomicU32, Relaxed, Release};
use crate::turn::Caller;

/// The most permits.
const MAX_PERMITS: usize = 1 << 16;

/// Permits that processes acquire and give back: at most so many are at one place at a time.
///
/// A permit comes back when its [`Permit`] is dropped, or when its process ends in whatever way:
/// the supervisor gives it back then.
///
/// ```
/// use tine::shared::Semaphore;
///
/// let database = Semaphore::new("database", 2)?;
/// let first = database.acquire();
/// let second = database.try_acquire();
/// assert!(second.is_some());
/// assert!(database.try_acquire().is_none());
/// drop(first);
/// assert_eq!(database.available(), 1);
/// # Ok::<(), tine::shared::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Semaphore {
    /// The holder of each permit, as a lock has it.
    permits: &'static [AtomicU32],
    /// The permit that came back last.
    hint: &'static AtomicU32,
    /// Permits come back.
    freed: Bell,
    /// The number of the object, for claims.
    object: u32,
}

/// A permit of a [`Semaphore`]. It comes back when this is dropped.
#[must_use = "the permit comes back when this is dropped"]
pub struct Permit {
    semaphore: Semaphore,
    place: usize,
    caller: Caller,
    claim: Claim,
}

impl Semaphore {
    /// Makes a semaphore with this many permits.
    ///
    /// # Errors
    /// There are no permits or more than 65,536, the name is invalid or taken, the server runs
    /// already, or the system has no memory or descriptors.
    pub fn new(name: &str, permits: usize) -> Result<Semaphore, Error> {
        memory::check(name)?;
        memory::check_capacity(name, permits, MAX_PERMITS)?;
        let semaphore = Semaphore::make(name, permits)?;
        memory::add(name, semaphore);
        Ok(semaphore)
    }

    pub(crate) fn make(name: &str, permits: usize) -> Result<Semaphore, Error> {
        Ok(Semaphore {
            permits: memory::futexes(name, permits)?,
            hint: &memory::futexes(name, 1)?[0],
            freed: Bell::make(name)?,
            object: next_object(),
        })
    }

    /// Waits for a permit.
    ///
    /// A process that holds all permits waits for itself.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; or if this
    /// process holds as many locks and permits as it can (12).
    pub fn acquire(&self) -> Permit {
        match self.acquire_as(Caller::here(), None) {
            Some(permit) => permit,
            None => unreachable!("it waits for as long as it takes"),
        }
    }

    /// Acquires a permit if one is free.
    ///
    /// # Panics
    /// As [`Semaphore::acquire`].
    pub fn try_acquire(&self) -> Option<Permit> {
        self.acquire_as(Caller::here(), Some(Instant::now()))
    }

    /// Waits for a permit, for this time at most.
    ///
    /// # Panics
    /// As [`Semaphore::acquire`].
    pub fn try_acquire_for(&self, time: Duration) -> Option<Permit> {
        self.acquire_as(Caller::here(), deadline_in(time))
    }

    /// How many permits are free now.
    #[must_use]
    pub fn available(&self) -> usize {
        let members = crate::owner::members();
        self.permits.iter().filter(|permit| self.is_free(permit.load(Relaxed), members)).count()
    }

    pub(crate) fn acquire_as(&self, caller: Caller, deadline: Option<Instant>) -> Option<Permit> {
        // Before the permit is taken: a holder without a claim is none.
        let claim = caller.members.claim(caller.own, self.object, ClaimKind::Hold);
        let mut suspicion = Suspicion::default();
        let mut take = || self.take(caller, &mut suspicion);
        let waits = deadline.is_none_or(|deadline| deadline > Instant::now());
        let taken = take().or_else(|| if waits { self.wait(caller, deadline, take) } else { None });
        match taken {
            Some(place) => Some(Permit { semaphore: *self, place, caller, claim }),
            None => {
                caller.members.unclaim(claim);
                None
            }
        }
    }

    fn wait(
        &self,
        caller: Caller,
        deadline: Option<Instant>,
        take: impl FnMut() -> Option<usize>,
    ) -> Option<usize> {
        let taken = self.freed.event.wait(deadline, take);
        if self.permits.iter().any(|permit| self.is_free(permit.load(Relaxed), caller.members)) {
            self.freed.event.notify(1);
        }
        taken
    }

    /// Takes a permit that is free.
    fn take(&self, caller: Caller, suspicion: &mut Suspicion) -> Option<usize> {
        let count = self.permits.len();
        let first = self.hint.load(Relaxed) as usize % count;
        (first..count).chain(0..first).find(|&place| {
            let permit = &self.permits[place];
            let word = permit.load(Relaxed);
            let standing = Owner::in_word(word).map(|owner| caller.members.standing(owner, self.object));
            let is_free = suspicion.is_free(place, word, standing);
            is_free && permit.compare_exchange(word, caller.own.bits(), AcqRel, Relaxed).is_ok()
        })
    }

    /// Whether the permit with this word is free: nobody has it, or a dead process.
    fn is_free(&self, word: u32, members: Members) -> bool {
        Owner::in_word(word).is_none_or(|owner| members.standing(owner, self.object) == Standing::Dead)
    }

    /// The event of a permit that comes back.
    #[cfg(not(loom))]
    pub(crate) fn bell(&self) -> Bell {
        self.freed
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let semaphore = self.semaphore;
        let own = self.caller.own.bits();
        // It fails if another process has taken the permit away, beside the library.
        let _ = semaphore.permits[self.place].compare_exchange(own, 0, Release, Relaxed);
        semaphore.hint.store(self.place as u32, Relaxed);
        semaphore.freed.ring(1);
        self.caller.members.unclaim(self.claim);
    }
}

impl Shown for Semaphore {
    fn kind(&self) -> &'static str {
        "semaphore"
    }

    fn figures(&self) -> Vec<Figure> {
        let available = self.available();
        vec![
            Figure::gauge("held", (self.permits.len() - available) as f64),
            Figure::gauge("available", available as f64),
            Figure::gauge("capacity", self.permits.len() as f64),
        ]
    }

    fn let_go(&self, dead: LetGo) {
        let of_dead =
            |permit: &&AtomicU32| permit.compare_exchange(dead.owner.bits(), 0, AcqRel, Relaxed).is_ok();
        let freed = self.permits.iter().filter(of_dead).count();
        // It may also have been woken in the place of another process.
        self.freed.ring_again(1 + freed as u32);
    }

    fn number(&self) -> Option<u32> {
        Some(self.object)
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("permits", &self.permits.len())
            .finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::mem::ManuallyDrop;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::owner::test_members as members;

    #[test]
    fn no_more_processes_than_permits() {
        let semaphore = Semaphore::make("permits", 3).expect("memory");
        let (here, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let members = members(8);
        std::thread::scope(|threads| {
            for number in 0..8 {
                let (here, most) = (&here, &most);
                threads.spawn(move || {
                    let caller = Caller { own: members.owner(number), members };
                    for _ in 0..500 {
                        let permit = semaphore.acquire_as(caller, None).expect("a permit");
                        most.fetch_max(here.fetch_add(1, Relaxed) + 1, Relaxed);
                        std::thread::yield_now();
                        here.fetch_sub(1, Relaxed);
                        drop(permit);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(semaphore.available(), 3);
    }

    #[test]
    fn the_permits_of_a_dead_process_come_back() {
        let semaphore = Semaphore::make("permits", 1).expect("memory");
        let members = members(2);
        let [dead, caller] = [0, 1].map(|number| Caller { own: members.owner(number), members });
        let _ = ManuallyDrop::new(semaphore.acquire_as(dead, None));
        assert!(semaphore.acquire_as(caller, Some(Instant::now())).is_none());
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| semaphore.acquire_as(caller, None).is_some());
            members.lives[0].store(1, Relaxed);
            semaphore.let_go(LetGo { owner: dead.own, object: 0 });
            assert!(waiter.join().expect("no panic"));
        });
        // Without the supervisor, too.
        let next = Caller { own: members.owner(0), members };
        let _ = ManuallyDrop::new(semaphore.acquire_as(next, None));
        members.lives[0].store(2, Relaxed);
        assert!(semaphore.acquire_as(caller, Some(Instant::now())).is_some());
    }
}
