//! Watches a program up to the point that it could be copied at, and looks at it there.

use std::io;
use std::time::{Duration, Instant};

use tine_sys::trace::{TraceEvent, TraceStop, Tracer};

use super::census::{Census, Shown};
use super::gather::{StoppedTask, Wanted, shown};
use super::options::WarmCheckSettings;
use super::start::Subject;
use super::watch::{Reached, Watch, WatchStep};

/// The next event, if it comes before the deadline: a program that is busy has one at any time.
fn next_before(tracer: &mut Tracer, deadline: Option<Instant>) -> io::Result<Option<TraceStop>> {
    match deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        true => Ok(None),
        false => tracer.next(deadline),
    }
}

/// Much more than a thread needs to end that has nothing left to do.
const THREAD_END: Duration = Duration::from_secs(1);

impl Subject<'_> {
    /// Watches the program until it stops, and looks at it there.
    ///
    /// # Errors
    /// The kernel refuses to trace, or `/proc` is not there.
    pub(super) fn take_census(&mut self, settings: &WarmCheckSettings) -> io::Result<Census> {
        let begin = Instant::now();
        let mut watch = Watch::new(self.main, settings.until);
        let deadline = begin.checked_add(settings.timeout);
        let mut reached = loop {
            let reached = self.watch(&mut watch, deadline)?;
            if let Some(reached) = self.let_threads_end(&mut watch, reached)? {
                break reached;
            }
        };
        let elapsed = begin.elapsed();
        let mut found = Ok(Shown::default());
        if reached.is_point() {
            found = shown(
                self.main,
                &Wanted {
                    connection: &self.connection,
                    before_start: &self.before_start.get().cloned().unwrap_or_default(),
                    made: &watch.others(),
                    timers_created: watch.timers_created,
                    tokens: &self.placeholder.tokens(),
                },
            );
            if found.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::PermissionDenied) {
                (reached, found) = (Reached::Hidden, Ok(Shown::default()));
            }
            // Where it was killed meanwhile, there was nothing to look at.
            while let Some(TraceStop { task, event }) = self.tracer.next(Some(Instant::now()))? {
                if let (true, TraceEvent::Ended(how)) = (task == self.main, event) {
                    (reached, found) = (Reached::Ended(how), Ok(Shown::default()));
                }
            }
        }
        let mut shown = found?;
        // One address has several names, of which not each is set.
        let names = self.names();
        shown.found.private.retain(|name| names.iter().any(|set| set == name));
        Ok(Census {
            reached,
            timeout: settings.timeout,
            programs: watch.executed,
            calls: watch.calls,
            elapsed,
            threads_started: watch.threads,
            interval_timers: watch.interval_timers.armed(),
            sources: watch.sources,
            file_changes: watch.file_changes,
            shown,
        })
    }

    /// Lets the other threads of a program that has reached a point run on, for a moment: the C
    /// library and interpreters say that a thread has ended before the kernel does. `None` if one
    /// of them has executed a program, which is at no point.
    fn let_threads_end(&mut self, watch: &mut Watch, reached: Reached) -> io::Result<Option<Reached>> {
        let deadline = Instant::now().checked_add(THREAD_END);
        while reached.is_point() && watch.has_threads() {
            let Some(TraceStop { task, event }) = next_before(&mut self.tracer, deadline)? else { break };
            let look = StoppedTask { id: task, connection: &self.connection };
            match (event, watch.on(task, &event, &look)) {
                (_, WatchStep::Over(Reached::Ended(how))) => return Ok(Some(Reached::Ended(how))),
                // It stays stopped, as the first one does.
                (_, WatchStep::Over(_)) | (TraceEvent::Ended(_), _) => {}
                (event, WatchStep::Resume(signal)) => {
                    self.tracer.resume(task, signal)?;
                    if task == self.main && matches!(event, TraceEvent::Executed(_)) {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(reached))
    }

    /// Lets the program run until it stops. Without a deadline, the time is too long for the clock.
    fn watch(&mut self, watch: &mut Watch, deadline: Option<Instant>) -> io::Result<Reached> {
        loop {
            let Some(TraceStop { task, event }) = next_before(&mut self.tracer, deadline)? else {
                return Ok(watch.time_out());
            };
            let look = StoppedTask { id: task, connection: &self.connection };
            if task == self.main && matches!(event, TraceEvent::Executed(_)) {
                self.note_start();
            }
            match watch.on(task, &event, &look) {
                WatchStep::Resume(_) if matches!(event, TraceEvent::Ended(_)) => {}
                WatchStep::Resume(signal) => self.tracer.resume(task, signal)?,
                WatchStep::Over(reached) => return Ok(reached),
            }
        }
    }
}
