//! The agents of a load that several machines run together.

use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// All agents of a load, and how exactly they started together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agents {
    /// Number of agents that may be lost before the result is invalid.
    pub allow_lost: u32,
    /// Time between the first and the last actual start, in nanoseconds, as the clocks of the
    /// agents say.
    pub start_skew_ns: u64,
    /// Amount by which these clocks may differ more than was measured, in nanoseconds.
    pub clock_uncertainty_ns: u64,
    /// The agents, in the order of their workers.
    pub each: Vec<Agent>,
}

/// An agent: a process that runs a part of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name: host, process id, and a random number.
    pub name: String,
    /// Its machine.
    pub machine: Machine,
    /// Identifies the running kernel. Agents of one kernel share its processors.
    pub kernel_id: String,
    /// Identifies the network namespace, whose counters agents share.
    pub network_id: String,
    /// Number of its workers.
    pub processes: u32,
    /// Number of its connections.
    pub connections: u32,
    /// Its monotonic clock minus that of the coordinator, in nanoseconds.
    pub clock_offset_ns: i64,
    /// Its time of day minus that of the coordinator, in nanoseconds.
    pub day_offset_ns: i64,
    /// Amount by which both may be wrong: half of the shortest round trip, in nanoseconds.
    pub clock_uncertainty_ns: u64,
    /// Time from the planned to the actual start, in nanoseconds. `None` without a result.
    pub start_late_ns: Option<u64>,
    /// Why it was lost.
    pub lost: Option<String>,
}

impl Agents {
    /// Computes what describes all agents from each of them.
    #[must_use]
    pub fn new(allow_lost: u32, each: Vec<Agent>) -> Agents {
        let late = || each.iter().filter_map(|agent| agent.start_late_ns);
        let skew = late().max().unwrap_or(0) - late().min().unwrap_or(0);
        let mut uncertain: Vec<u64> = each.iter().map(|agent| agent.clock_uncertainty_ns).collect();
        uncertain.sort_unstable();
        // Two clocks may be wrong in opposite directions.
        let uncertainty = uncertain.iter().rev().take(2).sum();
        Agents { allow_lost, start_skew_ns: skew, clock_uncertainty_ns: uncertainty, each }
    }

    /// Adds the agents of another result. Their clocks were not compared with these.
    pub fn merge(&mut self, other: &Agents) {
        self.allow_lost += other.allow_lost;
        self.start_skew_ns = self.start_skew_ns.max(other.start_skew_ns);
        self.clock_uncertainty_ns = self.clock_uncertainty_ns.max(other.clock_uncertainty_ns);
        self.each.extend(other.each.iter().cloned());
    }

    /// Returns the agents that were lost, with the reasons.
    pub fn lost(&self) -> impl Iterator<Item = (&Agent, &str)> {
        self.each.iter().filter_map(|agent| Some((agent, agent.lost.as_deref()?)))
    }

    /// Whether more agents were lost than may be.
    #[must_use]
    pub fn are_too_few(&self) -> bool {
        self.lost().count() > self.allow_lost as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_is_that_of_the_actual_starts_and_the_uncertainty_that_of_two_clocks() {
        let agent = |late, uncertain| Agent {
            start_late_ns: late,
            clock_uncertainty_ns: uncertain,
            ..Agent::default()
        };
        for (each, skew, uncertainty) in [
            (vec![], 0, 0),
            (vec![agent(Some(7), 3)], 0, 3),
            (vec![agent(Some(7), 3), agent(None, 5), agent(Some(2), 4)], 5, 9),
        ] {
            let agents = Agents::new(0, each);
            assert_eq!((agents.start_skew_ns, agents.clock_uncertainty_ns), (skew, uncertainty));
        }
    }

    #[test]
    fn agents_are_too_few_when_more_are_lost_than_allowed() {
        let lost = Agent { lost: Some("gone".into()), ..Agent::default() };
        for (allowed, number, too_few) in [(0, 0, false), (0, 1, true), (1, 1, false), (1, 2, true)] {
            let agents = Agents::new(allowed, vec![lost.clone(); number]);
            assert_eq!((agents.lost().count(), agents.are_too_few()), (number, too_few));
        }
    }
}
