//! The part of a load that one machine runs: some of its workers. Each worker computes its share
//! of connections, arrivals and requests from its number, so the parts make one load.

use serde::{Deserialize, Serialize};

use super::{Plan, share, shares};

/// Consecutive workers of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number of the first worker, from 0.
    pub first: usize,
    /// Number of workers in this part.
    pub workers: usize,
    /// Number of workers of the whole load.
    pub of: usize,
}

impl Part {
    /// Returns the part that is the whole load.
    #[must_use]
    pub fn whole(plan: &Plan) -> Part {
        let workers = shares(plan.connections as usize, plan.processes as usize).len();
        Part { first: 0, workers, of: workers }
    }

    /// Whether this is a part of a plan's load: its workers exist, and there is at least one.
    #[must_use]
    pub fn fits(&self, plan: &Plan) -> bool {
        let end = self.first.checked_add(self.workers);
        self.of == Part::whole(plan).of && self.workers > 0 && end.is_some_and(|end| end <= self.of)
    }

    /// Returns the plan of this part alone, as the result of a part has it: with its own processes,
    /// connections, rate and requests, which add up to those of the whole.
    #[must_use]
    pub fn of_plan(&self, plan: &Plan) -> Plan {
        let sum = |total: u64| {
            (self.first..self.first + self.workers).map(|worker| share(total, self.of, worker)).sum::<u64>()
        };
        Plan {
            processes: self.workers as u32,
            connections: sum(u64::from(plan.connections)) as u32,
            rate: plan.rate.map(|rate| rate * self.workers as f64 / self.of as f64),
            requests: plan.requests.map(sum),
            ..plan.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_of_all_parts_add_up_to_the_plan() {
        let plan = Plan {
            processes: 7,
            connections: 100,
            rate: Some(70.0),
            requests: Some(33),
            ..crate::plan::tests::plan()
        };
        assert_eq!(Part::whole(&plan).of_plan(&plan), plan);
        let parts = [(0, 1), (1, 4), (5, 2)].map(|(first, workers)| Part { first, workers, of: 7 });
        assert!(parts.iter().all(|part| part.fits(&plan)));
        let plans = parts.map(|part| part.of_plan(&plan));
        assert_eq!(plans.iter().map(|plan| plan.processes).sum::<u32>(), 7);
        assert_eq!(plans.iter().map(|plan| plan.connections).sum::<u32>(), 100);
        assert_eq!(plans.iter().filter_map(|plan| plan.requests).sum::<u64>(), 33);
        assert!((plans.iter().filter_map(|plan| plan.rate).sum::<f64>() - 70.0).abs() < 1e-9);
    }

    #[test]
    fn a_part_that_is_not_of_the_plan_does_not_fit() {
        let plan = Plan { processes: 4, connections: 3, ..crate::plan::tests::plan() };
        // There are no more workers than connections.
        for (first, workers, of, fits) in [
            (0, 3, 3, true),
            (2, 1, 3, true),
            (2, 2, 3, false),
            (0, 0, 3, false),
            (0, 4, 4, false),
            (usize::MAX, 2, 3, false),
        ] {
            assert_eq!(Part { first, workers, of }.fits(&plan), fits, "{first} {workers} {of}");
        }
    }
}
