//! The hand-over of one service, as its older supervisor decides about it. No system call here.
//!
//! The newer supervisor takes the state while no process accepts here. Then either this one learns
//! that the newer generation serves, or it accepts again.

use std::time::{Duration, Instant};

/// The time in which each forker stops accepting. It takes milliseconds, unless one is stopped.
const PAUSE_WAIT: Duration = Duration::from_secs(3);

/// How far a hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SuccessionPhase {
    /// There is none.
    None,
    /// Processes stop accepting.
    Pausing { until: Instant },
    /// The newer supervisor has the state.
    Handed,
    /// The newer generation serves.
    Replaced,
}

/// An event of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SuccessionEvent {
    /// The newer supervisor asks for the state.
    Take,
    /// No process accepts.
    Paused,
    /// The newer generation serves.
    Commit,
    /// There is no newer generation, or its supervisor has ended.
    Cancel,
    /// The service stops, which the newer supervisor tells.
    Drain,
    /// Time has passed.
    Tick,
}

/// An action of the older supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SuccessionAction {
    /// Have processes stop accepting.
    Pause,
    /// Send the state.
    SendState,
    /// Tell the newer supervisor that it cannot have the state, and accept again.
    Refuse,
    /// Accept again.
    Resume,
    /// Leave accepting to the newer generation. `has_state`: which also serves the backlog.
    Replace { has_state: bool },
    /// Give the connections the time of a stop.
    Drain,
}

/// The state of a hand-over.
#[derive(Debug)]
pub(super) struct Succession {
    phase: SuccessionPhase,
}

impl Succession {
    pub(super) fn none() -> Succession {
        Succession { phase: SuccessionPhase::None }
    }

    /// Whether processes are to stop accepting.
    pub(super) fn is_pausing(&self) -> bool {
        matches!(self.phase, SuccessionPhase::Pausing { .. })
    }

    /// Whether the newer supervisor has the state, and has to hear what changes.
    pub(super) fn has_handed(&self) -> bool {
        matches!(self.phase, SuccessionPhase::Handed | SuccessionPhase::Replaced)
    }

    /// Whether the newer generation serves.
    pub(super) fn is_replaced(&self) -> bool {
        self.phase == SuccessionPhase::Replaced
    }

    /// When a tick is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            SuccessionPhase::Pausing { until } => Some(until),
            _ => None,
        }
    }

    /// Handles an event.
    pub(super) fn on(&mut self, event: SuccessionEvent, now: Instant) -> Option<SuccessionAction> {
        use SuccessionPhase::{Handed, None as Nothing, Pausing, Replaced};
        let (phase, action) = match (event, self.phase) {
            (SuccessionEvent::Take, Nothing) => {
                (Pausing { until: now + PAUSE_WAIT }, SuccessionAction::Pause)
            }
            (SuccessionEvent::Paused, Pausing { .. }) => (Handed, SuccessionAction::SendState),
            (SuccessionEvent::Tick, Pausing { until }) if until <= now => (Nothing, SuccessionAction::Refuse),
            (SuccessionEvent::Cancel, Pausing { .. } | Handed) => (Nothing, SuccessionAction::Resume),
            (SuccessionEvent::Commit, Nothing | Pausing { .. } | Handed) => {
                (Replaced, SuccessionAction::Replace { has_state: self.phase == Handed })
            }
            (SuccessionEvent::Drain, Replaced) => (Replaced, SuccessionAction::Drain),
            _ => return None,
        };
        self.phase = phase;
        Some(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events at times in milliseconds, and compares the actions.
    fn play(script: &[(u64, SuccessionEvent, Option<SuccessionAction>)]) -> Succession {
        let start = Instant::now();
        let mut succession = Succession::none();
        for (at, event, action) in script {
            let now = start + Duration::from_millis(*at);
            assert_eq!(succession.on(*event, now), *action, "{event:?} at {at}");
        }
        succession
    }

    const PAUSE: Option<SuccessionAction> = Some(SuccessionAction::Pause);
    const SEND: Option<SuccessionAction> = Some(SuccessionAction::SendState);
    const RESUME: Option<SuccessionAction> = Some(SuccessionAction::Resume);

    #[test]
    fn an_orderly_hand_over() {
        let succession = play(&[
            (0, SuccessionEvent::Take, PAUSE),
            (0, SuccessionEvent::Take, None),
            (1, SuccessionEvent::Tick, None),
            (2, SuccessionEvent::Paused, SEND),
            (3, SuccessionEvent::Tick, None),
            (9_000, SuccessionEvent::Commit, Some(SuccessionAction::Replace { has_state: true })),
            (9_001, SuccessionEvent::Cancel, None),
            (9_002, SuccessionEvent::Take, None),
            (9_003, SuccessionEvent::Drain, Some(SuccessionAction::Drain)),
        ]);
        assert!(succession.has_handed());
    }

    #[test]
    fn a_new_generation_that_ends_changes_nothing_and_another_can_follow() {
        let succession = play(&[
            (0, SuccessionEvent::Cancel, None),
            (1, SuccessionEvent::Take, PAUSE),
            (1, SuccessionEvent::Drain, None),
            (2, SuccessionEvent::Cancel, RESUME),
            (3, SuccessionEvent::Paused, None),
            (4, SuccessionEvent::Take, PAUSE),
            (5, SuccessionEvent::Paused, SEND),
            (6, SuccessionEvent::Cancel, RESUME),
            (7, SuccessionEvent::Take, PAUSE),
        ]);
        assert!(succession.is_pausing() && !succession.has_handed());
    }

    #[test]
    fn a_server_that_cannot_pause_refuses() {
        play(&[
            (0, SuccessionEvent::Take, PAUSE),
            (2_999, SuccessionEvent::Tick, None),
            (3_000, SuccessionEvent::Tick, Some(SuccessionAction::Refuse)),
            (3_001, SuccessionEvent::Paused, None),
        ]);
    }

    #[test]
    fn a_service_that_is_removed_serves_its_backlog() {
        let replace = Some(SuccessionAction::Replace { has_state: false });
        play(&[(0, SuccessionEvent::Commit, replace), (1, SuccessionEvent::Commit, None)]);
        play(&[(0, SuccessionEvent::Take, PAUSE), (1, SuccessionEvent::Commit, replace)]);
    }
}
