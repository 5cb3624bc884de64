//! The result of a load that agents on several machines have run: the union of the results of its
//! parts, judged as one.

use std::collections::BTreeMap;

use crate::findings::Findings;
use crate::findings::agents::Agents;
use crate::findings::counters::{Counters, Ticks};
use crate::findings::measurement::Measurement;
use crate::plan::Plan;
use crate::report::Report;

/// Unites the results of the parts of a plan. `agents` is in the order of `parts`; an agent without
/// a result has none. `is_interrupted`: a signal to the coordinator ended the run.
#[must_use]
pub fn unite(plan: &Plan, agents: Agents, parts: &[Option<Report>], is_interrupted: bool) -> Report {
    let mut findings = Findings::default();
    let there = || parts.iter().flatten();
    for part in there() {
        findings.merge(&part.findings);
    }
    let measurement = Measurement {
        findings,
        lost: there().flat_map(|part| part.lost.iter().cloned()).collect(),
        interrupted: is_interrupted,
        window_ns: there().map(|part| part.window_ns).max().unwrap_or(0),
        kernel: counters(&agents, parts),
        memory_kib: there().map(|part| part.memory_kib).max().unwrap_or(0),
        began_ms: there().map(|part| part.began_ms).min().unwrap_or(0),
        agents: Some(agents),
    };
    let mut report = Report::new(plan, measurement);
    // The unit of processor times is that of the machines that measured.
    if let Some(first) = there().next() {
        report.on_machine(first.machine.clone());
    }
    report
}

/// Adds up the counters of all kernels and network namespaces, each once: agents that share one
/// have counted the same.
fn counters(agents: &Agents, parts: &[Option<Report>]) -> Counters {
    let mut networks: BTreeMap<(&str, &str), BTreeMap<String, u64>> = BTreeMap::new();
    let mut processors: BTreeMap<&str, Ticks> = BTreeMap::new();
    for (agent, part) in agents.each.iter().zip(parts) {
        let Some(part) = part else { continue };
        let network = networks.entry((&agent.kernel_id, &agent.network_id)).or_default();
        for (name, value) in &part.kernel.network {
            let most = network.entry(name.clone()).or_default();
            *most = (*most).max(*value);
        }
        let (ticks, more) = (processors.entry(&agent.kernel_id).or_default(), part.kernel.processor);
        // Those of one time: of the agent that counted the longest.
        if more.total > ticks.total {
            *ticks = more;
        }
    }
    let mut sum = Counters::default();
    for network in networks.into_values() {
        sum.merge(&Counters { network, processor: Ticks::default() });
    }
    for processor in processors.into_values() {
        sum.merge(&Counters { network: BTreeMap::new(), processor });
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::agents::Agent;
    use crate::findings::record::Measure;
    use crate::findings::state::State;
    use crate::plan::part::Part;
    use crate::plan::splitmix::Random;
    use crate::report::tests::report;
    use crate::units::SECOND;

    fn agents(ids: &[(&str, &str)]) -> Agents {
        let each = ids.iter().map(|(kernel, network)| Agent {
            kernel_id: (*kernel).into(),
            network_id: (*network).into(),
            ..Agent::default()
        });
        Agents::new(0, each.collect())
    }

    /// What one worker finds about an arrival whose duration is a function of its planned time.
    fn record(findings: &mut Findings, planned: u64) {
        let mut random = Random::new(planned);
        let duration = (random.next_word() % 60_000_000_000) >> (random.next_word() % 36);
        findings.connections.planned += 1;
        findings.connections.count(State::Ok, 1);
        findings.measured += 1;
        findings.second(planned).done += 1;
        findings.records.at(Measure::Exchange).add(duration);
        findings.records.at(Measure::Connect).add(duration / 3);
    }

    #[test]
    fn agents_and_one_process_have_the_same_histograms_of_the_same_schedule() {
        use crate::plan::schedule::Schedule;
        let plan = Plan {
            processes: 7,
            rate: Some(2000.0),
            duration_ns: Some(2 * SECOND),
            ..crate::plan::tests::plan()
        };
        // The findings of workers, which have the arrivals of their numbers.
        let of_workers = |workers: std::ops::Range<usize>, of: usize| {
            let mut findings = Findings::default();
            for worker in workers {
                let mut schedule = Schedule::new(&plan, of, worker).expect("an open loop");
                while let Some(planned) = schedule.peek() {
                    schedule.advance();
                    record(&mut findings, planned);
                }
            }
            findings
        };
        let whole = of_workers(0..1, 1);
        for cuts in [&[0, 7][..], &[0, 1, 2, 3, 7], &[0, 3, 4, 7]] {
            let parts: Vec<Option<Report>> = cuts
                .windows(2)
                .map(|cut| {
                    let part = Part { first: cut[0], workers: cut[1] - cut[0], of: 7 };
                    assert!(part.fits(&plan));
                    let mut one = report(2 * SECOND);
                    one.findings = of_workers(cut[0]..cut[1], 7);
                    // As agents send them: written and read again.
                    let text = serde_json::to_string(&one).expect("it can be written");
                    Some(serde_json::from_str(&text).expect("it can be read"))
                })
                .collect();
            let union = unite(&plan, agents(&vec![("a", "b"); parts.len()]), &parts, false);
            assert_eq!(union.findings.records, whole.records);
            assert_eq!(union.findings.connections, whole.connections);
            assert_eq!(union.findings.seconds, whole.seconds);
            assert_eq!((union.summary.rate, union.validity.valid), (2000.0, true), "{:?}", union.validity);
        }
    }

    #[test]
    fn counters_that_agents_share_count_once() {
        let part = |overflows: u64, total: u64| {
            let mut one = report(SECOND);
            one.kernel.network.insert("ListenDrops".into(), overflows);
            one.kernel.processor = Ticks { total, busy: total / 2, steal: 1 };
            Some(one)
        };
        let parts = [part(3, 100), part(4, 102), part(5, 90), None];
        for (ids, drops, total) in [
            ([("a", "1"), ("a", "1"), ("a", "1"), ("a", "1")], 5, 102),
            ([("a", "1"), ("a", "1"), ("a", "2"), ("a", "1")], 9, 102),
            ([("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")], 12, 192),
        ] {
            let sum = counters(&agents(&ids), &parts);
            assert_eq!(
                (sum.of("ListenDrops"), sum.processor.total, sum.processor.busy),
                (drops, total, total / 2)
            );
        }
    }

    #[test]
    fn a_lost_agent_makes_the_union_invalid_unless_it_is_allowed() {
        let parts = [Some(report(SECOND)), None];
        for (allow_lost, valid) in [(0, false), (1, true)] {
            let mut two = agents(&[("a", "1"), ("b", "1")]);
            two.allow_lost = allow_lost;
            two.each[1].lost = Some("no sign of it for 3 s".into());
            let union = unite(&crate::plan::tests::plan(), two, &parts, false);
            let validity = &union.validity;
            assert_eq!(validity.valid, valid, "{validity:?}");
            let said = if valid { validity.warnings.concat() } else { validity.reasons.concat() };
            assert!(said.contains("was lost: no sign of it for 3 s"), "{validity:?}");
        }
    }
}
