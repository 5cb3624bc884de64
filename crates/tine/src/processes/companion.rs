//! A process beside those that serve: the log writer and the observer, of which a server has one,
//! and the link of a service. The process that starts it also starts it again.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tine_sys::exec::{CStrings, Execution, Group};
use tine_sys::process::{Fresh, reap};

use crate::error::reason;
use crate::jail::protection::empty_bounding_set;
use crate::lifecycle::backoff::RestartBackoff;
use crate::lifecycle::outcome::Outcome;
use crate::log::Log;
use crate::system::users::Identity;

/// Messages of a companion are counted in these times.
const WINDOW: Duration = Duration::from_secs(1);

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

/// Messages of a companion that may still be taken: one that sends without end does not keep its
/// server busy.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u32,
    since: Instant,
    taken: u32,
}

impl Allowance {
    /// So many in a second.
    pub(crate) fn new(most: u32, now: Instant) -> Allowance {
        Allowance { most, since: now, taken: 0 }
    }

    /// Counts one that is taken.
    pub(crate) fn take(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= WINDOW {
            (self.since, self.taken) = (now, 0);
        }
        self.taken += 1;
    }

    /// Whether one may be taken now, which counts it.
    pub(crate) fn grants(&mut self, now: Instant) -> bool {
        let may = self.waits_until(now).is_none();
        if may {
            self.take(now);
        }
        may
    }

    /// When the next one may be taken; `None` for now.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        let until = self.since + WINDOW;
        (self.taken >= self.most && until > now).then_some(until)
    }
}

/// Executes the file of this process as a companion, which finds the number of its channel in a
/// variable, the only one in its environment. Returns only on error.
pub(crate) fn execute(
    fresh: &Fresh,
    variable: &str,
    channel: &OwnedFd,
    user: Option<&Identity>,
    parent: i32,
) -> io::Error {
    tine_sys::signal::defaults(fresh);
    // The rest once it has opened everything.
    empty_bounding_set();
    let mut arguments = CStrings::default();
    arguments.push_bytes(b"tine");
    let mut environment = CStrings::default();
    environment.push_bytes(format!("{variable}={}", channel.as_raw_fd()).as_bytes());
    let null = match rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(null) => null,
        Err(why) => return io::Error::other(format!("/dev/null: {}", reason(&why.into()))),
    };
    let path = CString::from(c"/proc/self/exe");
    Execution {
        path: &path,
        arguments: &mut arguments,
        environment: &mut environment,
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: None,
        limits: &[],
        nice: 0,
        group: Group::Own,
        parent: Some(parent),
        cgroup: None,
        identity: user.map(|user| user.to_ids()),
        kept: Some(channel.as_fd()),
        passed: None,
        jail: None,
    }
    .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_for_their_window() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut allowance = Allowance::new(20, start);
        (0..20).for_each(|_| allowance.take(at(1)));
        assert_eq!(allowance.waits_until(at(3)), Some(at(1_000)));
        assert_eq!(allowance.waits_until(at(1_000)), None);
        allowance.take(at(1_000));
        assert_eq!((allowance.taken, allowance.waits_until(at(1_999))), (1, None));
        let granted = (0..30).filter(|_| allowance.grants(at(1_500))).count();
        assert_eq!((granted, allowance.grants(at(2_000))), (19, true));
    }
}
