//! How connections end: each in exactly one way, and together as many as were planned.

use std::collections::BTreeMap;
use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As planned.
    Ok,
    /// Not ended when the load was stopped.
    InFlight,
    /// Not even begun then.
    Unstarted,
    /// Nobody listens there.
    Refused,
    /// The network knows no way.
    Unreachable,
    /// Connecting took too long.
    ConnectTimeout,
    /// The exchange took too long.
    Timeout,
    /// The server reset it.
    Reset,
    /// The server ended it before it answered.
    Closed,
    /// The server ended it in the middle of an answer.
    Short,
    /// More came than should.
    Long,
    /// Other bytes came than should.
    Mismatch,
    /// There was no port, or no address, to connect from.
    NoPorts,
    /// There was no descriptor for it.
    NoDescriptors,
    /// Another error of this side.
    LocalError,
}

impl State {
    /// The state that an error of connecting is.
    #[must_use]
    pub fn of_connect(errno: Errno) -> State {
        match errno {
            Errno::CONNREFUSED | Errno::NOENT => State::Refused,
            Errno::TIMEDOUT => State::ConnectTimeout,
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => State::Unreachable,
            Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => State::NoPorts,
            Errno::MFILE | Errno::NFILE => State::NoDescriptors,
            other => State::of_exchange(other),
        }
    }

    /// The state that an error of sending or receiving is.
    #[must_use]
    pub fn of_exchange(errno: Errno) -> State {
        match errno {
            Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => State::Reset,
            Errno::TIMEDOUT => State::Timeout,
            Errno::HOSTUNREACH | Errno::NETUNREACH => State::Unreachable,
            _ => State::LocalError,
        }
    }

    /// Whether something went wrong.
    #[must_use]
    pub fn is_error(self) -> bool {
        !matches!(self, State::Ok | State::InFlight | State::Unstarted)
    }

    /// Whether other bytes came than should: the server corrupts.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, State::Mismatch | State::Long)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Ok => "ok",
            State::InFlight => "in-flight",
            State::Unstarted => "unstarted",
            State::Refused => "refused",
            State::Unreachable => "unreachable",
            State::ConnectTimeout => "connect-timeout",
            State::Timeout => "timeout",
            State::Reset => "reset",
            State::Closed => "closed",
            State::Short => "short",
            State::Long => "long",
            State::Mismatch => "mismatch",
            State::NoPorts => "no-ports",
            State::NoDescriptors => "no-descriptors",
            State::LocalError => "local-error",
        })
    }
}

/// How many connections were planned, and how many ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// How many were planned.
    pub planned: u64,
    /// How they ended.
    pub states: BTreeMap<State, u64>,
}

impl Ledger {
    /// Counts an end.
    pub fn count(&mut self, state: State, number: u64) {
        if number > 0 {
            *self.states.entry(state).or_default() += number;
        }
    }

    /// How many ended so.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// How many ended in an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.states.iter().filter(|(state, _)| state.is_error()).map(|(_, number)| number).sum()
    }

    /// How many got bytes that are wrong.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.states.iter().filter(|(state, _)| state.is_wrong()).map(|(_, number)| number).sum()
    }

    /// Whether as many ended as were planned.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.states.values().sum::<u64>() == self.planned
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Ledger) {
        self.planned += other.planned;
        for (state, number) in &other.states {
            self.count(*state, *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names() {
        for (errno, connecting, exchanging) in [
            (Errno::CONNREFUSED, State::Refused, State::LocalError),
            (Errno::NETUNREACH, State::Unreachable, State::Unreachable),
            (Errno::TIMEDOUT, State::ConnectTimeout, State::Timeout),
            (Errno::ADDRNOTAVAIL, State::NoPorts, State::LocalError),
            (Errno::MFILE, State::NoDescriptors, State::LocalError),
            (Errno::CONNRESET, State::Reset, State::Reset),
            (Errno::PIPE, State::Reset, State::Reset),
        ] {
            assert_eq!((State::of_connect(errno), State::of_exchange(errno)), (connecting, exchanging));
        }
        // As it is shown is as it is written.
        let written = serde_json::to_string(&State::NoDescriptors).expect("a word");
        assert_eq!(written, format!("\"{}\"", State::NoDescriptors));
    }

    #[test]
    fn a_ledger_adds_up() {
        let mut ledger = Ledger { planned: 10, ..Ledger::default() };
        ledger.count(State::Ok, 7);
        ledger.count(State::Mismatch, 1);
        assert!(!ledger.adds_up());
        ledger.count(State::Unstarted, 2);
        assert!(ledger.adds_up());
        let mut twice = ledger.clone();
        twice.merge(&ledger);
        assert!(twice.adds_up());
        assert_eq!((twice.errors(), twice.wrong(), twice.of(State::Unstarted)), (2, 2, 4));
    }
}
