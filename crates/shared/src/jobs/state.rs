//! The states of a job. No shared memory here.

use crate::owner::{OWNER, Owner};

/// How often a job is begun at most: once more when its worker has died.
const ATTEMPTS: u64 = 2;

// The bits of a word: phase, attempts, the process that writes or works, the number of the use.
const PHASE: u64 = 0b111;
const ATTEMPT: u64 = 1 << 3;
const ATTEMPT_BITS: u64 = 0b11 << 3;
const OWNER_SHIFT: u32 = 5;
const USE_SHIFT: u32 = 34;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Free,
    /// It is being written.
    Writing,
    /// It waits for a worker.
    Waiting,
    /// A worker works on it.
    Running,
    /// It has a result.
    Done,
    /// It has failed.
    Failed,
}

/// The state of a place for a job, as one word: so it changes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

/// The next state of a job whose process has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterDeath {
    /// It was never complete: there is none.
    Free(State),
    /// Another worker begins it again.
    Again(State),
    /// It has killed two workers.
    Failed(State),
}

impl State {
    pub(super) fn phase(self) -> Phase {
        match self.0 & PHASE {
            1 => Phase::Writing,
            2 => Phase::Waiting,
            3 => Phase::Running,
            4 => Phase::Done,
            5 => Phase::Failed,
            _ => Phase::Free,
        }
    }

    /// The process that writes the job, or works on it.
    pub(super) fn owner(self) -> Option<Owner> {
        Owner::in_word((self.0 >> OWNER_SHIFT) as u32 & OWNER)
    }

    /// The number of the use of this place: a job in the same place later has another one.
    pub(super) fn number(self) -> u32 {
        (self.0 >> USE_SHIFT) as u32
    }

    fn attempts(self) -> u64 {
        (self.0 & ATTEMPT_BITS) / ATTEMPT
    }

    /// The next use of this place, which this process begins.
    pub(super) fn begin(self, owner: Owner) -> State {
        let next = (u64::from(self.number()) + 1) << USE_SHIFT;
        State(next).with(Phase::Writing, Some(owner))
    }

    /// The job is written.
    pub(super) fn submit(self) -> State {
        self.with(Phase::Waiting, None)
    }

    /// A worker begins it.
    pub(super) fn run(self, owner: Owner) -> State {
        State(self.0 + ATTEMPT).with(Phase::Running, Some(owner))
    }

    /// The worker has ended it.
    pub(super) fn finish(self, has_failed: bool) -> State {
        self.with(if has_failed { Phase::Failed } else { Phase::Done }, None)
    }

    /// The next state after the death of this process; `None` if it neither writes nor does the
    /// job.
    pub(super) fn after_death(self, dead: Owner) -> Option<AfterDeath> {
        if self.owner() != Some(dead) {
            return None;
        }
        match self.phase() {
            Phase::Writing => Some(AfterDeath::Free(self.with(Phase::Free, None))),
            Phase::Running if self.attempts() < ATTEMPTS => {
                Some(AfterDeath::Again(self.with(Phase::Waiting, None)))
            }
            Phase::Running => Some(AfterDeath::Failed(self.finish(true))),
            Phase::Free | Phase::Waiting | Phase::Done | Phase::Failed => None,
        }
    }

    fn with(self, phase: Phase, owner: Option<Owner>) -> State {
        let kept = self.0 & (ATTEMPT_BITS | u64::MAX << USE_SHIFT);
        let owner = owner.map_or(0, |owner| u64::from(owner.bits()) << OWNER_SHIFT);
        State(kept | owner | phase as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_begun_again_once() {
        let (one, two) = (Owner::member(1, 5), Owner::member(2, 5));
        let writing = State(0).begin(one);
        assert_eq!((writing.phase(), writing.number(), writing.owner()), (Phase::Writing, 1, Some(one)));
        assert_eq!(writing.after_death(two), None);
        let Some(AfterDeath::Free(free)) = writing.after_death(one) else { panic!("{writing:?}") };
        assert_eq!((free.phase(), free.number(), free.owner()), (Phase::Free, 1, None));
        let running = writing.submit().run(two);
        assert_eq!(running.phase(), Phase::Running);
        let Some(AfterDeath::Again(waiting)) = running.after_death(two) else { panic!("{running:?}") };
        assert_eq!((waiting.phase(), waiting.number()), (Phase::Waiting, 1));
        let Some(AfterDeath::Failed(failed)) = waiting.run(one).after_death(one) else { panic!() };
        assert_eq!(failed.phase(), Phase::Failed);
        let done = waiting.run(one).finish(false);
        assert_eq!((done.phase(), done.after_death(one)), (Phase::Done, None));
        assert_eq!(done.begin(one).number(), 2);
        assert_eq!(done.begin(one).attempts(), 0);
    }

    #[test]
    fn any_word_is_a_state() {
        for word in [u64::MAX, 6, 7, u64::MAX << USE_SHIFT, OWNER.into()] {
            let state = State(word);
            let _ = (state.phase(), state.owner(), state.after_death(Owner::ANONYMOUS));
            assert_eq!(state.begin(Owner::member(0, 0)).phase(), Phase::Writing);
        }
    }
}
