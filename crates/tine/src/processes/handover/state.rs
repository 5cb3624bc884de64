//! What the old generation does in a hand-over. No system call here.

use std::time::{Duration, Instant};

use crate::ipc::handover::link::VERSION;

/// Why there is no next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code of the command that asked for it: 100 for a configuration that is wrong, 111
    /// for what may be temporary.
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn temporary(text: impl Into<String>) -> Failure {
        Failure { code: 111, text: text.into() }
    }

    pub(crate) fn permanent(text: impl Into<String>) -> Failure {
        Failure { code: 100, text: text.into() }
    }
}

/// An event of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HandoverEvent {
    /// The new generation speaks this version of the hand-over.
    Hello { version: u64, build: String },
    /// The new generation cannot take over.
    Failed(Failure),
    /// The new generation has found nothing to change.
    Unchanged,
    /// The new generation can serve.
    Built,
    /// The new generation accepts clients.
    Accepting,
    /// The new generation has sent what is no message.
    Unknown,
    /// The new generation has ended, in this way.
    Ended(String),
    /// The sockets could not be offered.
    NotOffered(String),
    /// Time has passed.
    Tick,
}

/// An action of the old generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HandoverAction {
    /// Offer the sockets.
    Offer,
    /// Let the new generation take over.
    Go,
    /// The new generation serves: accept no more.
    Commit,
    /// End the new generation and go on as before; nothing was to be changed.
    Keep,
    /// End the new generation and go on as before.
    Cancel(Failure),
}

/// How far a hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandoverPhase {
    /// The new generation has not spoken yet.
    Started,
    /// It has the sockets, and starts its processes.
    Building,
    /// It takes over the state and begins to accept.
    Taking,
    Over,
}

/// The state of a hand-over, in the old generation.
#[derive(Debug)]
pub(super) struct HandoverState {
    phase: HandoverPhase,
    timeout: Duration,
    deadline: Instant,
    /// The version of the new generation, once it has spoken.
    pub(super) build: String,
}

impl HandoverState {
    /// A hand-over that begins now.
    pub(super) fn new(timeout: Duration, now: Instant) -> HandoverState {
        let deadline = now + timeout;
        HandoverState { phase: HandoverPhase::Started, timeout, deadline, build: String::new() }
    }

    /// When a tick is due.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Handles an event.
    pub(super) fn on(&mut self, event: HandoverEvent, now: Instant) -> Option<HandoverAction> {
        use HandoverPhase::{Building, Over, Started, Taking};
        match (event, self.phase) {
            (_, Over) => None,
            (HandoverEvent::Hello { version: VERSION, build }, Started) => {
                self.build = build;
                self.phase = Building;
                Some(HandoverAction::Offer)
            }
            (HandoverEvent::Hello { version, .. }, Started) => self.cancel(Failure::permanent(format!(
                "the new binary speaks version {version} of the hand-over, and this server version \
                 {VERSION}; restart the server to change between them"
            ))),
            (HandoverEvent::Built, Building) => {
                self.phase = Taking;
                Some(HandoverAction::Go)
            }
            (HandoverEvent::Accepting, Taking) => {
                self.phase = Over;
                Some(HandoverAction::Commit)
            }
            (HandoverEvent::Unchanged, Building) => {
                self.phase = Over;
                Some(HandoverAction::Keep)
            }
            (HandoverEvent::Failed(failure), _) => self.cancel(failure),
            (HandoverEvent::NotOffered(why), _) => self.cancel(Failure::temporary(why)),
            (HandoverEvent::Ended(how), _) => self.cancel(Failure::temporary(format!(
                "the new binary has ended before it took over ({how}); its standard error may say why"
            ))),
            (HandoverEvent::Tick, _) if self.deadline > now => None,
            (HandoverEvent::Tick, _) => self.cancel(Failure::temporary(format!(
                "the new binary did not take over within {} s; look at its standard error, or allow \
                 more (--upgrade-timeout)",
                self.timeout.as_secs_f64()
            ))),
            (HandoverEvent::Unknown | HandoverEvent::Hello { .. } | HandoverEvent::Built, _)
            | (HandoverEvent::Accepting | HandoverEvent::Unchanged, _) => self.cancel(Failure::permanent(
                "the new binary does not speak the language of the hand-over; is it tine?",
            )),
        }
    }

    fn cancel(&mut self, failure: Failure) -> Option<HandoverAction> {
        self.phase = HandoverPhase::Over;
        Some(HandoverAction::Cancel(failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// What a row expects: an action, or a failure with this code whose text has these words.
    enum Expected {
        Nothing,
        Action(HandoverAction),
        Failure(u8, &'static str),
    }
    use Expected::{Action, Nothing};

    fn hello(version: u64) -> HandoverEvent {
        HandoverEvent::Hello { version, build: "2.0.0".into() }
    }

    /// Plays events at times in milliseconds, and compares the actions.
    fn play(script: Vec<(u64, HandoverEvent, Expected)>) {
        let start = Instant::now();
        let mut state = HandoverState::new(TIMEOUT, start);
        for (at, event, expected) in script {
            let action = state.on(event.clone(), start + Duration::from_millis(at));
            match expected {
                Nothing => assert_eq!(action, None, "{event:?} at {at}"),
                Action(expected) => assert_eq!(action, Some(expected), "{event:?} at {at}"),
                Expected::Failure(code, words) => match action {
                    Some(HandoverAction::Cancel(failure)) => {
                        assert_eq!(failure.code, code, "{failure:?}");
                        assert!(failure.text.contains(words), "{failure:?}");
                    }
                    other => panic!("{event:?} at {at}: {other:?}"),
                },
            }
        }
    }

    #[test]
    fn an_orderly_hand_over() {
        play(vec![
            (0, HandoverEvent::Tick, Nothing),
            (5, hello(VERSION), Action(HandoverAction::Offer)),
            (50, HandoverEvent::Built, Action(HandoverAction::Go)),
            (60, HandoverEvent::Accepting, Action(HandoverAction::Commit)),
            (70, HandoverEvent::Ended("exit 1".into()), Nothing),
            (20_000, HandoverEvent::Tick, Nothing),
        ]);
    }

    #[test]
    fn nothing_to_change() {
        play(vec![
            (5, hello(VERSION), Action(HandoverAction::Offer)),
            (6, HandoverEvent::Unchanged, Action(HandoverAction::Keep)),
            (7, HandoverEvent::Ended("exit 0".into()), Nothing),
        ]);
    }

    #[test]
    fn what_goes_wrong_ends_the_hand_over_once() {
        use Expected::Failure as Fails;
        let wrong = || HandoverEvent::Failed(Failure::permanent("tine.toml:3: no such key"));
        let ended = || HandoverEvent::Ended("signal KILL".into());
        for (event, code, words) in [
            (hello(VERSION + 1), 100, "version 2 of the hand-over"),
            (wrong(), 100, "tine.toml:3"),
            (ended(), 111, "signal KILL"),
            (HandoverEvent::Unknown, 100, "is it tine?"),
            (HandoverEvent::Built, 100, "is it tine?"),
            (HandoverEvent::Accepting, 100, "is it tine?"),
            (HandoverEvent::Unchanged, 100, "is it tine?"),
        ] {
            play(vec![
                (1, event, Fails(code, words)),
                (2, ended(), Nothing),
                (20_000, HandoverEvent::Tick, Nothing),
            ]);
        }
        for (event, code, words) in [
            (wrong(), 100, "tine.toml:3"),
            (ended(), 111, "signal KILL"),
            (HandoverEvent::NotOffered("too many sockets".into()), 111, "too many"),
            (HandoverEvent::Unknown, 100, "is it tine?"),
            (HandoverEvent::Accepting, 100, "is it tine?"),
            (hello(VERSION), 100, "is it tine?"),
        ] {
            play(vec![(1, hello(VERSION), Action(HandoverAction::Offer)), (2, event, Fails(code, words))]);
        }
        for (event, code, words) in [
            (wrong(), 100, "tine.toml:3"),
            (ended(), 111, "signal KILL"),
            (HandoverEvent::Unchanged, 100, "is it tine?"),
        ] {
            play(vec![
                (1, hello(VERSION), Action(HandoverAction::Offer)),
                (2, HandoverEvent::Built, Action(HandoverAction::Go)),
                (3, event, Fails(code, words)),
            ]);
        }
    }

    #[test]
    fn a_new_generation_that_hangs_is_given_up() {
        for said in 0..3 {
            let all = [
                (1, hello(VERSION), Action(HandoverAction::Offer)),
                (2, HandoverEvent::Built, Action(HandoverAction::Go)),
            ];
            let mut script: Vec<_> = all.into_iter().take(said).collect();
            script.push((19_999, HandoverEvent::Tick, Nothing));
            script.push((20_000, HandoverEvent::Tick, Expected::Failure(111, "within 20 s")));
            play(script);
        }
    }
}
