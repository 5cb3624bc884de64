//! When a process that has ended is started again. No system call here.

use std::time::{Duration, Instant};

/// A process that lived so long begins anew with restarts at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// The past and future of a process that has to be there: started again at once the first time, then after
/// 100 ms, doubling to 5 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartBackoff {
    running: bool,
    started: Instant,
    deaths: u32,
    /// When to start it again.
    due: Option<Instant>,
}

impl RestartBackoff {
    /// It runs, and was started now.
    pub(crate) fn running(now: Instant) -> RestartBackoff {
        RestartBackoff { running: true, started: now, deaths: 0, due: None }
    }

    /// It has ended, and is to come back.
    pub(crate) fn exited(&mut self, now: Instant) {
        self.running = false;
        if now.saturating_duration_since(self.started) >= HEALTHY {
            self.deaths = 0;
        }
        self.deaths += 1;
        let wait = match self.deaths {
            1 => Duration::ZERO,
            deaths => Duration::from_millis(100 << (deaths - 2).min(6)).min(LONGEST),
        };
        self.due = Some(now + wait);
    }

    /// It has ended, and is not missed.
    pub(crate) fn retired(&mut self) {
        self.running = false;
        self.due = None;
    }

    /// Gives up a restart that was to come.
    pub(crate) fn forget_restart(&mut self) {
        self.due = None;
    }

    /// When it is started again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it neither runs nor comes back.
    pub(crate) fn is_done(&self) -> bool {
        !self.running && self.due.is_none()
    }

    /// Whether it is to be started, being due by this time, or at all if none is given. Then it counts as
    /// running from now on.
    pub(crate) fn take_due(&mut self, by: Option<Instant>, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| by.is_none_or(|by| due <= by));
        if is_due {
            *self = RestartBackoff { running: true, started: now, due: None, ..*self };
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dies_often_waits_longer() {
        let mut now = Instant::now();
        let mut backoff = RestartBackoff::running(now);
        for wait in [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            backoff.exited(now);
            let due = now + Duration::from_millis(wait);
            assert_eq!(backoff.due(), Some(due));
            assert!(wait == 0 || !backoff.take_due(Some(due - Duration::from_millis(1)), now));
            now = due;
            assert!(backoff.take_due(Some(now), now));
        }
        now += HEALTHY;
        backoff.exited(now);
        assert_eq!(backoff.due(), Some(now));
    }

    #[test]
    fn who_has_left_stays_away() {
        let now = Instant::now();
        let mut backoff = RestartBackoff::running(now);
        assert!(!backoff.is_done());
        backoff.exited(now);
        assert!(!backoff.is_done());
        backoff.retired();
        assert!(backoff.is_done() && !backoff.take_due(None, now));
    }
}
