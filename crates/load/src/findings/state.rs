//! States in which connections end. Each connection ends in exactly one, and together they are as
//! many as were planned.

use std::collections::BTreeMap;
use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The state in which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As planned.
    Ok,
    /// Not ended at the stop.
    InFlight,
    /// Not begun at the stop.
    Unstarted,
    /// Connecting was refused.
    Refused,
    /// The network has no route to the address.
    Unreachable,
    /// Connecting timed out.
    ConnectTimeout,
    /// The exchange timed out.
    Timeout,
    /// The server reset the connection.
    Reset,
    /// The server closed the connection before it replied.
    Closed,
    /// The server closed the connection within a reply.
    Short,
    /// The reply was longer than expected.
    Long,
    /// The reply had other bytes than expected.
    Mismatch,
    /// No port, or no address, was left to connect from.
    NoPorts,
    /// No file descriptor was left.
    NoDescriptors,
    /// Another error of the client.
    LocalError,
}

impl State {
    /// All states, in their order, with the names that JSON has for them.
    pub const ALL: [(State, &'static str); 15] = [
        (State::Ok, "ok"),
        (State::InFlight, "in-flight"),
        (State::Unstarted, "unstarted"),
        (State::Refused, "refused"),
        (State::Unreachable, "unreachable"),
        (State::ConnectTimeout, "connect-timeout"),
        (State::Timeout, "timeout"),
        (State::Reset, "reset"),
        (State::Closed, "closed"),
        (State::Short, "short"),
        (State::Long, "long"),
        (State::Mismatch, "mismatch"),
        (State::NoPorts, "no-ports"),
        (State::NoDescriptors, "no-descriptors"),
        (State::LocalError, "local-error"),
    ];

    /// Returns the state for an error of connect(2).
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

    /// Returns the state for an error of send(2) or recv(2).
    #[must_use]
    pub fn of_exchange(errno: Errno) -> State {
        match errno {
            Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => State::Reset,
            Errno::TIMEDOUT => State::Timeout,
            Errno::HOSTUNREACH | Errno::NETUNREACH => State::Unreachable,
            _ => State::LocalError,
        }
    }

    /// Whether the connection failed.
    #[must_use]
    pub fn is_error(self) -> bool {
        !matches!(self, State::Ok | State::InFlight | State::Unstarted)
    }

    /// Whether the server sent wrong bytes.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, State::Mismatch | State::Long)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(State::ALL[*self as usize].1)
    }
}

/// The number of connections planned, and the number that ended in each state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Connections planned.
    pub planned: u64,
    /// Connections that ended in each state.
    pub states: BTreeMap<State, u64>,
}

impl Ledger {
    /// Counts connections that ended in a state.
    pub fn count(&mut self, state: State, number: u64) {
        if number > 0 {
            *self.states.entry(state).or_default() += number;
        }
    }

    /// Returns the number of connections that ended in a state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// Returns the number of connections that ended in an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.states.iter().filter(|(state, _)| state.is_error()).map(|(_, number)| number).sum()
    }

    /// Returns the number of connections on which wrong bytes arrived.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.states.iter().filter(|(state, _)| state.is_wrong()).map(|(_, number)| number).sum()
    }

    /// Whether the connections that ended add up to those planned.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.states.values().sum::<u64>() == self.planned
    }

    /// Adds another ledger to this one.
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
    fn errors_map_to_states() {
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
    }

    #[test]
    fn the_table_of_states_is_in_order_and_has_the_names_of_the_json() {
        for (at, (state, name)) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, at);
            let written = serde_json::to_string(&state).expect("a name");
            assert_eq!((written, state.to_string()), (format!("\"{name}\""), name.to_owned()));
        }
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
