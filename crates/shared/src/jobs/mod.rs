//! Work that outlives a connection: jobs, which worker processes do.

mod state;

use std::fmt;
use std::marker::PhantomData;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::copies::{load, store};
use crate::error::Error;
use crate::lock::{Lock, deadline_in, time_to_look};
use crate::memory;
use crate::owner::{self, ClaimKind, Owner, Standing};
use crate::plain::Plain;
use crate::show::{Figure, LetGo, Shown};
use crate::sync::{self, AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, fence};
use crate::text::Text;
use crate::turn::{Caller, Turn};
use state::{AfterDeath, Phase, State};

/// The most jobs that can be pending at a time.
const MAX_CAPACITY: usize = 1 << 16;

/// Why a job has failed.
pub type Failure = Text<120>;

/// Jobs for worker processes: a handler submits one, and its connection may end before the job
/// does.
///
/// `Server::jobs` starts the workers and says what they do. A job whose worker dies is begun once
/// more. Its result is kept under its id until its place is needed: there are as many places for
/// results as jobs can be pending.
pub struct Jobs<J, R> {
    name: &'static str,
    pool: Pool,
    types: PhantomData<fn(J) -> R>,
}

/// What does not depend on the types.
#[derive(Clone, Copy)]
struct Pool {
    /// Who submits.
    lock: Lock,
    /// [`Place::BEFORE_JOB`] words, those of the job, and those of the result, for each place.
    words: &'static [AtomicU64],
    /// Words of a place.
    stride: usize,
    /// Words of a job.
    job: usize,
    capacity: usize,
    /// What was counted, and the next ticket.
    counts: &'static [AtomicU64],
    /// Changes when there is something to do, or when there is a result.
    turns: &'static [AtomicU32],
}

const SUBMITTED: usize = 0;
const DONE: usize = 1;
const FAILED: usize = 2;
const RETRIED: usize = 3;

const TO_DO: usize = 0;
const RESULT: usize = 1;
const IS_CLOSED: usize = 2;

/// The value of that word once it is closed: no chance value has it.
const CLOSED: u32 = 0x7c10_5ed1;

/// A place for a job.
#[derive(Clone, Copy)]
struct Place {
    state: &'static AtomicU64,
    /// Jobs are begun in this order.
    ticket: &'static AtomicU64,
    job: &'static [AtomicU64],
    result: &'static [AtomicU64],
}

impl Place {
    const BEFORE_JOB: usize = 2;
}

/// The id of a job. As text it is a number, which a client can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(u64);

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JobState<R> {
    /// It waits for a worker.
    Waiting,
    /// A worker works on it.
    Running,
    /// It is done, with this result.
    Done(R),
    /// It has failed: its function returned this error, or has killed two workers.
    Failed(Failure),
    /// There is no such job, or its result is no longer kept.
    Unknown,
}

/// As many jobs are pending as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsFull;

impl fmt::Display for JobsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many jobs are pending as can be; submit it later, or make a larger capacity")
    }
}

impl std::error::Error for JobsFull {}

impl<J: Plain, R: Plain> Jobs<J, R> {
    /// Makes a pool of which this many jobs can be pending at a time.
    ///
    /// # Errors
    /// The name is invalid or taken, the capacity is 0 or too large, the server runs already, or
    /// the system has no memory.
    pub fn new(name: &str, capacity: usize) -> Result<Jobs<J, R>, Error> {
        memory::check(name)?;
        memory::check_capacity(name, capacity, MAX_CAPACITY)?;
        let result = R::WORDS.max(Failure::WORDS);
        let stride = Place::BEFORE_JOB + J::WORDS + result;
        let pool = Pool {
            lock: Lock::make(name)?,
            words: memory::words(name, 2 * capacity * stride)?,
            stride,
            job: J::WORDS,
            capacity,
            counts: memory::words(name, 4)?,
            turns: memory::futexes(name, 3)?,
        };
        memory::add(name, pool);
        Ok(Jobs { name: name.to_owned().leak(), pool, types: PhantomData })
    }

    /// The name of the pool.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Submits a job. Returns its id.
    ///
    /// # Errors
    /// As many jobs are pending as can be.
    ///
    /// # Panics
    /// In a forker, which must not wait for others that submit; or if this process holds as many
    /// locks as it can (12).
    pub fn submit(&self, job: J) -> Result<JobId, JobsFull> {
        let caller = Caller::here();
        let turn = Turn::take(self.pool.lock, caller);
        let (at, place) = self.pool.free_place().ok_or(JobsFull)?;
        let writing = State(place.state.load(Relaxed)).begin(caller.own);
        place.state.store(writing.0, Relaxed);
        // The words of the last result are not read as those of this job's.
        fence(sync::Release);
        store(place.job, &job);
        place.ticket.store(self.pool.counts[SUBMITTED].fetch_add(1, Relaxed), Relaxed);
        place.state.store(writing.submit().0, sync::Release);
        drop(turn);
        self.pool.tell(TO_DO, 1);
        Ok(JobId(u64::from(writing.number()) << 32 | at as u64))
    }

    /// How far a job is. Never waits.
    #[must_use]
    pub fn state(&self, id: JobId) -> JobState<R> {
        let Some(place) = self.pool.place((id.0 & u64::from(u32::MAX)) as usize) else {
            return JobState::Unknown;
        };
        loop {
            let before = State(place.state.load(Acquire));
            if u64::from(before.number()) != id.0 >> 32 {
                return JobState::Unknown;
            }
            let state = match before.phase() {
                Phase::Free => return JobState::Unknown,
                Phase::Writing | Phase::Waiting => return JobState::Waiting,
                Phase::Running => return JobState::Running,
                Phase::Done => JobState::Done(load(place.result)),
                Phase::Failed => JobState::Failed(load(place.result)),
            };
            fence(Acquire);
            if place.state.load(Relaxed) == before.0 {
                return state;
            }
        }
    }

    /// Waits until a job is done or has failed, for this time at most.
    ///
    /// # Panics
    /// In a forker.
    pub fn wait(&self, id: JobId, time: Duration) -> JobState<R> {
        owner::waiter();
        let deadline = deadline_in(time);
        loop {
            let seen = self.pool.turns[RESULT].load(Acquire);
            let state = self.state(id);
            let is_pending = matches!(state, JobState::Waiting | JobState::Running);
            if !is_pending || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return state;
            }
            sync::wait(&self.pool.turns[RESULT], seen, time_to_look(deadline));
        }
    }

    /// Waits for a job, does it, and keeps its result. False if there will be no more. Runs in a
    /// worker.
    #[doc(hidden)]
    pub fn work(&self, work: &mut dyn FnMut(J) -> Result<R, String>) -> bool {
        let Some((place, running)) = self.pool.next(owner::waiter()) else { return false };
        let result = work(load(place.job));
        match &result {
            Ok(result) => store(place.result, result),
            Err(why) => store(place.result, &Failure::cut(why)),
        }
        self.pool.finish(place, running, result.is_err());
        true
    }
}

impl Pool {
    fn place(self, at: usize) -> Option<Place> {
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
    fn free_place(self) -> Option<(usize, Place)> {
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
    fn next(self, owner: Owner) -> Option<(Place, State)> {
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

    fn finish(self, place: Place, running: State, has_failed: bool) {
        let done = running.finish(has_failed);
        if place.state.compare_exchange(running.0, done.0, AcqRel, Relaxed).is_ok() {
            self.counts[if has_failed { FAILED } else { DONE }].fetch_add(1, Relaxed);
        }
        self.tell(RESULT, u32::MAX);
    }

    /// Wakes processes that wait for this.
    fn tell(self, turn: usize, processes: u32) {
        self.turns[turn].fetch_add(1, AcqRel);
        sync::wake(&self.turns[turn], processes);
    }

    /// Takes up what a process has left.
    fn after_death(self, dead: Owner) {
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

impl<J, R> Clone for Jobs<J, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<J, R> Copy for Jobs<J, R> {}

impl<J, R> fmt::Debug for Jobs<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("name", &self.name)
            .field("capacity", &self.pool.capacity)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<JobId, ParseIntError> {
        text.parse().map(JobId)
    }
}

impl Plain for JobId {
    const WORDS: usize = 1;

    fn put(&self, put: &mut impl FnMut(u64)) {
        put(self.0);
    }

    fn take(take: &mut impl FnMut() -> u64) -> Self {
        JobId(take())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_in_their_order_and_results_are_kept_by_id() {
        let jobs: Jobs<u32, u64> = Jobs::new("in_their_order", 2).expect("memory");
        let ids = [1, 2].map(|number| jobs.submit(number).expect("room"));
        assert_eq!(jobs.submit(3), Err(JobsFull));
        assert_eq!(jobs.state(ids[0]), JobState::Waiting);
        for expected in [1, 2] {
            assert!(jobs.work(&mut |number| {
                assert_eq!((number, jobs.state(ids[number as usize - 1])), (expected, JobState::Running));
                if number == 2 { Err("two".into()) } else { Ok(100 + u64::from(number)) }
            }));
        }
        assert_eq!(jobs.wait(ids[0], Duration::MAX), JobState::Done(101));
        assert_eq!(jobs.state(ids[1]), JobState::Failed(Text::cut("two")));
        // The oldest result makes room for the last job.
        for number in 4..7 {
            jobs.submit(number).expect("room");
            assert!(jobs.work(&mut |number| Ok(number.into())));
        }
        assert_eq!(jobs.state(ids[0]), JobState::Unknown);
        assert_eq!(jobs.state(JobId(u64::MAX)), JobState::Unknown);
        jobs.pool.close();
        assert!(!jobs.work(&mut |_| unreachable!("there is none")));
    }

    #[test]
    fn the_job_of_a_dead_worker_is_begun_again_once() {
        let jobs: Jobs<u32, u64> = Jobs::new("begun_again", 4).expect("memory");
        let id = jobs.submit(7).expect("room");
        for (worker, after) in
            [(1, JobState::Waiting), (2, JobState::Failed(Failure::cut("the job has killed two workers")))]
        {
            let worker = Owner::member(worker, 0);
            jobs.pool.next(worker).expect("a job");
            assert_eq!(jobs.state(id), JobState::Running);
            jobs.pool.after_death(worker);
            assert_eq!(jobs.state(id), after);
        }
        let figures = jobs.pool.figures();
        assert!(figures.contains(&Figure::counter("retried", 1)), "{figures:?}");
        assert!(figures.contains(&Figure::counter("failed", 1)), "{figures:?}");
    }

    #[test]
    fn any_words_are_jobs() {
        let jobs: Jobs<u64, u64> = Jobs::new("any_words", 3).expect("memory");
        for (at, word) in jobs.pool.words.iter().enumerate() {
            word.store((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), Relaxed);
        }
        jobs.pool.after_death(Owner::member(3, 3));
        for at in 0..6 {
            for number in 0..4 {
                let _ = jobs.state(JobId(number << 32 | at));
            }
        }
        let _ = jobs.submit(1);
        assert_eq!(jobs.pool.figures().len(), 7);
    }
}
