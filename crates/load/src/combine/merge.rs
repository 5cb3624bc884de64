//! Reports of clients that ran at the same time, added up as if one client had measured them.

use crate::findings::summary::Summary;
use crate::report::Report;

/// Part of the longest measured time by which the others may differ: clients never start at exactly
/// the same time.
const DIFFERENCE: f64 = 0.02;

/// Adds up reports.
///
/// # Errors
/// A message if the reports are not of one load that ran at the same time.
pub fn merge(reports: &[Report]) -> Result<Report, String> {
    let (first, others) = reports.split_first().ok_or("there is no report to add up")?;
    let mut sum = first.clone();
    for other in others {
        check(&sum, other)?;
        add(&mut sum, other);
    }
    if !sum.findings.connections.adds_up() {
        sum.validity.reasons.push("the reports do not add up".into());
    }
    sum.validity.valid = sum.validity.reasons.is_empty();
    sum.summary = Summary::new(&sum.findings, sum.window_ns, &sum.kernel, &sum.machine);
    Ok(sum)
}

fn check(one: &Report, other: &Report) -> Result<(), String> {
    if one.name != other.name || one.plan.is_open() != other.plan.is_open() {
        return Err(format!("cannot add up {} and {}: different loads", one.name, other.name));
    }
    let (longest, shortest) = (one.window_ns.max(other.window_ns), one.window_ns.min(other.window_ns));
    if (longest - shortest) as f64 > longest as f64 * DIFFERENCE {
        return Err("cannot add up reports of different measured times: they did not run together".into());
    }
    if one.plan.warmup_ns != other.plan.warmup_ns {
        return Err("cannot add up reports of different warm-up times".into());
    }
    Ok(())
}

fn add(sum: &mut Report, other: &Report) {
    let (plan, more) = (&mut sum.plan, &other.plan);
    plan.processes += more.processes;
    plan.connections += more.connections;
    plan.rate = plan.rate.zip(more.rate).map(|(one, other)| one + other);
    plan.requests = plan.requests.zip(more.requests).map(|(one, other)| one + other);
    for target in &more.targets {
        if !plan.targets.contains(target) {
            plan.targets.push(target.clone());
        }
    }
    sum.validity.reasons.extend(other.validity.reasons.iter().cloned());
    sum.validity.warnings.extend(other.validity.warnings.iter().cloned());
    sum.validity.warnings.dedup();
    sum.interrupted |= other.interrupted;
    sum.window_ns = sum.window_ns.max(other.window_ns);
    sum.began_ms = sum.began_ms.min(other.began_ms);
    sum.lost.extend(other.lost.iter().cloned());
    sum.kernel.merge(&other.kernel);
    sum.memory_kib = sum.memory_kib.max(other.memory_kib);
    if let Some(more) = &other.agents {
        sum.agents.get_or_insert_default().merge(more);
    }
    sum.findings.merge(&other.findings);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::record::Measure;
    use crate::findings::state::{Origin, State};
    use crate::report::tests::{ended, report};
    use crate::units::SECOND;

    #[test]
    fn reports_of_one_load_add_up_and_others_are_rejected() {
        let mut one = report(SECOND);
        one.findings.measured = 100;
        (1..=100).for_each(|number| one.findings.records.at(Measure::Exchange).add(number));
        let mut other = one.clone();
        other.validity.reasons.push("late".into());
        let sum = merge(&[one.clone(), other]).expect("one load");
        assert_eq!((sum.summary.rate, sum.summary.latency_ns.count), (200.0, 200));
        assert_eq!((sum.plan.processes, sum.validity.valid), (2 * one.plan.processes, false));
        let longer = report(2 * SECOND);
        merge(&[one.clone(), longer]).expect_err("another measured time");
        let other = Report { name: "cc/rst".into(), ..one.clone() };
        merge(&[one, other]).expect_err("another load");
    }

    #[test]
    fn an_error_of_the_client_makes_the_sum_invalid() {
        for (state, name) in State::ALL {
            let [sound, other] =
                [State::Ok, state].map(|state| Report::new(&crate::plan::tests::plan(), ended(state)));
            let sum = merge(&[sound, other]).expect("one load");
            let is_of_client = state.origin() == Some(Origin::Client);
            assert_eq!(sum.validity.valid, !is_of_client, "{name}");
            assert_eq!(sum.validity.reasons.concat().contains(name), is_of_client, "{name}");
        }
    }
}
