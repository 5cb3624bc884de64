//! A load as it was asked for. It stands in every report, and says who does what: shares are computed, not
//! negotiated.

pub mod expect;
pub mod pattern;
pub mod schedule;
pub mod script;
pub mod target;
pub mod text;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One second, in the unit of all times here.
pub const SECOND: u64 = 1_000_000_000;

/// A load. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What connections do; several with weights are a mix.
    pub populations: Vec<Population>,
    /// The addresses, as they were typed; connections are dealt out over several.
    pub targets: Vec<String>,
    /// Processes that load.
    pub processes: u32,
    /// Connections at a time, over all processes.
    pub connections: u32,
    /// Arrivals per second in all, whatever the server does (open loop); without it, each connection goes on
    /// when its server has answered (closed loop).
    pub rate: Option<f64>,
    /// How arrivals follow each other in an open loop.
    pub arrivals: Arrivals,
    /// What is left out of the figures at the beginning.
    pub warmup_ns: u64,
    /// Time over which the load grows to its full size, from the start.
    pub ramp_ns: u64,
    /// What is measured, after the warm-up. `None`: until all requests are done.
    pub duration_ns: Option<u64>,
    /// Connections (or exchanges, where they are kept) in all.
    pub requests: Option<u64>,
    /// Exchanges on each connection, where the mode leaves that open.
    pub per_connection: Option<u64>,
    /// Who ends a connection, and how.
    pub close: Close,
    /// What is sent.
    pub message: MessageText,
    /// What is to come back, as it was typed.
    pub expect: String,
    /// Rest between two exchanges of a connection.
    pub think_ns: u64,
    /// Time from one byte to the next of slow connections.
    pub pace_ns: u64,
    /// How long connecting may take, and an exchange.
    pub timeout_ns: u64,
    /// What a client may be late with 1 of 100 arrivals before an open loop counts as invalid.
    pub max_lateness_ns: u64,
    /// Addresses to connect from, in CIDR notation; none leaves it to the kernel.
    pub sources: Vec<String>,
    /// What the bytes and the random choices are a function of.
    pub seed: u64,
}

/// Connections of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// What they do.
    pub mode: Mode,
    /// How many there are, in proportion to the other kinds.
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
    /// Request and response again and again.
    Rr,
    /// Bytes as fast as they go, both ways.
    Stream,
    /// Much is sent, and every byte is to come back.
    Echo,
    /// Stays, and shows now and then that the server is there.
    Hold,
    /// One byte at a time, with a small receive buffer.
    Slow,
    /// Ends abruptly, each time at another stage.
    Reset,
    /// Connects and says nothing.
    Silent,
}

impl Mode {
    /// All of them, with the words that name them.
    pub const ALL: [(Mode, &'static str); 9] = [
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

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Mode::ALL.iter().find(|(mode, _)| mode == self).map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// Independently of each other, as those of many users.
    Poisson,
}

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Close {
    /// The client, in order; it keeps the TIME_WAIT.
    FinClient,
    /// The server is waited for; it keeps the TIME_WAIT.
    FinServer,
    /// The client resets; nobody keeps one.
    Rst,
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Close::FinClient => "fin-client",
            Close::FinServer => "fin-server",
            Close::Rst => "rst",
        })
    }
}

/// What is sent, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageText {
    /// So many bytes that say where they belong; `None` for no end.
    Size(Option<u64>),
    /// These, unescaped.
    Text(String),
    /// The same with `{n}` and `{c}`.
    Template(String),
}

impl Plan {
    /// What this load is called: mode and close, which never compare with others.
    #[must_use]
    pub fn name(&self) -> String {
        let modes: Vec<String> = match self.populations.as_slice() {
            [one] => vec![one.mode.to_string()],
            many => many.iter().map(|one| format!("{}={}", one.mode, one.weight)).collect(),
        };
        format!("{}/{}", modes.join(","), self.close)
    }

    /// Whether arrivals do not wait for the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rate.is_some()
    }

    /// The population of each connection's place: in proportion to the weights, mixed evenly.
    #[must_use]
    pub fn population_of(&self, place: usize) -> usize {
        let total: u64 = self.populations.iter().map(|one| u64::from(one.weight)).sum();
        let mut at = place as u64 % total.max(1);
        for (number, one) in self.populations.iter().enumerate() {
            if at < u64::from(one.weight) {
                return number;
            }
            at -= u64::from(one.weight);
        }
        0
    }
}

/// Reads `crr=6,slow=1`.
impl FromStr for Population {
    type Err = String;

    fn from_str(text: &str) -> Result<Population, String> {
        let (word, weight) = text.split_once('=').unwrap_or((text, "1"));
        let mode = Mode::ALL.iter().find(|(_, name)| *name == word).map(|(mode, _)| *mode);
        let words: Vec<&str> = Mode::ALL.iter().map(|(_, word)| *word).collect();
        let mode = mode.ok_or_else(|| format!("no mode '{word}'; there are {}", words.join(", ")))?;
        match weight.parse() {
            Ok(weight @ 1..=10_000) => Ok(Population { mode, weight }),
            _ => Err("a weight is a number from 1 to 10000".into()),
        }
    }
}

/// The connections (numbers from 0) of each process: shares that differ by one at most.
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

/// A process's part of a number.
#[must_use]
pub fn share(whole: u64, processes: usize, process: usize) -> u64 {
    let (processes, process) = (processes as u64, process as u64);
    whole / processes + u64::from(process < whole % processes)
}

/// The address of a connection: each in turn.
#[must_use]
pub fn target_of(connection: usize, targets: usize) -> usize {
    connection % targets
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A closed loop of the plainest kind.
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
            message: MessageText::Size(Some(64)),
            expect: "echo".into(),
            think_ns: 0,
            pace_ns: 0,
            timeout_ns: 5 * SECOND,
            max_lateness_ns: 10_000_000,
            sources: Vec::new(),
            seed: 1,
        }
    }

    #[test]
    fn everything_is_dealt_out_once() {
        for (connections, processes) in [(1, 1), (10, 3), (3, 10), (1000, 7), (8, 8)] {
            let shares = shares(connections, processes);
            assert_eq!(shares.len(), processes.min(connections));
            let all: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(all, (0..connections).collect::<Vec<_>>());
            let sizes = shares.iter().map(Range::len);
            assert!(sizes.clone().max().expect("some") - sizes.min().expect("some") <= 1);
        }
        assert_eq!([0, 1, 2, 3].map(|connection| target_of(connection, 2)), [0, 1, 0, 1]);
        for (whole, processes) in [(0, 3), (2, 3), (1000, 7)] {
            assert_eq!((0..processes).map(|process| share(whole, processes, process)).sum::<u64>(), whole);
        }
    }

    #[test]
    fn weights_as_they_are_typed() {
        assert_eq!("crr=6".parse(), Ok(Population { mode: Mode::Crr, weight: 6 }));
        assert_eq!("slow".parse(), Ok(Population { mode: Mode::Slow, weight: 1 }));
        for text in ["", "fast=1", "crr=0", "crr=-1", "crr=x", "mix=1"] {
            text.parse::<Population>().expect_err(text);
        }
    }
}
