//! What a forker does next, decided from plain values.

use std::time::{Duration, Instant};

use crate::shared::board::Orders;

/// The next step of a forker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Fork this many spares.
    Refill(usize),
    /// Accept from the listeners.
    Accept,
    /// Try again to fork for the client in hand.
    Retry,
    /// Wait for the supervisor's word only: nobody is to be accepted.
    WaitForControl,
    /// The same, but not after this time.
    Pause(Instant),
    /// The work is done.
    Leave,
}

/// What the decision rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) orders: Orders,
    /// Spares are kept.
    pub(super) spares: bool,
    /// Spares that are missing, as many as there is room for.
    pub(super) missing_spares: usize,
    /// An accepted client whose process could not be forked is in hand.
    pub(super) client_in_hand: bool,
    /// There was no room for the next client when last looked.
    pub(super) full: bool,
    /// A spare, of any forker, waits for the next client.
    pub(super) has_idle_spare: bool,
    /// Clients without room are refused instead of waiting.
    pub(super) rejects: bool,
    /// The queue was found empty, or the quota of a draining server is used up.
    pub(super) queue_done: bool,
    /// Nothing is tried before this time.
    pub(super) paused_until: Option<Instant>,
}

/// Decides.
pub(super) fn next(now: &Situation, clock: Instant) -> Step {
    let draining = now.orders == Orders::Drain;
    if draining && now.queue_done && !now.client_in_hand {
        return Step::Leave;
    }
    if let Some(until) = now.paused_until.filter(|until| *until > clock) {
        return Step::Pause(until);
    }
    if now.client_in_hand {
        return Step::Retry;
    }
    if now.spares && !draining {
        return match (now.missing_spares, now.full && now.rejects && !now.has_idle_spare) {
            (0, true) => Step::Accept,
            (0, false) => Step::WaitForControl,
            (missing, _) => Step::Refill(missing),
        };
    }
    if now.full && !now.rejects { Step::WaitForControl } else { Step::Accept }
}

/// How long to wait after failures in a row: 50 ms, doubling to 1 s.
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
            orders: Orders::Serve,
            spares: false,
            missing_spares: 0,
            client_in_hand: false,
            full: false,
            has_idle_spare: false,
            rejects: false,
            queue_done: false,
            paused_until: None,
        };
        let spares = Situation { spares: true, ..calm };
        let drain = Situation { orders: Orders::Drain, ..calm };
        for (situation, step) in [
            (calm, Step::Accept),
            (Situation { queue_done: true, ..calm }, Step::Accept),
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
            (Situation { queue_done: true, ..drain }, Step::Leave),
            (Situation { queue_done: true, paused_until: Some(later), ..drain }, Step::Leave),
            (Situation { queue_done: true, client_in_hand: true, ..drain }, Step::Retry),
            (Situation { orders: Orders::Drain, missing_spares: 3, ..spares }, Step::Accept),
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
