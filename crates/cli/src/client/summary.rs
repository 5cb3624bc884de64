//! The summary of a client: numbers, kinds of errors, and workers that failed.

use std::fmt;

use tine_load::findings::measurement::LostWorker;
use tine_load::findings::state::State;
use tine_load::run::converse::Conversation;
use tine_load::run::live::Numbers;

/// Kinds of errors, with the states that belong to each.
const ERRORS: [(&str, &[State]); 6] = [
    ("refused", &[State::Refused]),
    ("unreachable", &[State::Unreachable, State::NoRoute, State::ConnectTimeout]),
    ("reset by the server", &[State::Reset]),
    ("closed early by the server", &[State::Closed, State::Short]),
    ("timed out", &[State::Timeout]),
    (
        "failed on this host",
        &[State::NoPorts, State::NoDescriptors, State::NoMemory, State::Denied, State::LocalError],
    ),
];

/// The summary of a client.
pub(super) struct Summary<'a> {
    numbers: &'a Numbers,
    lost: &'a [LostWorker],
}

impl Summary<'_> {
    pub(super) fn new(conversation: &Conversation) -> Summary<'_> {
        Summary { numbers: &conversation.numbers, lost: &conversation.lost }
    }

    /// Returns the number of connections that failed, except those with wrong replies.
    pub(super) fn errors(&self) -> u64 {
        self.numbers.ended(|state| state.is_error() && !state.is_wrong())
    }

    /// Returns the number of connections with wrong replies.
    pub(super) fn wrong_replies(&self) -> u64 {
        self.numbers.ended(State::is_wrong)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} messages, {} bytes sent, {} received, {} errors, {} wrong replies",
            self.numbers.made,
            self.numbers.messages,
            self.numbers.sent,
            self.numbers.received,
            self.errors(),
            self.wrong_replies(),
        )?;
        for (kind, states) in ERRORS {
            match self.numbers.ended(|state| states.contains(&state)) {
                0 => {}
                number => write!(f, "\n{kind}: {number}")?,
            }
        }
        for lost in self.lost {
            write!(f, "\nclient {} (pid {}) died: {}", lost.worker + 1, lost.pid, lost.outcome)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_kinds_of_errors_and_the_workers_that_failed() {
        let mut numbers = Numbers::default();
        (numbers.made, numbers.messages, numbers.sent, numbers.received) = (3, 9, 90, 80);
        let text = Summary { numbers: &numbers, lost: &[] }.to_string();
        assert_eq!(text, "3 connections, 9 messages, 90 bytes sent, 80 received, 0 errors, 0 wrong replies");
        for state in [State::Reset, State::Reset, State::Mismatch, State::Ok] {
            numbers.count_end(state);
        }
        let lost = [LostWorker { worker: 1, pid: 77, outcome: "signal 9".into() }];
        let text = Summary { numbers: &numbers, lost: &lost }.to_string();
        assert!(text.contains("2 errors, 1 wrong replies\nreset by the server: 2\n"), "{text}");
        assert!(text.ends_with("\nclient 2 (pid 77) died: signal 9"), "{text}");
    }

    #[test]
    fn every_error_has_a_kind() {
        for (state, _) in State::ALL {
            let kinds = ERRORS.iter().filter(|(_, states)| states.contains(&state)).count();
            assert_eq!(kinds, usize::from(state.is_error() && !state.is_wrong()), "{state}");
        }
    }
}
