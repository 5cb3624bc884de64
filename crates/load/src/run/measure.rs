//! Runs a load to measure it: by the findings of workers, and by counters of the kernel.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::live::{Live, Numbers};
use super::load::Load;
use super::purpose::Purpose;
use super::{coordinator, worker};
use crate::findings::Findings;
use crate::findings::counters::{Counters, available_memory};
use crate::findings::measurement::Measurement;
use crate::findings::state::State;
use crate::plan::Plan;
use crate::units::SECOND;

/// Time between two readings of the machine's memory, if the period is not shorter.
const READING: Duration = Duration::from_millis(500);

/// Time after which workers start: for the coordinator, and for each fork.
const STARTUP: u64 = SECOND / 50;
const STARTUP_PER_WORKER: u64 = SECOND / 500;

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the start, in nanoseconds; 0 before it.
    pub elapsed_ns: u64,
    /// The numbers of all workers.
    pub numbers: Numbers,
}

/// Runs a load, in this process and workers forked from it. Calls `watch` every `period`, if there
/// is one.
///
/// # Errors
/// EAGAIN, EMFILE or ENOMEM if the workers cannot be started; also if this process has several
/// threads.
pub fn measure(
    load: &Load,
    period: Option<Duration>,
    watch: &mut dyn FnMut(Progress),
) -> io::Result<Measurement> {
    let workers = load.workers();
    let live = Live::new(workers)?;
    let before = Counters::read();
    let memory = available_memory();
    let mut least = memory;
    let began = SystemTime::now();
    // Workers start together, when the last one has been forked.
    let start = worker::now() + STARTUP + workers as u64 * STARTUP_PER_WORKER;
    let mut on_turn = || {
        least = least.min(available_memory());
        if period.is_some() {
            watch(Progress { elapsed_ns: worker::now().saturating_sub(start), numbers: live.sum() });
        }
    };
    let period = Some(period.unwrap_or(READING));
    let collected = coordinator::run(load, Purpose::Measure, live, start, period, &mut on_turn)?;
    let stopped = worker::now().saturating_sub(start);
    let end = measured_until(&load.plan, &collected.findings, stopped);
    Ok(Measurement {
        interrupted: collected.interrupted,
        window_ns: end.saturating_sub(load.plan.warmup_ns),
        findings: collected.findings,
        lost: collected.lost,
        kernel: Counters::read().since(&before),
        memory_kib: memory - least,
        began_ms: began.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
    })
}

/// Returns the end of the measured time, since the start: the end of the planned time, or the last
/// exchange if all requests are done.
fn measured_until(plan: &Plan, findings: &Findings, stopped: u64) -> u64 {
    let (connections, exchanges) = (&findings.connections, findings.exchanges);
    let left = connections.of(State::InFlight) + connections.of(State::Unstarted);
    let left = left + exchanges.in_flight + exchanges.unstarted;
    let is_done = plan.requests.is_some() && findings.measured > 0 && left == 0;
    match plan.duration_ns {
        Some(duration) if !is_done => stopped.min(plan.warmup_ns + duration),
        _ => findings.last_done_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_time_ends_with_the_planned_time_or_with_the_last_request() {
        let timed = Plan { duration_ns: Some(10), warmup_ns: 5, ..crate::plan::tests::plan() };
        let counted = Plan { requests: Some(3), ..timed.clone() };
        let untimed = Plan { duration_ns: None, ..counted.clone() };
        let findings = Findings { measured: 3, last_done_ns: 9, ..Findings::default() };
        let mut unfinished = findings.clone();
        unfinished.connections.count(State::Unstarted, 1);
        for (plan, findings, stopped, end) in [
            (&timed, &findings, 16, 15),
            (&timed, &findings, 7, 7),
            (&counted, &findings, 16, 9),
            (&counted, &unfinished, 16, 15),
            (&untimed, &findings, 16, 9),
        ] {
            assert_eq!(measured_until(plan, findings, stopped), end);
        }
    }
}
