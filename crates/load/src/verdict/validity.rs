//! Whether a run measured the load that was requested. That is a verdict of its own, beside the
//! figures.

use serde::{Deserialize, Serialize};

use crate::findings::agents::Agents;
use crate::findings::measurement::Measurement;
use crate::findings::record::Measure;
use crate::findings::state::{Ledger, State};
use crate::plan::schedule::planned_rate;
use crate::plan::{Mode, Plan};
use crate::units::{SECOND, duration, grouped, rounded};

/// The verdict on a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// Whether the figures describe the load that was requested.
    pub valid: bool,
    /// Reasons why they do not.
    pub reasons: Vec<String>,
    /// Caveats of valid figures.
    pub warnings: Vec<String>,
}

/// Kernel counters that must not grow: if they do, the kernel did other work than was requested.
const MUST_NOT_GROW: [(&str, &str); 3] = [
    (
        "TCPTimeWaitOverflow",
        "the kernel skipped TIME_WAIT for sockets, because too many were in it: lower the rate, use \
         fewer source ports, or raise tcp_max_tw_buckets",
    ),
    (
        "ListenOverflows",
        "connections arrived at a full accept queue: give the server a longer backlog, or ramp up (--ramp)",
    ),
    ("ListenDrops", "connections were dropped before they were accepted"),
];

/// Part of the machine's processor time that other machines may take before the figures are
/// doubtful.
const MUCH_STEAL: f64 = 0.01;

impl Validity {
    /// Judges a finished run.
    #[must_use]
    pub fn of(plan: &Plan, measurement: &Measurement) -> Validity {
        let reasons = reasons(plan, measurement);
        Validity { valid: reasons.is_empty(), reasons, warnings: warnings(plan, measurement) }
    }
}

/// Returns what failed and the next move, for a state that the client causes: a connection that it
/// could not make says nothing about the server. `None` for other states.
fn of_client(state: State) -> Option<&'static str> {
    Some(match state {
        State::NoPorts => {
            "no port, or no source address, was left to connect from: give more addresses (--source), \
             widen net.ipv4.ip_local_port_range, or close with --close rst"
        }
        State::NoDescriptors => "no file descriptor was left: raise fs.file-max or the limit of open files",
        State::NoMemory => {
            "no memory, socket buffer or epoll watch was left: make fewer connections at a time, or raise \
             net.ipv4.tcp_mem or fs.epoll.max_user_watches"
        }
        State::NoRoute => "this host has no route to the address: check it, and `ip route get ADDRESS`",
        State::Denied => {
            "this host forbade it: check its firewall, its routes, its security policy, and the \
             permissions of a Unix socket"
        }
        State::LocalError => "a system call of the client failed: the list of errors has the reason",
        State::Ok
        | State::InFlight
        | State::Unstarted
        | State::Refused
        | State::Unreachable
        | State::ConnectTimeout
        | State::Timeout
        | State::Reset
        | State::Closed
        | State::Short
        | State::Long
        | State::Mismatch => return None,
    })
}

/// Returns a reason for each state that the client caused.
fn client_errors(connections: &Ledger) -> impl Iterator<Item = String> + '_ {
    connections.states.iter().filter_map(|(state, number)| {
        let meaning = of_client(*state).filter(|_| *number > 0)?;
        Some(format!("{} connections failed in the client ({state}): {meaning}", grouped(*number)))
    })
}

fn reasons(plan: &Plan, measurement: &Measurement) -> Vec<String> {
    let findings = &measurement.findings;
    let mut reasons = Vec::new();
    for lost in &measurement.lost {
        reasons.push(format!("worker {} (pid {}) was lost: {}", lost.worker + 1, lost.pid, lost.outcome));
    }
    reasons.extend(measurement.agents.iter().flat_map(|agents| of_agents(plan, agents)));
    reasons.extend(client_errors(&findings.connections));
    for (name, meaning) in MUST_NOT_GROW {
        match measurement.kernel.of(name) {
            0 => {}
            // Each overflow also counts as a drop: one reason is enough.
            number if name == "ListenDrops" && number == measurement.kernel.of("ListenOverflows") => {}
            number => reasons.push(format!("{name} grew by {number}: {meaning}")),
        }
    }
    if plan.is_open() {
        let late = findings.records.of(Measure::Lateness).quantile(0.99);
        if late > plan.max_lateness_ns {
            reasons.push(format!(
                "the client was late: 1 of 100 arrivals began {} or more after the planned time \
                 (--max-lateness {})",
                duration(late),
                duration(plan.max_lateness_ns)
            ));
        }
    }
    if !findings.connections.adds_up() || !findings.exchanges.adds_up() {
        reasons.push(
            "the connections that ended do not add up to those planned: a fault of tine; please report it"
                .into(),
        );
    }
    let was_reached = findings.most_open > 0;
    if findings.measured == 0 && was_reached && counts_exchanges(plan) && !measurement.interrupted {
        reasons.push("no exchange was completed in the measured time".into());
    }
    reasons
}

/// Returns the reasons that lie in the agents.
fn of_agents(plan: &Plan, agents: &Agents) -> Vec<String> {
    let mut reasons: Vec<String> = match agents.are_too_few() {
        true => lost_agents(agents).collect(),
        false => Vec::new(),
    };
    let apart = agents.start_skew_ns + agents.clock_uncertainty_ns;
    if apart > plan.max_lateness_ns {
        reasons.push(format!(
            "the agents did not start together: up to {} apart, of which {} are uncertain \
             (--max-lateness {})",
            duration(apart),
            duration(agents.clock_uncertainty_ns),
            duration(plan.max_lateness_ns)
        ));
    }
    reasons
}

/// Says which agents were lost.
fn lost_agents(agents: &Agents) -> impl Iterator<Item = String> + '_ {
    agents.lost().map(|(agent, why)| format!("agent {} was lost: {why}", agent.name))
}

/// Whether the plan has connections that are to complete something, not only to stay open or to
/// stream.
fn counts_exchanges(plan: &Plan) -> bool {
    !plan.populations.iter().all(|one| matches!(one.mode, Mode::Silent | Mode::Hold | Mode::Stream))
}

fn warnings(plan: &Plan, measurement: &Measurement) -> Vec<String> {
    let findings = &measurement.findings;
    let processor = measurement.kernel.processor;
    let share = |ticks: u64| ticks as f64 / processor.total.max(1) as f64;
    let mut warnings = Vec::new();
    if !plan.is_open() && share(processor.busy) > 0.95 {
        warnings.push(
            "the processors were busy throughout: the rate is that of client and server together on \
             this machine"
                .into(),
        );
    }
    if share(processor.steal) > MUCH_STEAL {
        let percent = share(processor.steal) * 100.0;
        warnings.push(format!("other machines took {percent:.1} % of the processor time (steal)"));
    }
    match measurement.kernel.of("RetransSegs") {
        0 => {}
        number => warnings.push(format!("{number} segments were retransmitted")),
    }
    if findings.slow_connects > 0 {
        warnings.push(format!(
            "{} connections took more than 900 ms to make: the kernel retried, because a queue was \
             full or a packet was lost",
            findings.slow_connects
        ));
    }
    let agents = measurement.agents.as_ref().filter(|agents| !agents.are_too_few());
    warnings.extend(agents.into_iter().flat_map(lost_agents));
    warnings.extend(broken_interval(plan));
    if findings.waited > 0 && plan.is_open() {
        warnings.push(format!(
            "{} arrivals waited for one of {} connections to be free; the latency includes the wait \
             (--connections allows more)",
            findings.waited, plan.connections
        ));
    }
    let unstarted = findings.connections.of(State::Unstarted) + findings.exchanges.unstarted;
    let left = findings.ages.count() + unstarted;
    if plan.is_open() && left * 100 > findings.measured {
        warnings.push(format!(
            "{left} were in flight or not begun at the stop: the latency does not include them, and \
             would be higher"
        ));
    }
    warnings
}

/// Returns a warning if the measured time of an open loop is so short, and no multiple of the
/// interval, that the rate of its arrivals is not the requested one.
fn broken_interval(plan: &Plan) -> Option<String> {
    let (rate, planned) = (plan.rate?, planned_rate(plan)?);
    ((planned / rate - 1.0).abs() > 0.01).then(|| {
        let interval = duration((SECOND as f64 / rate) as u64);
        format!(
            "the measured time has {}/s of the requested {}/s planned: it is no multiple of the \
             interval, {interval} (--duration)",
            rounded(planned),
            rounded(rate)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Findings;
    use crate::findings::counters::{Counters, Ticks};
    use crate::findings::measurement::LostWorker;
    use crate::findings::state::Origin;

    fn measurement() -> Measurement {
        let mut findings = Findings { measured: 10, most_open: 1, ..Findings::default() };
        findings.connections.planned = 10;
        findings.connections.count(State::Ok, 10);
        Measurement {
            findings,
            lost: Vec::new(),
            interrupted: false,
            window_ns: 1,
            kernel: Counters::default(),
            memory_kib: 0,
            began_ms: 0,
            agents: None,
        }
    }

    fn grown(name: &str, number: u64) -> Counters {
        Counters { network: [(name.to_owned(), number)].into(), ..Counters::default() }
    }

    #[test]
    fn each_reason_makes_a_run_invalid() {
        let plan = crate::plan::tests::plan();
        let open = Plan { rate: Some(100.0), ..plan.clone() };
        let sound = measurement();
        let mut late = measurement();
        late.findings.records.at(Measure::Lateness).add(20_000_000);
        let mut uneven = measurement();
        uneven.findings.connections.planned = 11;
        let mut nothing = measurement();
        nothing.findings.measured = 0;
        let lost = LostWorker { worker: 1, pid: 7, outcome: "signal 9".into() };
        let overflow = Measurement { kernel: grown("ListenOverflows", 3), ..measurement() };
        let time_wait = Measurement { kernel: grown("TCPTimeWaitOverflow", 1), ..measurement() };
        let retransmitted = Measurement { kernel: grown("RetransSegs", 1), ..measurement() };
        for (plan, measurement, reason) in [
            (&plan, sound.clone(), None),
            (&plan, late.clone(), None),
            (&open, late, Some("late")),
            (
                &plan,
                Measurement { lost: vec![lost], ..measurement() },
                Some("worker 2 (pid 7) was lost: signal 9"),
            ),
            (&plan, overflow, Some("grew by 3")),
            (&open, time_wait, Some("grew by 1")),
            (&plan, retransmitted, None),
            (&plan, uneven, Some("add up")),
            (&plan, nothing.clone(), Some("no exchange was completed")),
            (&plan, Measurement { interrupted: true, ..nothing }, None),
        ] {
            let validity = Validity::of(plan, &measurement);
            assert_eq!(validity.valid, reason.is_none(), "{validity:?}");
            assert!(reason.is_none_or(|reason| validity.reasons[0].contains(reason)), "{validity:?}");
        }
    }

    #[test]
    fn an_error_of_the_client_makes_a_run_invalid_and_no_other_does() {
        let plan = crate::plan::tests::plan();
        for (state, name) in State::ALL {
            let mut measurement = measurement();
            measurement.findings.connections.planned += 1234;
            measurement.findings.connections.count(state, 1234);
            let validity = Validity::of(&plan, &measurement);
            let is_of_client = state.origin() == Some(Origin::Client);
            assert_eq!((validity.valid, validity.reasons.len()), (!is_of_client, usize::from(is_of_client)));
            let start = format!("1,234 connections failed in the client ({name}): ");
            assert!(validity.reasons.iter().all(|reason| reason.starts_with(&start)), "{validity:?}");
        }
    }

    #[test]
    fn a_measured_time_of_broken_intervals_has_a_warning() {
        let plan = |rate, seconds: u64| Plan {
            rate: Some(rate),
            duration_ns: Some(seconds * SECOND),
            ..crate::plan::tests::plan()
        };
        let of = |plan| Validity::of(&plan, &measurement()).warnings.concat();
        let warning = of(plan(0.25, 10));
        assert!(
            warning.contains("0.30/s of the requested 0.25/s") && warning.contains("4.00 s"),
            "{warning}"
        );
        assert_eq!(of(plan(0.25, 8)), "");
        assert_eq!(of(plan(999.9, 10)), "");
    }

    #[test]
    fn doubtful_figures_have_warnings() {
        let plan = crate::plan::tests::plan();
        let mut measurement = measurement();
        measurement.kernel = grown("RetransSegs", 2);
        measurement.kernel.processor = Ticks { total: 1000, busy: 960, steal: 20 };
        measurement.findings.slow_connects = 1;
        let warnings = Validity::of(&plan, &measurement).warnings.join("\n");
        measurement.findings.ages.add(1);
        let open = Plan { rate: Some(1.0), ..plan.clone() };
        assert!(Validity::of(&open, &measurement).warnings.concat().contains("1 were in flight"));
        for text in ["busy throughout", "2.0 %", "2 segments", "1 connections took"] {
            assert!(warnings.contains(text), "{text} in {warnings}");
        }
    }
}
