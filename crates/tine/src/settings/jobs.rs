//! The workers that do jobs.

use tine_shared::{Jobs, Plain};

use super::Server;
use crate::error::HandlerError;
use crate::ipc::jobs::JobPool;

/// Jobs.
impl Server {
    /// Starts this many worker processes for jobs that handlers submit
    /// ([`Jobs`](crate::shared::Jobs)), and says what they do. A worker does one job after the
    /// other, as the user of the connections. One that dies is restarted, and its job is begun once
    /// more; one whose function panics is restarted, too, and that job has failed. When the server
    /// drains, the jobs that wait are done, within the drain timeout.
    ///
    /// ```no_run
    /// use std::io::{BufRead, Write};
    /// use tine::shared::{Jobs, Text};
    ///
    /// let thumbnails: Jobs<Text<200>, u64> = Jobs::new("thumbnails", 100)?;
    /// tine::Server::bind("[::]:9999")?
    ///     .jobs(thumbnails, 4, |path| Ok(std::fs::metadata(&*path)?.len()))
    ///     .run(move |mut connection| {
    ///         let id = thumbnails.submit(Text::new("/tmp/cat.png")?)?;
    ///         Ok(writeln!(connection, "job {id}")?)
    ///     })
    /// # ; Ok::<(), tine::Error>(())
    /// ```
    #[must_use]
    pub fn jobs<J: Plain, R: Plain>(
        mut self,
        jobs: Jobs<J, R>,
        workers: usize,
        work: impl FnMut(J) -> Result<R, HandlerError> + 'static,
    ) -> Server {
        self.jobs.push(JobPool::new(jobs, workers, work));
        self
    }

    /// The processes of the server that are members of those that share state: connections, and
    /// the workers behind them.
    pub(crate) fn members(&self) -> usize {
        self.settings.slots() + self.jobs.iter().map(|pool| pool.workers).sum::<usize>()
    }
}
