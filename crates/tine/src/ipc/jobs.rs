//! Pools of workers that do the jobs of handlers (`tine::shared::Jobs`).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tine_shared::{Jobs, Plain};

use crate::error::HandlerError;
use crate::lifecycle::outcome::ExitReport;

/// The workers of a pool, and what they do.
pub(crate) struct JobPool {
    pub(crate) name: String,
    pub(crate) workers: usize,
    /// Does one job. Runs in a worker.
    turn: Box<dyn FnMut() -> Turn>,
}

/// How the turn of a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A job is done, or has failed.
    Done,
    /// A job has panicked: what it has left in this process is unknown.
    Panicked,
    /// There will be no more jobs.
    Closed,
}

impl JobPool {
    pub(crate) fn new<J: Plain, R: Plain>(
        jobs: Jobs<J, R>,
        workers: usize,
        mut work: impl FnMut(J) -> Result<R, HandlerError> + 'static,
    ) -> JobPool {
        let turn = move || {
            let mut turn = Turn::Done;
            let mut once = |job: J| match catch_unwind(AssertUnwindSafe(|| work(job))) {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(error)) => Err(failure(&ExitReport::from_error(&error))),
                Err(thrown) => {
                    turn = Turn::Panicked;
                    Err(failure(&ExitReport::from_panic(&*thrown)))
                }
            };
            if jobs.work(&mut once) { turn } else { Turn::Closed }
        };
        JobPool { name: jobs.name().to_owned(), workers, turn: Box::new(turn) }
    }

    /// Waits for a job and does it. Runs in a worker.
    pub(crate) fn turn(&mut self) -> Turn {
        (self.turn)()
    }
}

/// The text of an error or panic.
fn failure(report: &ExitReport) -> String {
    report.to_parts().1.to_owned()
}

impl fmt::Debug for JobPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobPool { name, workers, .. } = self;
        f.debug_struct("JobPool").field("name", name).field("workers", workers).finish_non_exhaustive()
    }
}
