//! The plan of a load: what was requested, with every default filled in. It is part of every
//! report. Workers compute their shares from it, so they need not communicate.

pub mod check;
pub mod endpoint;
pub mod expect;
pub mod part;
pub mod pattern;
pub mod proxy;
pub mod schedule;
pub mod script;
pub mod sources;
pub mod splitmix;
pub mod text;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A load. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Kinds of connections; several of them are a mix.
    pub populations: Vec<Population>,
    /// Addresses, by name unless every address of a name is a target of its own; connections go to
    /// each in turn.
    pub targets: Vec<String>,
    /// Number of worker processes.
    pub processes: u32,
    /// Number of connections at the same time, over all processes.
    pub connections: u32,
    /// Arrivals per second over all processes, at planned times (open loop). `None`: each
    /// connection starts its next exchange after the reply (closed loop).
    pub rate: Option<f64>,
    /// Distribution of the arrivals of an open loop.
    pub arrivals: Arrivals,
    /// Time at the start that the figures leave out.
    pub warmup_ns: u64,
    /// Time over which the load grows to its full size, from the start.
    pub ramp_ns: u64,
    /// Measured time after the warm-up. `None`: until all requests are done.
    pub duration_ns: Option<u64>,
    /// Total number of connections, or of exchanges in modes that keep connections.
    pub requests: Option<u64>,
    /// Exchanges (or messages, at intervals) on each connection, in modes that leave it open.
    pub per_connection: Option<u64>,
    /// Which side closes a connection, and how.
    pub close: Close,
    /// Whether the client half-closes after the last request of a connection, and expects the end
    /// of the stream after the reply.
    #[serde(default)]
    pub half_close: bool,
    /// The message of each exchange.
    pub message: MessageText,
    /// The expected reply, as typed.
    pub expect: String,
    /// Pause between two exchanges of a connection, or interval between two messages.
    pub think_ns: u64,
    /// Time between two bytes of a slow connection.
    pub pace_ns: u64,
    /// Timeout for connecting, and for an exchange.
    pub timeout_ns: u64,
    /// Lateness of the client, at the 99th percentile of arrivals, above which an open loop is
    /// invalid.
    pub max_lateness_ns: u64,
    /// Addresses to connect from, in CIDR notation. Empty: the kernel chooses.
    pub sources: Vec<String>,
    /// Version of the PROXY protocol's header that is sent before the first byte. `None`: no
    /// header.
    #[serde(default)]
    pub proxy_header: Option<ProxyVersion>,
    /// Source addresses in that header, in CIDR notation. Empty: each connection's own.
    #[serde(default)]
    pub proxy_sources: Vec<String>,
    /// Seed of the bytes sent and of random choices.
    pub seed: u64,
}

/// Connections of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// What these connections do.
    pub mode: Mode,
    /// Their number, in proportion to the weights of the other kinds.
    pub weight: u32,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Connect, request, response, close.
    Crr,
    /// Connect, close.
    Cc,
    /// Requests and responses on a kept connection.
    Rr,
    /// Bytes in both directions as fast as possible.
    Stream,
    /// One long message, of which every byte must come back.
    Echo,
    /// Kept open, with an exchange from time to time.
    Hold,
    /// One byte at a time, with a small receive buffer.
    Slow,
    /// Reset, each connection at the next of several stages.
    Reset,
    /// Connect, send nothing.
    Silent,
    /// Messages at fixed intervals, whether or not the server replies (`tine client`).
    Messages,
}

impl Mode {
    /// The modes of `tine load`, with their names.
    pub const LOADS: [(Mode, &'static str); 9] = [
        (Mode::Crr, "crr"),
        (Mode::Cc, "cc"),
        (Mode::Rr, "rr"),
        (Mode::Stream, "stream"),
        (Mode::Echo, "echo"),
        (Mode::Hold, "hold"),
        (Mode::Slow, "slow"),
        (Mode::Reset, "reset"),
        (Mode::Silent, "silent"),
    ];
}

/// Distribution of the arrivals of an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Equal intervals.
    Constant,
    /// Independent arrivals (a Poisson process), as from many users.
    Poisson,
}

impl Arrivals {
    /// All distributions, with their names.
    pub const ALL: [(Arrivals, &'static str); 2] =
        [(Arrivals::Constant, "constant"), (Arrivals::Poisson, "poisson")];
}

/// Which side closes a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Close {
    /// The client closes first and keeps the TIME_WAIT.
    FinClient,
    /// The client waits for the server to close, which keeps the TIME_WAIT.
    FinServer,
    /// The client resets; no TIME_WAIT.
    Rst,
}

impl Close {
    /// All of them, with their names.
    pub const ALL: [(Close, &'static str); 3] =
        [(Close::FinClient, "fin-client"), (Close::FinServer, "fin-server"), (Close::Rst, "rst")];
}

/// The version of the PROXY protocol's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyVersion {
    /// Both versions, with their names.
    pub const ALL: [(ProxyVersion, &'static str); 2] = [(ProxyVersion::V1, "v1"), (ProxyVersion::V2, "v2")];
}

/// Finds the name of a value in a table.
fn name_in<T: PartialEq>(table: &[(T, &'static str)], value: &T) -> &'static str {
    table.iter().find(|(one, _)| one == value).map_or("", |(_, name)| name)
}

/// Finds the value of a name in a table; the error lists all names.
fn value_in<T: Copy>(table: &[(T, &'static str)], what: &str, name: &str) -> Result<T, String> {
    let found = table.iter().find(|(_, one)| *one == name).map(|(value, _)| *value);
    let names: Vec<&str> = table.iter().map(|(_, name)| *name).collect();
    found.ok_or_else(|| format!("no {what} '{name}'; there are {}", names.join(", ")))
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Messages => f.write_str("messages"),
            mode => f.write_str(name_in(&Mode::LOADS, mode)),
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_in(&Close::ALL, self))
    }
}

impl fmt::Display for ProxyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_in(&ProxyVersion::ALL, self))
    }
}

/// The message of each exchange, as requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageText {
    /// This number of self-describing bytes; `None` for an endless message.
    Size(Option<u64>),
    /// A text with escapes.
    Text(String),
    /// A text with escapes, `{n}` and `{c}`.
    Template(String),
}

impl Plan {
    /// Returns the name of this load: mode, close, and what the client does besides. Loads of
    /// different names are never compared.
    #[must_use]
    pub fn name(&self) -> String {
        let modes: Vec<String> = match self.populations.as_slice() {
            [one] => vec![one.mode.to_string()],
            many => many.iter().map(|one| format!("{}={}", one.mode, one.weight)).collect(),
        };
        let half_close = if self.half_close { "/half-close" } else { "" };
        let proxy = self.proxy_header.map_or(String::new(), |version| format!("/proxy-{version}"));
        format!("{}/{}{half_close}{proxy}", modes.join(","), self.close)
    }

    /// Whether arrivals come at planned times, independent of the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rate.is_some()
    }

    /// Returns the population of a connection slot: in proportion to the weights, evenly mixed.
    #[must_use]
    pub fn population_of(&self, slot: usize) -> usize {
        let total: u64 = self.populations.iter().map(|one| u64::from(one.weight)).sum();
        let mut at = slot as u64 % total.max(1);
        for (number, one) in self.populations.iter().enumerate() {
            if at < u64::from(one.weight) {
                return number;
            }
            at -= u64::from(one.weight);
        }
        0
    }
}

/// Parses `crr=6`, or `crr` for a weight of 1.
impl FromStr for Population {
    type Err = String;

    fn from_str(text: &str) -> Result<Population, String> {
        let (mode, weight) = text.split_once('=').unwrap_or((text, "1"));
        let mode = value_in(&Mode::LOADS, "mode", mode)?;
        match weight.parse() {
            Ok(weight @ 1..=10_000) => Ok(Population { mode, weight }),
            _ => Err(format!("invalid weight '{weight}'; write a number from 1 to 10000")),
        }
    }
}

/// Divides connections (numbers from 0) among processes. The shares differ by one at most.
#[must_use]
pub fn shares(connections: usize, processes: usize) -> Vec<Range<usize>> {
    let processes = processes.clamp(1, connections.max(1));
    let mut first = 0;
    (0..processes)
        .map(|process| {
            let range = first..first + share(connections as u64, processes, process) as usize;
            first = range.end;
            range
        })
        .collect()
}

/// Returns the share of one process in a total.
#[must_use]
pub fn share(total: u64, processes: usize, process: usize) -> u64 {
    let (processes, process) = (processes as u64, process as u64);
    total / processes + u64::from(process < total % processes)
}

/// Returns the number of the address that a connection goes to: each in turn.
#[must_use]
pub fn target_of(connection: usize, targets: usize) -> usize {
    connection % targets
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::units::SECOND;

    /// A simple closed loop.
    pub(crate) fn plan() -> Plan {
        Plan {
            populations: vec![Population { mode: Mode::Crr, weight: 1 }],
            targets: vec!["127.0.0.1:9999".into()],
            processes: 2,
            connections: 16,
            rate: None,
            arrivals: Arrivals::Constant,
            warmup_ns: 0,
            ramp_ns: 0,
            duration_ns: Some(10 * SECOND),
            requests: None,
            per_connection: None,
            close: Close::FinClient,
            half_close: false,
            message: MessageText::Size(Some(64)),
            expect: "echo".into(),
            think_ns: 0,
            pace_ns: 0,
            timeout_ns: 5 * SECOND,
            max_lateness_ns: 10_000_000,
            sources: Vec::new(),
            proxy_header: None,
            proxy_sources: Vec::new(),
            seed: 1,
        }
    }

    #[test]
    fn shares_cover_all_connections_once_and_differ_by_one() {
        for (connections, processes) in [(1, 1), (10, 3), (3, 10), (1000, 7), (8, 8)] {
            let shares = shares(connections, processes);
            assert_eq!(shares.len(), processes.min(connections));
            let all: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(all, (0..connections).collect::<Vec<_>>());
            let sizes = shares.iter().map(Range::len);
            assert!(sizes.clone().max().expect("some") - sizes.min().expect("some") <= 1);
        }
        assert_eq!([0, 1, 2, 3].map(|connection| target_of(connection, 2)), [0, 1, 0, 1]);
        for (total, processes) in [(0, 3), (2, 3), (1000, 7)] {
            assert_eq!((0..processes).map(|process| share(total, processes, process)).sum::<u64>(), total);
        }
    }

    #[test]
    fn the_name_has_what_costs_different_work() {
        assert_eq!(plan().name(), "crr/fin-client");
        let other = Plan { half_close: true, proxy_header: Some(ProxyVersion::V2), ..plan() };
        assert_eq!(other.name(), "crr/fin-client/half-close/proxy-v2");
    }

    #[test]
    fn a_plan_without_the_latest_options_is_read() {
        let mut written = serde_json::to_value(plan()).expect("JSON");
        let fields = written.as_object_mut().expect("an object");
        for name in ["half_close", "proxy_header", "proxy_sources"] {
            assert!(fields.remove(name).is_some(), "{name}");
        }
        assert_eq!(serde_json::from_value::<Plan>(written).expect("a plan"), plan());
    }

    #[test]
    fn populations_are_parsed_with_their_weights() {
        assert_eq!("crr=6".parse(), Ok(Population { mode: Mode::Crr, weight: 6 }));
        assert_eq!("slow".parse(), Ok(Population { mode: Mode::Slow, weight: 1 }));
        for text in ["", "fast=1", "crr=0", "crr=-1", "crr=x", "mix=1", "messages"] {
            text.parse::<Population>().expect_err(text);
        }
    }
}
