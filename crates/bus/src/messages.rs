//! The messages between a coordinator and its agents: JSON, below one run of one coordinator.
//!
//! | subject | from | to |
//! | --- | --- | --- |
//! | `tine.load.lobby` | coordinators | agents that are free |
//! | `tine.RUN.all` | the coordinator | all agents of a run |
//! | `tine.RUN.to.AGENT` | the coordinator | one agent |
//! | `tine.RUN.from.AGENT` | the agent | the coordinator |
//!
//! What comes from the bus is text of others: [`read`] bounds its size, and the types bound the
//! rest.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tine_load::findings::machine::Machine;
use tine_load::plan::Plan;
use tine_load::plan::part::Part;
use tine_load::run::live::Numbers;

use crate::names::Name;

/// Version of the messages. Coordinators and agents of different versions do not work together.
pub const VERSION: u32 = 1;

/// Subject on which coordinators look for agents.
pub const LOBBY: &str = "tine.load.lobby";

/// Longest message, in bytes: the limit of a NATS server, if it is not configured.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Time between two signs of life, in nanoseconds.
pub const TICK: u64 = 1_000_000_000;

/// Time without a sign of life after which the other side is lost: three ticks.
pub const SILENCE: u64 = 3 * TICK;

/// Returns the subject of messages to all agents of a run.
#[must_use]
pub fn to_all(run: &Name) -> String {
    format!("tine.{run}.all")
}

/// Returns the subject of messages to an agent, or to any with `*`.
#[must_use]
pub fn to(run: &Name, agent: &str) -> String {
    format!("tine.{run}.to.{agent}")
}

/// Returns the subject of messages from an agent, or from any with `*`.
#[must_use]
pub fn from(run: &Name, agent: &str) -> String {
    format!("tine.{run}.from.{agent}")
}

/// A coordinator looks for agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// [`VERSION`] of the coordinator.
    pub version: u32,
    /// Its run.
    pub run: Name,
}

/// A message to all agents of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ToAll {
    /// The coordinator is there.
    Tick,
    /// The load ends now. What was measured is sent.
    Abort {
        /// Why.
        why: String,
    },
}

/// A message to one agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ToAgent {
    /// There are enough agents.
    NotNeeded,
    /// The part of the load that the agent is to prepare, in place of an earlier one.
    Prepare(Box<Assignment>),
    /// The start of the load.
    Start {
        /// Hash of the assignment.
        hash: u64,
        /// The start, on the agent's monotonic clock in nanoseconds.
        at_ns: u64,
    },
    /// Asks for the agent's clocks.
    Ping {
        /// Time of the coordinator's monotonic clock, in nanoseconds.
        sent_ns: u64,
    },
    /// Asks for the result, again.
    SendResult,
    /// The result has come.
    Received,
    /// The coordinator ends: the agent returns to the lobby.
    Over,
}

/// A message from an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FromAgent {
    /// The agent is free, and offers itself.
    Join {
        /// [`VERSION`] of the agent.
        version: u32,
        /// Its machine.
        facts: Box<Facts>,
    },
    /// The part of the load is prepared.
    Ready {
        /// Hash of the assignment.
        hash: u64,
    },
    /// The answer to a ping.
    Pong {
        /// That of the ping.
        sent_ns: u64,
        /// Time of the agent's monotonic clock, in nanoseconds.
        clock_ns: u64,
        /// The agent's time of day, in nanoseconds since 1970.
        day_ns: u64,
    },
    /// The agent is there.
    Tick {
        /// Whether its part of the load has ended.
        is_done: bool,
        /// Its numbers.
        numbers: Box<Numbers>,
    },
    /// A piece of the result, which is a report as JSON.
    Piece {
        /// Hash of the assignment.
        hash: u64,
        /// Its number, from 0.
        number: usize,
        /// Number of all pieces.
        of: usize,
        /// The text.
        text: String,
    },
    /// The agent leaves the run.
    Failed {
        /// Why.
        why: String,
    },
}

/// What a coordinator must know about an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its machine.
    pub machine: Machine,
    /// Identifies the running kernel.
    pub kernel_id: String,
    /// Identifies the network namespace.
    pub network_id: String,
}

/// The part of a load that an agent runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Number of the assignment in the run: a later one replaces an earlier one.
    pub round: u32,
    /// The whole load.
    pub plan: Plan,
    /// The workers of this agent.
    pub part: Part,
}

impl Assignment {
    /// Returns a number that differs for assignments that differ. FNV-1a over the JSON: no secret
    /// is protected by it.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let text = write(self);
        text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// Formats a message.
#[must_use]
pub fn write(message: &impl Serialize) -> Vec<u8> {
    // Serializing cannot fail: all maps have strings for keys.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Parses a message. `None` if it is too long, or none of that type.
#[must_use]
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    if text.len() > MAX_MESSAGE {
        return None;
    }
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{numbers_of, plan};

    #[test]
    fn messages_are_read_back_unchanged() {
        let part = Part::whole(&plan());
        let assignment = Assignment { round: 3, plan: plan(), part };
        let numbers = Box::new(numbers_of(3));
        for message in [
            FromAgent::Join { version: VERSION, facts: Box::default() },
            FromAgent::Ready { hash: u64::MAX },
            FromAgent::Tick { is_done: true, numbers },
            FromAgent::Piece { hash: 1, number: 0, of: 2, text: "{\"a\"".into() },
        ] {
            assert_eq!(read(&write(&message)), Some(message));
        }
        for message in [ToAgent::Prepare(Box::new(assignment.clone())), ToAgent::Start { hash: 1, at_ns: 2 }]
        {
            assert_eq!(read(&write(&message)), Some(message));
        }
        assert_eq!(read(br#"{"kind":"abort","why":"x"}"#), Some(ToAll::Abort { why: "x".into() }));
        assert_eq!(read::<ToAll>(br#"{"kind":"dance"}"#), None);
        let long = ToAll::Abort { why: "x".repeat(MAX_MESSAGE) };
        assert_eq!(read::<ToAll>(&write(&long)), None);
    }

    #[test]
    fn assignments_that_differ_have_other_hashes() {
        let one = Assignment { round: 0, plan: plan(), part: Part::whole(&plan()) };
        let again = Assignment { round: 1, ..one.clone() };
        let part = Assignment { part: Part { first: 1, ..one.part }, ..one.clone() };
        assert_eq!(one.hash(), one.clone().hash());
        assert!(one.hash() != again.hash() && one.hash() != part.hash());
        // As an agent computes it, from what it has read.
        let read: Assignment = read(&write(&one)).expect("an assignment");
        assert_eq!(read.hash(), one.hash());
    }
}
