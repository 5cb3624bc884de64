//! When a process that has ended is started again. No system call here.

use std::time::{Duration, Instant};

/// A process that lived so long begins anew with restarts at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// The past and future of a process that has to be there: started again at once the first time, then after
/// 100 ms, doubling to 5 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Care {
    running: bool,
    started: Instant,
    deaths: u32,
    /// When to start it again.
    due: Option<Instant>,
}

impl Care {
    /// It runs, and was started now.
    pub(crate) fn running(now: Instant) -> Care {
        Care { running: true, started: now, deaths: 0, due: None }
    }

    /// It has ended, and is to come back.
    pub(crate) fn died(&mut self, now: Instant) {
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
    pub(crate) fn left(&mut self) {
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
    pub(crate) fn is_gone(&self) -> bool {
        !self.running && self.due.is_none()
    }

    /// Whether it is to be started, being due by this time, or at all if none is given. Then it counts as
    /// running from now on.
    pub(crate) fn take_due(&mut self, by: Option<Instant>, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| by.is_none_or(|by| due <= by));
        if is_due {
            *self = Care { running: true, started: now, due: None, ..*self };
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
        let mut care = Care::running(now);
        for wait in [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            care.died(now);
            let due = now + Duration::from_millis(wait);
            assert_eq!(care.due(), Some(due));
            assert!(wait == 0 || !care.take_due(Some(due - Duration::from_millis(1)), now));
            now = due;
            assert!(care.take_due(Some(now), now));
        }
        now += HEALTHY;
        care.died(now);
        assert_eq!(care.due(), Some(now));
    }

    #[test]
    fn who_has_left_stays_away() {
        let now = Instant::now();
        let mut care = Care::running(now);
        assert!(!care.is_gone());
        care.died(now);
        assert!(!care.is_gone());
        care.left();
        assert!(care.is_gone() && !care.take_due(None, now));
    }
}
