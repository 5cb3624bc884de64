//! The lock below all locks of the library: it opens when its holder dies.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::memory;
use crate::owner::{Claim, ClaimKind, Members, OWNER, Owner, Standing};
use crate::show::{Figure, LetGo, Shown};
use crate::suspicion::Suspicion;
use crate::sync::{self, AcqRel, Acquire, AtomicU32, LOOK_AGAIN, Relaxed, Release};

// A word has its holder in the low bits, and these.
/// Which of two copies of the value is the one that counts.
const SIDE: u32 = 1 << 29;
/// The last holder has died: the next one is told.
const DIED: u32 = 1 << 30;
/// Processes wait.
const WAITERS: u32 = 1 << 31;

const _: () = assert!(OWNER & (SIDE | DIED | WAITERS) == 0);

/// A lock in shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    word: &'static AtomicU32,
    /// The number of the object, for claims.
    object: u32,
}

/// A lock that this process holds.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Held {
    owner: Owner,
    claim: Claim,
    /// The last holder died before it had let go.
    pub(crate) owner_died: bool,
    /// Which copy of the value counts: 0 or 1.
    pub(crate) side: usize,
}

/// A lock was not free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFree;

/// The next step of a process that wants the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Write this word: the lock is held then.
    Take(u32),
    /// Wait, with this word.
    Wait(u32),
}

/// Decides about a word.
///
/// `waited` says whether this process has waited: others may wait behind it, whose mark its wake
/// has taken away. `was_silent` says that the word has been the same for [`LOOK_AGAIN`], and the
/// holder without a claim.
fn decide(word: u32, standing: Option<Standing>, own: Owner, waited: bool, was_silent: bool) -> Step {
    let waiters = if waited { WAITERS } else { word & WAITERS };
    let take = Step::Take(own.bits() | word & SIDE | waiters);
    match standing {
        None | Some(Standing::Dead) => take,
        Some(Standing::Silent) if was_silent => take,
        Some(Standing::Silent | Standing::Alive) => Step::Wait(word | WAITERS),
    }
}

impl Lock {
    /// Makes a lock for an object of this name.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(crate) fn make(name: &str) -> Result<Lock, Error> {
        Ok(Lock::of(&memory::futexes(name, 1)?[0], next_object()))
    }

    /// The lock in a word, for an object of this number.
    #[inline]
    pub(crate) fn of(word: &'static AtomicU32, object: u32) -> Lock {
        Lock { word, object }
    }

    /// The number of the object.
    pub(crate) fn object(self) -> u32 {
        self.object
    }

    /// Whether it is held, or will be.
    pub(crate) fn is_held(self) -> bool {
        self.word.load(Relaxed) & OWNER != 0
    }

    /// The word without the mark of those that wait, what is known about the holder in it, and
    /// which copy of the value counts.
    pub(crate) fn look(self, members: Members) -> (u32, Option<Standing>, usize) {
        let word = self.word.load(Acquire);
        let standing = Owner::in_word(word).map(|owner| members.standing(owner, self.object));
        (word & !WAITERS, standing, side_of(word))
    }

    /// Takes the lock, until `deadline` at most; without one, it waits for as long as it takes.
    ///
    /// # Errors
    /// It was not free in time.
    #[inline(always)]
    pub(crate) fn acquire(
        self,
        own: Owner,
        members: Members,
        deadline: Option<Instant>,
    ) -> Result<Held, NotFree> {
        let claim = members.claim(own, self.object, ClaimKind::Hold);
        let word = self.word.load(Relaxed);
        let taken = own.bits() | word & SIDE;
        if word & !SIDE == 0 && self.word.compare_exchange(word, taken, AcqRel, Relaxed).is_ok() {
            return Ok(Held { owner: own, claim, owner_died: false, side: side_of(word) });
        }
        self.acquire_slowly(own, members, claim, deadline)
    }

    #[cold]
    #[inline(never)]
    fn acquire_slowly(
        self,
        own: Owner,
        members: Members,
        claim: Claim,
        deadline: Option<Instant>,
    ) -> Result<Held, NotFree> {
        let (mut waited, mut was_long, mut suspicion) = (false, false, Suspicion::default());
        loop {
            let word = self.word.load(Acquire);
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let standing = Owner::in_word(word).map(|owner| match is_late || was_long {
                true => members.standing(owner, self.object),
                // Its claims are in cache lines that it writes with each lock: not before it has
                // held this one for long.
                false if members.is_gone(owner) => Standing::Dead,
                false => Standing::Alive,
            });
            let was_silent = suspicion.is_free(0, word & !WAITERS, standing);
            match decide(word, standing, own, waited, was_silent) {
                Step::Take(taken) => {
                    if self.word.compare_exchange(word, taken, AcqRel, Relaxed).is_ok() {
                        let owner_died = standing.is_some() || word & DIED != 0;
                        return Ok(Held { owner: own, claim, owner_died, side: side_of(word) });
                    }
                }
                Step::Wait(_) if is_late => {
                    members.unclaim(claim);
                    return Err(NotFree);
                }
                Step::Wait(with_waiters) => {
                    if word != with_waiters
                        && self.word.compare_exchange(word, with_waiters, Relaxed, Relaxed).is_err()
                    {
                        continue;
                    }
                    was_long = sync::wait(self.word, with_waiters, time_to_look(deadline));
                    waited = true;
                }
            }
        }
    }

    /// Lets go of the lock. With `other_side`, the other copy of the value counts from now on.
    #[inline(always)]
    pub(crate) fn release(self, held: Held, members: Members, other_side: bool) {
        let mut word = self.word.load(Relaxed);
        // Unless another process has taken it away.
        while word & OWNER == held.owner.bits() {
            let side = if other_side { !word & SIDE } else { word & SIDE };
            match self.word.compare_exchange(word, side, Release, Relaxed) {
                Ok(_) => {
                    if word & WAITERS != 0 {
                        sync::wake(self.word, 1);
                    }
                    break;
                }
                Err(now) => word = now,
            }
        }
        members.unclaim(held.claim);
    }

    /// Opens the lock after the death of a process that claimed it: it may have held it, or have
    /// been woken in the place of another one. Runs in the supervisor.
    pub(crate) fn let_go(self, dead: Owner) {
        let mut word = self.word.load(Relaxed);
        while word & OWNER == dead.bits() {
            match self.word.compare_exchange(word, word & SIDE | DIED, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        sync::wake(self.word, 1);
    }
}

/// What is shown of an object with a lock.
pub(crate) struct Shape {
    pub(crate) kind: &'static str,
    pub(crate) lock: Lock,
}

impl Shown for Shape {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn figures(&self) -> Vec<Figure> {
        vec![Figure::gauge("held", f64::from(u8::from(self.lock.is_held())))]
    }

    fn let_go(&self, dead: LetGo) {
        self.lock.let_go(dead.owner);
    }

    fn number(&self) -> Option<u32> {
        Some(self.lock.object())
    }
}

/// The number of the next object that processes claim.
pub(crate) fn next_object() -> u32 {
    next_objects(1)
}

/// The first of so many numbers for an object with several locks.
pub(crate) fn next_objects(count: u32) -> u32 {
    use std::sync::atomic::AtomicU32;
    static OBJECTS: AtomicU32 = AtomicU32::new(0);
    OBJECTS.fetch_add(count, Relaxed)
}

fn side_of(word: u32) -> usize {
    usize::from(word & SIDE != 0)
}

/// The end of a time from now on; `None` if it never comes.
pub(crate) fn deadline_in(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// How long a process waits before it looks again.
pub(crate) fn time_to_look(deadline: Option<Instant>) -> Duration {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_decides() {
        use Standing::{Alive, Dead, Silent};
        let (own, other) = (Owner::member(1, 2), Owner::member(3, 4).bits());
        let mine = own.bits();
        for (word, standing, waited, was_silent, step) in [
            (0, None, false, false, Step::Take(mine)),
            (SIDE | DIED, None, false, false, Step::Take(mine | SIDE)),
            (0, None, true, false, Step::Take(mine | WAITERS)),
            (WAITERS, None, false, false, Step::Take(mine | WAITERS)),
            (other, Some(Alive), false, false, Step::Wait(other | WAITERS)),
            (other, Some(Alive), true, true, Step::Wait(other | WAITERS)),
            (other | SIDE, Some(Dead), false, false, Step::Take(mine | SIDE)),
            (other, Some(Silent), true, false, Step::Wait(other | WAITERS)),
            (other, Some(Silent), true, true, Step::Take(mine | WAITERS)),
        ] {
            assert_eq!(decide(word, standing, own, waited, was_silent), step, "{word:x} {standing:?}");
        }
    }

    #[test]
    fn a_time_without_end_is_for_ever() {
        use crate::{Broadcast, Mutex, Queue, RwLock, Select, Semaphore};

        let ever = Duration::MAX;
        assert_eq!(deadline_in(ever), None);
        assert!(Mutex::new("ever_mutex", 0u8).expect("memory").try_lock_for(ever).is_some());
        let rwlock = RwLock::new("ever_rwlock", 0u8).expect("memory");
        assert!(rwlock.try_read_for(ever).is_some());
        assert!(rwlock.try_write_for(ever).is_some());
        let semaphore = Semaphore::new("ever_semaphore", 1).expect("memory");
        assert!(semaphore.try_acquire_for(ever).is_some());
        let queue = Queue::new("ever_queue", 1).expect("memory");
        assert_eq!(queue.push_for(7u8, ever), Ok(()));
        let mut select = Select::new().and_then(|select| select.queue(&queue, 'q')).expect("a descriptor");
        assert_eq!(select.wait_for(ever).expect("a queue"), Some('q'));
        assert_eq!(queue.pop_for(ever), Some(7));
        let news = Broadcast::<u8>::new("ever_news", 1).expect("memory");
        let mut subscription = news.subscribe();
        news.send(7);
        assert_eq!(subscription.next_for(ever).map(|message| message.value), Some(7));
    }
}
