//! Whether a measurement is one. That is an outcome of its own, beside good and bad.

use serde::{Deserialize, Serialize};

use crate::findings::record::Measure;
use crate::findings::state::State;
use crate::plan::Plan;
use crate::run::coordinator::Outcome;

/// What is said about a measurement before its figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// Whether the figures are about what was asked for.
    pub valid: bool,
    /// Why they are not.
    pub reasons: Vec<String>,
    /// What to keep in mind with them.
    pub warnings: Vec<String>,
}

/// Counters that must not grow: then the kernel did other work than was asked for.
const MUST_NOT_GROW: [(&str, &str); 3] = [
    (
        "TCPTimeWaitOverflow",
        "sockets skipped TIME_WAIT, as there were too many: load slower, or from fewer ports, or raise tcp_max_tw_buckets",
    ),
    (
        "ListenOverflows",
        "connections found an accept queue full: give the server a longer backlog, or ramp up (--ramp)",
    ),
    ("ListenDrops", "connections were dropped before they were accepted"),
];

/// A part of the machine that others took, above which figures are doubtful.
const MUCH_STEAL: f64 = 0.01;

/// Judges a load that is over.
#[must_use]
pub fn judge(plan: &Plan, outcome: &Outcome) -> Validity {
    let reasons = reasons(plan, outcome);
    Validity { valid: reasons.is_empty(), reasons, warnings: warnings(plan, outcome) }
}

fn reasons(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let part = &outcome.part;
    let mut reasons = Vec::new();
    for lost in &outcome.lost {
        reasons.push(format!("worker {} (pid {}) was lost: {}", lost.worker + 1, lost.pid, lost.how));
    }
    for (name, meaning) in MUST_NOT_GROW {
        match outcome.kernel.of(name) {
            0 => {}
            // Each overflow is a drop, too: once is enough.
            number if name == "ListenDrops" && number == outcome.kernel.of("ListenOverflows") => {}
            number => reasons.push(format!("{name} grew by {number}: {meaning}")),
        }
    }
    if plan.is_open() {
        let late = part.records.of(Measure::Lateness).quantile(0.99);
        if late > plan.max_lateness_ns {
            reasons.push(format!(
                "this side was late: 1 of 100 arrivals began {} or more after its time (--max-lateness {})",
                crate::report::text::duration(late),
                crate::report::text::duration(plan.max_lateness_ns)
            ));
        }
    }
    if !part.connections.adds_up() || !part.exchanges.adds_up() {
        reasons.push(
            "the ends of connections do not add up to what was planned: a fault of tine's; please report it"
                .into(),
        );
    }
    if part.measured == 0 && part.most_open > 0 && !is_still(plan) && !outcome.interrupted {
        reasons.push("nothing was done in the measured time".into());
    }
    reasons
}

/// Whether connections only stay, or stream without an end, so that nothing need be done.
fn is_still(plan: &Plan) -> bool {
    use crate::plan::Mode;
    plan.populations.iter().all(|one| matches!(one.mode, Mode::Silent | Mode::Hold | Mode::Stream))
}

fn warnings(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let part = &outcome.part;
    let processor = outcome.kernel.processor;
    let share = |ticks: u64| ticks as f64 / processor.total.max(1) as f64;
    let mut warnings = Vec::new();
    if !plan.is_open() && share(processor.busy) > 0.95 {
        warnings.push(
            "the processors were busy throughout: the rate is what client and server do together on this machine".into(),
        );
    }
    if share(processor.steal) > MUCH_STEAL {
        warnings.push(format!(
            "others took {:.1} % of the processors' time (steal)",
            share(processor.steal) * 100.0
        ));
    }
    match outcome.kernel.of("RetransSegs") {
        0 => {}
        number => warnings.push(format!("{number} segments were sent again")),
    }
    if part.slow_connects > 0 {
        warnings.push(format!(
            "{} connections took more than 900 ms to make: the kernel tried again, as something was full or lost",
            part.slow_connects
        ));
    }
    if part.waited > 0 && plan.is_open() {
        warnings.push(format!(
            "{} arrivals waited for a connection of {} to be free; their wait is in the latency (--connections allows more)",
            part.waited, plan.connections
        ));
    }
    let left = part.ages.count() + part.connections.of(State::Unstarted) + part.exchanges.unstarted;
    if plan.is_open() && left * 100 > part.measured {
        warnings.push(format!(
            "{left} were in flight or not even begun at the stop, so their time is not in the latency: it would be longer"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Part;
    use crate::findings::counters::Counters;
    use crate::run::coordinator::Lost;

    fn outcome() -> Outcome {
        let mut part = Part { measured: 10, most_open: 1, ..Part::default() };
        part.connections.planned = 10;
        part.connections.count(State::Ok, 10);
        Outcome {
            part,
            lost: Vec::new(),
            interrupted: false,
            window_ns: 1,
            kernel: Counters::default(),
            memory_kib: 0,
            began_ms: 0,
        }
    }

    fn grown(name: &str, number: u64) -> Counters {
        Counters { network: [(name.to_owned(), number)].into(), ..Counters::default() }
    }

    #[test]
    fn what_makes_a_measurement_invalid() {
        let plan = crate::plan::tests::plan();
        let open = Plan { rate: Some(100.0), ..plan.clone() };
        let sound = outcome();
        let mut late = outcome();
        late.part.records.at(Measure::Lateness).add(20_000_000);
        let mut uneven = outcome();
        uneven.part.connections.planned = 11;
        let mut nothing = outcome();
        nothing.part.measured = 0;
        let lost = Lost { worker: 1, pid: 7, how: "signal 9".into() };
        for (plan, outcome, reason) in [
            (&plan, sound.clone(), None),
            (&plan, late.clone(), None),
            (&open, late, Some("late")),
            (&plan, Outcome { lost: vec![lost], ..outcome() }, Some("worker 2 (pid 7) was lost: signal 9")),
            (&plan, Outcome { kernel: grown("ListenOverflows", 3), ..outcome() }, Some("grew by 3")),
            (&open, Outcome { kernel: grown("TCPTimeWaitOverflow", 1), ..outcome() }, Some("grew by 1")),
            (&plan, Outcome { kernel: grown("RetransSegs", 1), ..outcome() }, None),
            (&plan, uneven, Some("add up")),
            (&plan, nothing.clone(), Some("nothing was done")),
            (&plan, Outcome { interrupted: true, ..nothing }, None),
        ] {
            let verdict = judge(plan, &outcome);
            assert_eq!(verdict.valid, reason.is_none(), "{verdict:?}");
            assert!(reason.is_none_or(|reason| verdict.reasons[0].contains(reason)), "{verdict:?}");
        }
    }

    #[test]
    fn what_is_worth_a_warning() {
        let plan = crate::plan::tests::plan();
        let mut outcome = outcome();
        outcome.kernel = grown("RetransSegs", 2);
        outcome.kernel.processor = crate::findings::counters::Ticks { total: 1000, busy: 960, steal: 20 };
        outcome.part.slow_connects = 1;
        let warnings = judge(&plan, &outcome).warnings.join("\n");
        outcome.part.ages.add(1);
        let open = Plan { rate: Some(1.0), ..plan.clone() };
        assert!(judge(&open, &outcome).warnings.concat().contains("1 were in flight"));
        for word in ["busy throughout", "2.0 %", "2 segments", "1 connections took"] {
            assert!(warnings.contains(word), "{word} in {warnings}");
        }
    }
}
