//! What a forker does next, decided from plain values.

use std::time::{Duration, Instant};

/// The next step of a forker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Fork this many spares.
    Refill(usize),
    /// Accept from the listeners.
    Accept,
    /// Try again to fork for the client in hand.
    Retry,
    /// Wait for a wakeup by the supervisor; accept no client.
    WaitForControl,
    /// Wait for a wakeup by the supervisor until this time; accept no client.
    Pause(Instant),
    /// Exit: the drain is done.
    Leave,
}

/// The facts that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// The server drains.
    pub(super) draining: bool,
    /// The server is paused: clients stay in the backlog.
    pub(super) paused: bool,
    /// Spares accept the clients.
    pub(super) spares: bool,
    /// Spares to be forked, as far as slots are free.
    pub(super) missing_spares: usize,
    /// A client was accepted, but its process could not be created yet.
    pub(super) client_in_hand: bool,
    /// No slot was free at the last check.
    pub(super) full: bool,
    /// A spare of any forker waits for a client.
    pub(super) has_idle_spare: bool,
    /// Clients without a slot are rejected instead of waiting in the backlog.
    pub(super) rejects: bool,
    /// The backlog has no more clients to accept in this drain.
    pub(super) backlog_done: bool,
    /// After a failure, the forker pauses until this time.
    pub(super) paused_until: Option<Instant>,
}

/// Decides about the next step.
pub(super) fn next(now: &Situation, clock: Instant) -> Step {
    if now.draining && now.backlog_done && !now.client_in_hand {
        return Step::Leave;
    }
    if let Some(until) = now.paused_until.filter(|until| *until > clock) {
        return Step::Pause(until);
    }
    if now.client_in_hand {
        return Step::Retry;
    }
    if now.paused && !now.draining {
        return Step::WaitForControl;
    }
    if now.spares && !now.draining {
        return match (now.missing_spares, now.full && now.rejects && !now.has_idle_spare) {
            (0, true) => Step::Accept,
            (0, false) => Step::WaitForControl,
            (missing, _) => Step::Refill(missing),
        };
    }
    if now.full && !now.rejects { Step::WaitForControl } else { Step::Accept }
}

/// The pause after this many failures in a row: 50 ms, doubling to 1 s.
pub(super) fn pause(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let clock = Instant::now();
        let later = clock + Duration::from_millis(50);
        let calm = Situation {
            draining: false,
            paused: false,
            spares: false,
            missing_spares: 0,
            client_in_hand: false,
            full: false,
            has_idle_spare: false,
            rejects: false,
            backlog_done: false,
            paused_until: None,
        };
        let spares = Situation { spares: true, ..calm };
        let drain = Situation { draining: true, ..calm };
        for (situation, step) in [
            (calm, Step::Accept),
            (Situation { backlog_done: true, ..calm }, Step::Accept),
            (Situation { paused: true, ..calm }, Step::WaitForControl),
            (Situation { paused: true, client_in_hand: true, ..calm }, Step::Retry),
            (Situation { paused: true, missing_spares: 3, ..spares }, Step::WaitForControl),
            (Situation { paused: true, ..drain }, Step::Accept),
            (Situation { full: true, ..calm }, Step::WaitForControl),
            (Situation { full: true, rejects: true, ..calm }, Step::Accept),
            (Situation { client_in_hand: true, ..calm }, Step::Retry),
            (Situation { client_in_hand: true, paused_until: Some(later), ..calm }, Step::Pause(later)),
            (Situation { paused_until: Some(clock), ..calm }, Step::Accept),
            (spares, Step::WaitForControl),
            (Situation { missing_spares: 3, ..spares }, Step::Refill(3)),
            (Situation { full: true, ..spares }, Step::WaitForControl),
            (Situation { full: true, rejects: true, ..spares }, Step::Accept),
            (Situation { full: true, rejects: true, has_idle_spare: true, ..spares }, Step::WaitForControl),
            (Situation { missing_spares: 3, paused_until: Some(later), ..spares }, Step::Pause(later)),
            (drain, Step::Accept),
            (Situation { full: true, ..drain }, Step::WaitForControl),
            (Situation { backlog_done: true, ..drain }, Step::Leave),
            (Situation { backlog_done: true, paused_until: Some(later), ..drain }, Step::Leave),
            (Situation { backlog_done: true, client_in_hand: true, ..drain }, Step::Retry),
            (Situation { draining: true, missing_spares: 3, ..spares }, Step::Accept),
        ] {
            assert_eq!(next(&situation, clock), step, "{situation:?}");
        }
    }

    #[test]
    fn pauses_grow_to_a_second() {
        let millis: Vec<u128> = (0..8).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(millis, [50, 50, 100, 200, 400, 800, 1000, 1000]);
    }
}
