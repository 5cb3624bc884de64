//! Results of parts that ran at the same time, added up: as if one client had measured them.

use crate::report::{Report, summary};

/// Windows may differ by this part of the longest: no two clocks start together.
const DIFFERENCE: f64 = 0.02;

/// Adds up reports.
///
/// # Errors
/// Why they are not parts of one load.
pub fn merge(reports: &[Report]) -> Result<Report, String> {
    let (first, others) = reports.split_first().ok_or("there is nothing to add up")?;
    let mut whole = first.clone();
    for other in others {
        fits(&whole, other)?;
        add(&mut whole, other);
    }
    if !whole.findings.connections.adds_up() {
        whole.validity.reasons.push("the parts do not add up".into());
    }
    whole.validity.valid = whole.validity.reasons.is_empty();
    whole.summary = summary(&whole.findings, whole.window_ns, &whole.kernel, &whole.machine);
    Ok(whole)
}

fn fits(one: &Report, other: &Report) -> Result<(), String> {
    if one.name != other.name || one.plan.is_open() != other.plan.is_open() {
        return Err(format!("{} and {} are different loads: they never add up", one.name, other.name));
    }
    let (longest, shortest) = (one.window_ns.max(other.window_ns), one.window_ns.min(other.window_ns));
    if (longest - shortest) as f64 > longest as f64 * DIFFERENCE {
        return Err("they were measured for different times, so not at the same time".into());
    }
    if one.plan.warmup_ns != other.plan.warmup_ns {
        return Err("their warm-ups differ".into());
    }
    Ok(())
}

fn add(whole: &mut Report, other: &Report) {
    let (plan, more) = (&mut whole.plan, &other.plan);
    plan.processes += more.processes;
    plan.connections += more.connections;
    plan.rate = plan.rate.zip(more.rate).map(|(one, other)| one + other);
    plan.requests = plan.requests.zip(more.requests).map(|(one, other)| one + other);
    for target in &more.targets {
        if !plan.targets.contains(target) {
            plan.targets.push(target.clone());
        }
    }
    whole.validity.reasons.extend(other.validity.reasons.iter().cloned());
    whole.validity.warnings.extend(other.validity.warnings.iter().cloned());
    whole.validity.warnings.dedup();
    whole.interrupted |= other.interrupted;
    whole.window_ns = whole.window_ns.max(other.window_ns);
    whole.began_ms = whole.began_ms.min(other.began_ms);
    whole.lost.extend(other.lost.iter().cloned());
    whole.kernel.merge(&other.kernel);
    whole.memory_kib = whole.memory_kib.max(other.memory_kib);
    whole.findings.merge(&other.findings);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::record::Measure;
    use crate::plan::SECOND;
    use crate::report::tests::report;

    #[test]
    fn parts_add_up() {
        let mut one = report(SECOND);
        one.findings.measured = 100;
        (1..=100).for_each(|number| one.findings.records.at(Measure::Exchange).add(number));
        let mut other = one.clone();
        other.validity.reasons.push("late".into());
        let whole = merge(&[one.clone(), other]).expect("they fit");
        assert_eq!((whole.summary.rate, whole.summary.latency_ns.count), (200.0, 200));
        assert_eq!((whole.plan.processes, whole.validity.valid), (2 * one.plan.processes, false));
        let longer = report(2 * SECOND);
        merge(&[one.clone(), longer]).expect_err("another time");
        let other = Report { name: "cc/rst".into(), ..one.clone() };
        merge(&[one, other]).expect_err("another load");
    }
}
