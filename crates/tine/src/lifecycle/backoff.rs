//! Restart backoff of a required process: the delay before it is started again. No system call
//! here.

use std::time::{Duration, Instant};

/// A process that ran this long resets its backoff.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(5);

/// Restart backoff of a helper or a supervisor: no delay the first time, then 100 ms, doubling to 5
/// s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartBackoff {
    running: bool,
    started: Instant,
    /// Exits since the process last ran for [`HEALTHY`].
    exits: u32,
    /// Time of the restart.
    due: Option<Instant>,
}

impl RestartBackoff {
    /// The backoff of a process that was started now.
    pub(crate) fn running(now: Instant) -> RestartBackoff {
        RestartBackoff { running: true, started: now, exits: 0, due: None }
    }

    /// Records that the process exited, and schedules its restart.
    pub(crate) fn exited(&mut self, now: Instant) {
        self.running = false;
        if now.saturating_duration_since(self.started) >= HEALTHY {
            self.exits = 0;
        }
        self.exits += 1;
        let delay = match self.exits {
            1 => Duration::ZERO,
            exits => Duration::from_millis(100 << (exits - 2).min(6)).min(LONGEST),
        };
        self.due = Some(now + delay);
    }

    /// Records that the process exited and is not needed any more.
    pub(crate) fn retired(&mut self) {
        self.running = false;
        self.due = None;
    }

    /// Cancels a scheduled restart.
    pub(crate) fn forget_restart(&mut self) {
        self.due = None;
    }

    /// The time of the scheduled restart.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the process neither runs nor will be restarted.
    pub(crate) fn is_done(&self) -> bool {
        !self.running && self.due.is_none()
    }

    /// Takes a restart that is due by this time, or any restart if no time is given; the process
    /// then counts as running. False without such a restart.
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
    fn repeated_exits_double_the_delay() {
        let mut now = Instant::now();
        let mut backoff = RestartBackoff::running(now);
        for delay in [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            backoff.exited(now);
            let due = now + Duration::from_millis(delay);
            assert_eq!(backoff.due(), Some(due));
            assert!(delay == 0 || !backoff.take_due(Some(due - Duration::from_millis(1)), now));
            now = due;
            assert!(backoff.take_due(Some(now), now));
        }
        now += HEALTHY;
        backoff.exited(now);
        assert_eq!(backoff.due(), Some(now));
    }

    #[test]
    fn a_retired_process_is_not_restarted() {
        let now = Instant::now();
        let mut backoff = RestartBackoff::running(now);
        assert!(!backoff.is_done());
        backoff.exited(now);
        assert!(!backoff.is_done());
        backoff.retired();
        assert!(backoff.is_done() && !backoff.take_due(None, now));
    }
}
