//! Decides about the descendants of a program that has exited: wait, terminate, kill, release.

use std::time::{Duration, Instant};

use crate::lifecycle::timing::KILL_AFTER;

/// A process that begins to execute a program for longer than this is no descendant: it hides.
const UNDECIDED_FOR: Duration = Duration::from_secs(1);

/// A program that has exited while descendants live, or may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lingering {
    /// It is decided until this time whether a process is a descendant.
    Undecided(Instant),
    /// The descendants got TERM, and are killed at this time.
    Terminating(Instant),
}

/// What is found of a program that has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A process that may be a descendant.
    Undecided,
    Descendants,
}

/// What to do about a program that has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LingerAction {
    /// Reap it.
    Release,
    Wait,
    Terminate,
    Kill,
}

impl Lingering {
    /// The next state of a program, and what to do.
    pub(super) fn next(
        before: Option<Lingering>,
        found: Found,
        now: Instant,
    ) -> (Option<Lingering>, LingerAction) {
        use Lingering::{Terminating, Undecided};
        match (before, found) {
            (_, Found::Nothing) => (None, LingerAction::Release),
            (None, Found::Undecided) => (Some(Undecided(now + UNDECIDED_FOR)), LingerAction::Wait),
            (Some(Undecided(until)), Found::Undecided) if until <= now => (None, LingerAction::Release),
            (Some(Terminating(kill_at)), Found::Undecided) if kill_at + UNDECIDED_FOR <= now => {
                (None, LingerAction::Release)
            }
            (None | Some(Undecided(_)), Found::Descendants) => {
                (Some(Terminating(now + KILL_AFTER)), LingerAction::Terminate)
            }
            (Some(Terminating(kill_at)), Found::Descendants) if kill_at <= now => {
                (before, LingerAction::Kill)
            }
            _ => (before, LingerAction::Wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_get_term_then_kill_and_what_is_undecided_is_waited_for() {
        use Found::{Descendants, Nothing, Undecided};
        use LingerAction::{Kill, Release, Terminate, Wait};

        let start = Instant::now();
        for script in [
            &[(0, Nothing, Release)][..],
            &[
                (0, Descendants, Terminate),
                (1, Descendants, Wait),
                (2000, Descendants, Kill),
                (2025, Nothing, Release),
            ],
            &[
                (0, Undecided, Wait),
                (25, Descendants, Terminate),
                (2000, Descendants, Wait),
                (2025, Descendants, Kill),
            ],
            &[(0, Undecided, Wait), (25, Nothing, Release)],
            &[(0, Undecided, Wait), (999, Undecided, Wait), (1000, Undecided, Release)],
            &[(0, Descendants, Terminate), (2000, Undecided, Wait), (3000, Undecided, Release)],
        ] {
            let mut state = None;
            for (at, found, action) in script {
                let (next, taken) = Lingering::next(state, *found, start + Duration::from_millis(*at));
                assert_eq!(taken, *action, "{script:?} at {at}");
                assert_eq!(next.is_none(), taken == Release);
                state = next;
            }
        }
    }
}
