//! A process that a server has once, beside its services: the log writer, the observer. The first
//! process of the server starts it, and starts it again.

use std::time::{Duration, Instant};

use tine_sys::process::reap;

use crate::lifecycle::backoff::RestartBackoff;
use crate::lifecycle::outcome::Outcome;
use crate::log::Log;

/// A companion, as the process that starts it knows it.
#[derive(Debug)]
pub(crate) struct Companion {
    /// The value of `role=` in the log.
    role: &'static str,
    pid: Option<i32>,
    backoff: RestartBackoff,
    restarts: u32,
}

impl Companion {
    /// A companion that is about to be started.
    pub(crate) fn new(role: &'static str) -> Companion {
        Companion { role, pid: None, backoff: RestartBackoff::running(Instant::now()), restarts: 0 }
    }

    pub(crate) fn role(&self) -> &'static str {
        self.role
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Whether this process is it.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.pid == Some(pid)
    }

    /// How often it was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// It has been started as this process.
    pub(crate) fn started(&mut self, pid: i32) {
        self.pid = Some(pid);
    }

    /// It could not be started: that is tried again later.
    pub(crate) fn not_started(&mut self) {
        self.backoff.exited(Instant::now());
    }

    /// After SIGCHLD: reaps it if it has ended, and schedules its restart. True if it has.
    pub(crate) fn check(&mut self, log: &mut Log) -> bool {
        let Some(pid) = self.pid else { return false };
        let Ok(Some(ended)) = reap(pid) else { return false };
        let now = Instant::now();
        self.pid = None;
        self.backoff.exited(now);
        self.restarts += 1;
        let restart_in = self.backoff.due().map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        log.restart(self.role, ended.pid, &Outcome::new(ended.how, None), restart_in);
        true
    }

    /// When it is to be restarted, if it has ended.
    pub(crate) fn restart_at(&self) -> Option<Instant> {
        self.backoff.due()
    }

    /// Whether it is to be restarted now. It counts as running then.
    pub(crate) fn take_restart(&mut self) -> bool {
        let now = Instant::now();
        self.backoff.take_due(Some(now), now)
    }

    /// It is not started again. Returns its process, which the caller ends.
    pub(crate) fn retire(&mut self) -> Option<i32> {
        self.backoff.retired();
        self.pid.take()
    }
}
