//! The places of jobs, in shared memory: what does not depend on the types.

use super::Failure;
use super::state::{AfterDeath, Phase, State};
use crate::copies::store;
use crate::error::Error;
use crate::lock::Lock;
use crate::memory;
use crate::owner::{self, ClaimKind, Owner, Standing};
use crate::show::{Figure, LetGo, Shown};
use crate::sync::{self, AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed};

/// What does not depend on the types.
#[derive(Clone, Copy)]
pub(super) struct Pool {
    /// Held by the process that submits.
    pub(super) lock: Lock,
    /// [`Place::BEFORE_JOB`] words, those of the job, and those of the result, for each place.
    pub(super) words: &'static [AtomicU64],
    /// Words of a place.
    pub(super) stride: usize,
    /// Words of a job.
    pub(super) job: usize,
    pub(super) capacity: usize,
    /// What was counted, and the next ticket.
    pub(super) counts: &'static [AtomicU64],
    /// Changes when there is something to do, or when there is a result.
    pub(super) turns: &'static [AtomicU32],
}

pub(super) const SUBMITTED: usize = 0;
const DONE: usize = 1;
const FAILED: usize = 2;
const RETRIED: usize = 3;

pub(super) const TO_DO: usize = 0;
pub(super) const RESULT: usize = 1;
const IS_CLOSED: usize = 2;

/// The value of that word once it is closed: no chance value has it.
const CLOSED: u32 = 0x7c10_5ed1;

/// A place for a job.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) state: &'static AtomicU64,
    /// Jobs are begun in this order.
    pub(super) ticket: &'static AtomicU64,
    pub(super) job: &'static [AtomicU64],
    pub(super) result: &'static [AtomicU64],
}

impl Place {
    const BEFORE_JOB: usize = 2;
}

impl Pool {
    /// Makes a pool for jobs and results of these numbers of words.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(super) fn make(name: &str, capacity: usize, job: usize, result: usize) -> Result<Pool, Error> {
        let stride = Place::BEFORE_JOB + job + result;
        Ok(Pool {
            lock: Lock::make(name)?,
            words: memory::words(name, 2 * capacity * stride)?,
            stride,
            job,
            capacity,
            counts: memory::words(name, 4)?,
            turns: memory::futexes(name, 3)?,
        })
    }

    pub(super) fn place(self, at: usize) -> Option<Place> {
        let start = at.checked_mul(self.stride)?;
        let words = self.words.get(start..start + self.stride)?;
        let [state, ticket, rest @ ..] = words else { return None };
        let (job, result) = rest.split_at(self.job);
        Some(Place { state, ticket, job, result })
    }

    fn places(self) -> impl Iterator<Item = (usize, Place)> {
        (0..2 * self.capacity).filter_map(move |at| Some((at, self.place(at)?)))
    }

    fn states(self) -> impl Iterator<Item = State> {
        self.places().map(|(_, place)| State(place.state.load(Relaxed)))
    }

    /// A free place, or that of the oldest result; `None` if as many jobs are pending as can be.
    pub(super) fn free_place(self) -> Option<(usize, Place)> {
        let is_pending = |state: State| match state.phase() {
            Phase::Waiting => true,
            // A process that is dead, or claims no job, neither writes nor works.
            Phase::Writing | Phase::Running => {
                let standing = |owner| owner::members().standing(owner, self.lock.object());
                state.owner().map(standing) == Some(Standing::Alive)
            }
            Phase::Free | Phase::Done | Phase::Failed => false,
        };
        if self.states().filter(|state| is_pending(*state)).count() >= self.capacity {
            return None;
        }
        let usable = |place: &Place| !is_pending(State(place.state.load(Relaxed)));
        let age = |place: &Place| match State(place.state.load(Relaxed)).phase() {
            Phase::Free => 0,
            _ => place.ticket.load(Relaxed).saturating_add(1),
        };
        self.places().filter(|(_, place)| usable(place)).min_by_key(|(_, place)| age(place))
    }

    /// Begins the job that has waited longest. Waits until there is one; `None` if there will be
    /// none.
    pub(super) fn next(self, owner: Owner) -> Option<(Place, State)> {
        loop {
            let seen = self.turns[TO_DO].load(Acquire);
            let waiting = |place: &Place| State(place.state.load(Acquire)).phase() == Phase::Waiting;
            let places = self.places().map(|(_, place)| place);
            let oldest = places.filter(waiting).min_by_key(|place| place.ticket.load(Relaxed));
            let Some(place) = oldest else {
                if self.turns[IS_CLOSED].load(Relaxed) == CLOSED {
                    return None;
                }
                sync::wait(&self.turns[TO_DO], seen, sync::LOOK_AGAIN);
                continue;
            };
            let state = State(place.state.load(Acquire));
            let running = state.run(owner);
            if state.phase() == Phase::Waiting
                && place.state.compare_exchange(state.0, running.0, AcqRel, Relaxed).is_ok()
            {
                return Some((place, running));
            }
        }
    }

    pub(super) fn finish(self, place: Place, running: State, has_failed: bool) {
        let done = running.finish(has_failed);
        if place.state.compare_exchange(running.0, done.0, AcqRel, Relaxed).is_ok() {
            self.counts[if has_failed { FAILED } else { DONE }].fetch_add(1, Relaxed);
        }
        self.tell(RESULT, u32::MAX);
    }

    /// Wakes processes that wait for this.
    pub(super) fn tell(self, turn: usize, processes: u32) {
        self.turns[turn].fetch_add(1, AcqRel);
        sync::wake(&self.turns[turn], processes);
    }

    /// Takes up what a process has left.
    pub(super) fn after_death(self, dead: Owner) {
        for (_, place) in self.places() {
            let state = State(place.state.load(Acquire));
            let Some(after) = state.after_death(dead) else { continue };
            let (next, count) = match after {
                AfterDeath::Free(next) => (next, None),
                AfterDeath::Again(next) => (next, Some(RETRIED)),
                AfterDeath::Failed(next) => {
                    store(place.result, &Failure::cut("the job has killed two workers"));
                    (next, Some(FAILED))
                }
            };
            if place.state.compare_exchange(state.0, next.0, AcqRel, Relaxed).is_ok() {
                count.into_iter().for_each(|count| _ = self.counts[count].fetch_add(1, Relaxed));
            }
        }
        // It may have been woken for a job that it did not begin.
        self.tell(TO_DO, u32::MAX);
        self.tell(RESULT, u32::MAX);
    }
}

impl Shown for Pool {
    fn kind(&self) -> &'static str {
        "jobs"
    }

    fn figures(&self) -> Vec<Figure> {
        let count = |phase: Phase| self.states().filter(|state| state.phase() == phase).count() as f64;
        let [submitted, done, failed, retried] =
            [SUBMITTED, DONE, FAILED, RETRIED].map(|count| self.counts[count].load(Relaxed));
        vec![
            Figure::gauge("capacity", self.capacity as f64),
            Figure::gauge("waiting", count(Phase::Waiting)),
            Figure::gauge("running", count(Phase::Running)),
            Figure::counter("submitted", submitted),
            Figure::counter("done", done),
            Figure::counter("failed", failed),
            Figure::counter("retried", retried),
        ]
    }

    fn number(&self) -> Option<u32> {
        Some(self.lock.object())
    }

    fn let_go(&self, dead: LetGo) {
        self.lock.let_go(dead.owner);
        self.after_death(dead.owner);
    }

    fn enter_worker(&self) {
        let _ = owner::members().claim(owner::waiter(), self.lock.object(), ClaimKind::Hold);
    }

    fn close(&self) {
        self.turns[IS_CLOSED].store(CLOSED, Relaxed);
        self.tell(TO_DO, u32::MAX);
    }
}
