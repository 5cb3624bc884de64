//! Whether a plan that came from elsewhere is one that the command line could have made: each value
//! within its range.

use super::{MessageText, Mode, Plan};

/// Greatest number of connections, processes, populations and addresses.
const MAX_CONNECTIONS: u32 = 1_000_000;
const MAX_PROCESSES: u32 = 1024;
const MAX_POPULATIONS: usize = 64;
const MAX_TARGETS: usize = 4096;
/// Greatest weight of a population.
const MAX_WEIGHT: u32 = 10_000;
/// Greatest rate, per second.
const MAX_RATE: f64 = 1e8;
/// Longest time, in nanoseconds: sums of a few of them fit.
const MAX_TIME: u64 = u64::MAX / 4;

/// Checks the ranges of a plan. What it says is invalid is named as the result names it.
///
/// # Errors
/// The first value that is out of its range.
pub fn check(plan: &Plan) -> Result<(), String> {
    let within = |name: &str, holds: bool| {
        if holds { Ok(()) } else { Err(format!("the plan has an invalid {name}")) }
    };
    let populations = &plan.populations;
    within("list of populations", (1..=MAX_POPULATIONS).contains(&populations.len()))?;
    for one in populations {
        within("mode", one.mode != Mode::Messages)?;
        within("weight", (1..=MAX_WEIGHT).contains(&one.weight))?;
    }
    within("list of targets", (1..=MAX_TARGETS).contains(&plan.targets.len()))?;
    within("number of connections", (1..=MAX_CONNECTIONS).contains(&plan.connections))?;
    let processes = 1..=MAX_PROCESSES.min(plan.connections);
    within("number of processes", processes.contains(&plan.processes))?;
    within("rate", plan.rate.is_none_or(|rate| rate > 0.0 && rate <= MAX_RATE))?;
    within("number of requests", plan.requests != Some(0))?;
    within("number for each connection", plan.per_connection != Some(0))?;
    within("end", plan.duration_ns.is_some() || plan.requests.is_some())?;
    within("size", !matches!(plan.message, MessageText::Size(Some(u64::MAX))))?;
    let times = [plan.warmup_ns, plan.ramp_ns, plan.think_ns, plan.max_lateness_ns];
    within("time", times.into_iter().chain(plan.duration_ns).all(|time| time <= MAX_TIME))?;
    within("duration", plan.duration_ns != Some(0))?;
    within("pace", (1..=MAX_TIME).contains(&plan.pace_ns))?;
    within("timeout", (1..=MAX_TIME).contains(&plan.timeout_ns))?;
    within("list of sources", plan.sources.len().max(plan.proxy_sources.len()) <= MAX_TARGETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Population;

    #[test]
    fn a_value_out_of_its_range_is_named() {
        type Change = fn(&mut Plan);
        let plan = Plan { pace_ns: 1, ..crate::plan::tests::plan() };
        assert_eq!(check(&plan), Ok(()));
        let changes: [(&str, Change); 16] = [
            ("list of populations", |plan| plan.populations.clear()),
            ("list of populations", |plan| plan.populations = vec![plan.populations[0]; 65]),
            ("mode", |plan| plan.populations[0].mode = Mode::Messages),
            ("weight", |plan| plan.populations.push(Population { mode: Mode::Crr, weight: 0 })),
            ("list of targets", |plan| plan.targets.clear()),
            ("number of connections", |plan| plan.connections = 0),
            ("number of connections", |plan| plan.connections = 1_000_001),
            ("number of processes", |plan| plan.processes = 0),
            ("number of processes", |plan| plan.processes = plan.connections + 1),
            ("rate", |plan| plan.rate = Some(f64::NAN)),
            ("rate", |plan| plan.rate = Some(1e9)),
            ("number of requests", |plan| plan.requests = Some(0)),
            ("end", |plan| plan.duration_ns = None),
            ("time", |plan| plan.warmup_ns = u64::MAX),
            ("pace", |plan| plan.pace_ns = 0),
            ("timeout", |plan| plan.timeout_ns = u64::MAX),
        ];
        for (name, change) in changes {
            let mut plan = plan.clone();
            change(&mut plan);
            assert_eq!(check(&plan), Err(format!("the plan has an invalid {name}")), "{plan:?}");
        }
    }
}
