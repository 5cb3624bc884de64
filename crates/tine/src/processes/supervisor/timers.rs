//! When the supervisor has to act without an event.

use std::time::{Duration, Instant};

use crate::net::listener::MAX_LISTENERS;

/// Interval of the checks of every child where an exit may go unnoticed.
const SWEEP_SOON: Duration = Duration::from_secs(1);

/// The same where an exit cannot be missed, as a safeguard.
const SWEEP_RARELY: Duration = Duration::from_secs(5);

/// The supervisor's own deadlines; phases, restarts and monitoring have theirs elsewhere.
pub(super) struct Timers {
    /// When the exits that are pending are reaped together.
    pub(super) reap_at: Option<Instant>,
    /// When orphans are reaped.
    pub(super) orphans_at: Option<Instant>,
    /// When each child is checked.
    pub(super) sweep_at: Instant,
    sweep_every: Duration,
}

impl Timers {
    /// The timers of a server for this many connections. Children are checked more often where the
    /// queue of signals has no room for the exit of each (`RLIMIT_SIGPENDING`, signal(7)).
    pub(super) fn new(max_connections: usize) -> Timers {
        let room = rustix::process::getrlimit(rustix::process::Resource::Sigpending).current;
        let needed = max_connections as u64 + MAX_LISTENERS as u64;
        let is_enough = room.is_none_or(|room| room >= needed);
        Timers {
            reap_at: None,
            orphans_at: None,
            sweep_at: Instant::now(),
            sweep_every: if is_enough { SWEEP_RARELY } else { SWEEP_SOON },
        }
    }

    pub(super) fn sweep_done(&mut self) {
        self.sweep_at = Instant::now() + self.sweep_every;
    }

    /// Reaps the orphans within this time.
    pub(super) fn orphans_within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.orphans_at = Some(self.orphans_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Checks every child within this time, because exits may not have been reported.
    pub(super) fn sweep_within(&mut self, time: Duration) {
        self.sweep_at = self.sweep_at.min(Instant::now() + time);
    }
}
