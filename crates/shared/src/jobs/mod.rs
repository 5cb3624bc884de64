//! Work that outlives a connection: jobs, which worker processes do.

mod pool;
mod state;

use std::fmt;
use std::marker::PhantomData;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::copies::{load, store};
use crate::error::Error;
use crate::lock::{deadline_in, time_to_look};
use crate::memory;
use crate::owner;
use crate::plain::Plain;
use crate::sync::{self, Acquire, Relaxed, fence};
use crate::text::Text;
use crate::turn::{Caller, Turn};
use pool::{Pool, RESULT, SUBMITTED, TO_DO};
use state::{Phase, State};

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
        let pool = Pool::make(name, capacity, J::WORDS, R::WORDS.max(Failure::WORDS))?;
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
    use crate::owner::Owner;
    use crate::show::{Figure, Shown as _};

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
