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
    /// The network reported that it cannot deliver to the address.
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
    /// No memory, socket buffer or epoll watch was left.
    NoMemory,
    /// This host has no route to the address, or the interface is down.
    NoRoute,
    /// A firewall, a route or a security policy of this host forbade it, or the permissions of a
    /// Unix socket.
    Denied,
    /// Another error of the client.
    LocalError,
}

/// The side that causes an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client: its process, its host, the limits and settings of both. The server was not
    /// measured.
    Client,
    /// The server.
    Server,
    /// The network between them, or a host that does not answer.
    Network,
}

/// The step of connecting in which an error occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Until the first call of connect(2) returns: the kernel of this host decides, except for the
    /// refusal of a server on the same host.
    Local,
    /// Afterwards: the peer or the network has answered, or nothing did in time.
    Handshake,
}

impl State {
    /// All states, in their order, with the names that JSON has for them.
    pub const ALL: [(State, &'static str); 18] = [
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
        (State::NoMemory, "no-memory"),
        (State::NoRoute, "no-route"),
        (State::Denied, "denied"),
        (State::LocalError, "local-error"),
    ];

    /// Returns the state for an error of connecting: of socket(2), bind(2) and connect(2), or an
    /// error that the kernel reports for the connecting socket.
    #[must_use]
    pub fn of_connect(errno: Errno, step: Step) -> State {
        match errno {
            Errno::CONNREFUSED | Errno::NOENT => State::Refused,
            Errno::TIMEDOUT => State::ConnectTimeout,
            Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => State::NoPorts,
            errno if step == Step::Handshake && is_icmp(errno) => State::Unreachable,
            // Unreachable by the table of routes.
            errno if is_icmp(errno) && errno != Errno::ACCESS => match errno {
                Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NONET => State::NoRoute,
                _ => State::LocalError,
            },
            errno => State::of_both(errno),
        }
    }

    /// Returns the state for an error of send(2) or recv(2).
    #[must_use]
    pub fn of_exchange(errno: Errno) -> State {
        match errno {
            Errno::PIPE => State::Reset,
            Errno::TIMEDOUT => State::Timeout,
            // The kernel reports what it last learned by ICMP when it gives up retransmitting.
            Errno::CONNREFUSED => State::Unreachable,
            errno if is_icmp(errno) => State::Unreachable,
            errno => State::of_both(errno),
        }
    }

    /// Returns the state for an error that has one meaning in connecting and afterwards.
    fn of_both(errno: Errno) -> State {
        match errno {
            Errno::CONNRESET => State::Reset,
            Errno::MFILE | Errno::NFILE => State::NoDescriptors,
            // ENOSPC: epoll_ctl(2), at the limit of watches.
            Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC => State::NoMemory,
            Errno::NETDOWN => State::NoRoute,
            Errno::ACCESS | Errno::PERM => State::Denied,
            // ECONNABORTED among them: a program of this host closed the socket (`ss --kill`).
            _ => State::LocalError,
        }
    }

    /// Returns the side that causes the state; `None` for a state that is no error.
    #[must_use]
    pub fn origin(self) -> Option<Origin> {
        match self {
            State::Ok | State::InFlight | State::Unstarted => None,
            State::NoPorts
            | State::NoDescriptors
            | State::NoMemory
            | State::NoRoute
            | State::Denied
            | State::LocalError => Some(Origin::Client),
            State::Unreachable | State::ConnectTimeout => Some(Origin::Network),
            State::Refused
            | State::Timeout
            | State::Reset
            | State::Closed
            | State::Short
            | State::Long
            | State::Mismatch => Some(Origin::Server),
        }
    }

    /// Whether the connection failed.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.origin().is_some()
    }

    /// Whether the server sent wrong bytes.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, State::Mismatch | State::Long)
    }
}

/// Whether an error is one that the kernel makes of an ICMP message (linux/net/ipv4/icmp.c,
/// `icmp_err_convert`; linux/net/ipv6/icmp.c, `icmpv6_err_convert`), or of a neighbour that does
/// not answer. A refusal is not among them.
fn is_icmp(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PROTO
            | Errno::MSGSIZE
            | Errno::ACCESS
    )
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

    /// Returns the number of connections that ended in an error of one side.
    #[must_use]
    pub fn errors_of(&self, origin: Origin) -> u64 {
        let errors = self.states.iter().filter(|(state, _)| state.origin() == Some(origin));
        errors.map(|(_, number)| number).sum()
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

    /// Each error that socket(2), bind(2), connect(2), send(2), recv(2) and epoll_ctl(2) document,
    /// and each that an ICMP message becomes: the states of the two steps of connecting, and of an
    /// exchange.
    const ERRORS: [(Errno, State, State, State); 35] = [
        (Errno::CONNREFUSED, State::Refused, State::Refused, State::Unreachable),
        (Errno::NOENT, State::Refused, State::Refused, State::LocalError),
        (Errno::TIMEDOUT, State::ConnectTimeout, State::ConnectTimeout, State::Timeout),
        (Errno::CONNRESET, State::Reset, State::Reset, State::Reset),
        (Errno::PIPE, State::LocalError, State::LocalError, State::Reset),
        (Errno::NETUNREACH, State::NoRoute, State::Unreachable, State::Unreachable),
        (Errno::HOSTUNREACH, State::NoRoute, State::Unreachable, State::Unreachable),
        (Errno::HOSTDOWN, State::NoRoute, State::Unreachable, State::Unreachable),
        (Errno::NONET, State::NoRoute, State::Unreachable, State::Unreachable),
        (Errno::NETDOWN, State::NoRoute, State::NoRoute, State::NoRoute),
        (Errno::NOPROTOOPT, State::LocalError, State::Unreachable, State::Unreachable),
        (Errno::OPNOTSUPP, State::LocalError, State::Unreachable, State::Unreachable),
        (Errno::PROTO, State::LocalError, State::Unreachable, State::Unreachable),
        (Errno::MSGSIZE, State::LocalError, State::Unreachable, State::Unreachable),
        (Errno::ACCESS, State::Denied, State::Unreachable, State::Unreachable),
        (Errno::PERM, State::Denied, State::Denied, State::Denied),
        (Errno::ADDRNOTAVAIL, State::NoPorts, State::NoPorts, State::LocalError),
        (Errno::ADDRINUSE, State::NoPorts, State::NoPorts, State::LocalError),
        (Errno::MFILE, State::NoDescriptors, State::NoDescriptors, State::NoDescriptors),
        (Errno::NFILE, State::NoDescriptors, State::NoDescriptors, State::NoDescriptors),
        (Errno::NOMEM, State::NoMemory, State::NoMemory, State::NoMemory),
        (Errno::NOBUFS, State::NoMemory, State::NoMemory, State::NoMemory),
        (Errno::NOSPC, State::NoMemory, State::NoMemory, State::NoMemory),
        (Errno::CONNABORTED, State::LocalError, State::LocalError, State::LocalError),
        (Errno::AFNOSUPPORT, State::LocalError, State::LocalError, State::LocalError),
        (Errno::PROTONOSUPPORT, State::LocalError, State::LocalError, State::LocalError),
        (Errno::PROTOTYPE, State::LocalError, State::LocalError, State::LocalError),
        (Errno::NOTDIR, State::LocalError, State::LocalError, State::LocalError),
        (Errno::LOOP, State::LocalError, State::LocalError, State::LocalError),
        (Errno::INVAL, State::LocalError, State::LocalError, State::LocalError),
        (Errno::NOTSOCK, State::LocalError, State::LocalError, State::LocalError),
        (Errno::NOTCONN, State::LocalError, State::LocalError, State::LocalError),
        (Errno::FAULT, State::LocalError, State::LocalError, State::LocalError),
        (Errno::NOSYS, State::LocalError, State::LocalError, State::LocalError),
        (Errno::IO, State::LocalError, State::LocalError, State::LocalError),
    ];

    #[test]
    fn errors_map_to_states() {
        for (errno, local, handshake, exchange) in ERRORS {
            let states = [State::of_connect(errno, Step::Local), State::of_connect(errno, Step::Handshake)];
            assert_eq!((states, State::of_exchange(errno)), ([local, handshake], exchange), "{errno}");
        }
    }

    #[test]
    fn every_state_but_the_three_of_success_has_an_origin() {
        for (state, name) in State::ALL {
            let origin = match name {
                "ok" | "in-flight" | "unstarted" => None,
                "unreachable" | "connect-timeout" => Some(Origin::Network),
                "no-ports" | "no-descriptors" | "no-memory" | "no-route" | "denied" | "local-error" => {
                    Some(Origin::Client)
                }
                _ => Some(Origin::Server),
            };
            assert_eq!((state.origin(), state.is_error()), (origin, origin.is_some()), "{name}");
            let mut ledger = Ledger::default();
            ledger.count(state, 2);
            let of_client = if origin == Some(Origin::Client) { 2 } else { 0 };
            assert_eq!(ledger.errors_of(Origin::Client), of_client, "{name}");
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
