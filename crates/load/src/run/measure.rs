//! Runs a load to measure it: by the findings of workers, and by counters of the kernel.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::clock::now;
use super::coordinator;
use super::live::{Live, Numbers};
use super::load::Load;
use super::purpose::Purpose;
use crate::findings::Findings;
use crate::findings::counters::{Counters, available_memory};
use crate::findings::measurement::Measurement;
use crate::findings::state::State;
use crate::plan::Plan;
use crate::plan::schedule::time_of_requests;
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
/// is one. It starts as soon as all workers have been forked.
///
/// # Errors
/// EAGAIN, EMFILE or ENOMEM if the workers cannot be started; also if this process has several
/// threads.
pub fn measure(
    load: &Load,
    period: Option<Duration>,
    watch: &mut dyn FnMut(Progress),
) -> io::Result<Measurement> {
    measure_from(load, now() + startup(load.workers()), period, watch)
}

/// Returns the time that it takes to fork a number of workers, in nanoseconds.
#[must_use]
pub fn startup(workers: usize) -> u64 {
    STARTUP + workers as u64 * STARTUP_PER_WORKER
}

/// As [`measure`], with a start on the monotonic clock of this machine, in nanoseconds. Workers
/// that are forked later than that are late.
///
/// # Errors
/// EAGAIN, EMFILE or ENOMEM if the workers cannot be started; also if this process has several
/// threads.
pub fn measure_from(
    load: &Load,
    start: u64,
    period: Option<Duration>,
    watch: &mut dyn FnMut(Progress),
) -> io::Result<Measurement> {
    let live = Live::new(load.workers())?;
    let before = Counters::read();
    let memory = available_memory();
    let mut least = memory;
    let began = SystemTime::now();
    let mut on_turn = || {
        least = least.min(available_memory());
        if period.is_some() {
            watch(Progress { elapsed_ns: now().saturating_sub(start), numbers: live.sum() });
        }
    };
    let period = Some(period.unwrap_or(READING));
    let collected = coordinator::run(load, Purpose::Measure, live, start, period, &mut on_turn)?;
    let stopped = now().saturating_sub(start);
    let end = measured_until(&load.plan, &collected.findings, stopped);
    Ok(Measurement {
        interrupted: collected.interrupted,
        window_ns: end.saturating_sub(load.plan.warmup_ns),
        findings: collected.findings,
        lost: collected.lost,
        kernel: Counters::read().since(&before),
        memory_kib: memory - least,
        began_ms: began.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
        agents: None,
    })
}

/// Returns the end of the measured time, since the start: the end of the planned time, or the time
/// at which all requests were done. In an open loop these take at least the time that is planned
/// for them, or a few requests would have the rate at which the server answers. `stopped`: the time
/// at which the run ended.
fn measured_until(plan: &Plan, findings: &Findings, stopped: u64) -> u64 {
    let (connections, exchanges) = (&findings.connections, findings.exchanges);
    let left = connections.of(State::InFlight) + connections.of(State::Unstarted);
    let left = left + exchanges.in_flight + exchanges.unstarted;
    let is_done = plan.requests.is_some() && findings.measured > 0 && left == 0;
    let planned = plan.duration_ns.map_or(u64::MAX, |duration| plan.warmup_ns + duration);
    let ended = match is_done {
        true => findings.last_done_ns.max(time_of_requests(plan).unwrap_or(0)),
        false => stopped,
    };
    ended.min(planned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::machine::Machine;
    use crate::findings::summary::Summary;
    use crate::plan::Arrivals;
    use crate::plan::schedule::Schedule;

    #[test]
    fn the_measured_time_ends_with_the_planned_time_or_with_the_last_request() {
        let timed = Plan { duration_ns: Some(10), warmup_ns: 5, ..crate::plan::tests::plan() };
        let counted = Plan { requests: Some(3), ..timed.clone() };
        let untimed = Plan { duration_ns: None, ..counted.clone() };
        // Three at one per 10 ns take 30.
        let open = Plan { rate: Some(1e8), ..untimed.clone() };
        let short = Plan { duration_ns: Some(20), ..open.clone() };
        let findings = Findings { measured: 3, last_done_ns: 9, ..Findings::default() };
        let late = Findings { measured: 3, last_done_ns: 40, ..Findings::default() };
        let mut unfinished = findings.clone();
        unfinished.connections.count(State::Unstarted, 1);
        for (plan, findings, stopped, end) in [
            (&timed, &findings, 16, 15),
            (&timed, &findings, 7, 7),
            (&counted, &findings, 16, 9),
            (&counted, &unfinished, 16, 15),
            (&untimed, &findings, 16, 9),
            (&untimed, &unfinished, 16, 16),
            (&open, &findings, 16, 30),
            (&open, &late, 50, 40),
            (&open, &unfinished, 16, 16),
            (&short, &findings, 16, 25),
        ] {
            assert_eq!(measured_until(plan, findings, stopped), end);
        }
    }

    /// Returns the rate of a plan's arrivals, as it would be reported for a server that replies
    /// after 100 us, and the length of the measured time.
    fn reported(plan: &Plan) -> (f64, u64) {
        let processes = plan.processes as usize;
        let mut findings = Findings::default();
        let end = plan.duration_ns.map_or(u64::MAX, |duration| plan.warmup_ns + duration);
        for process in 0..processes {
            let mut schedule = Schedule::new(plan, processes, process).expect("an open loop");
            while let Some(planned) = schedule.peek() {
                schedule.advance();
                let done = planned + SECOND / 10_000;
                findings.measured += u64::from(done >= plan.warmup_ns && done < end);
                findings.last_done_ns = findings.last_done_ns.max(done);
            }
        }
        // A run that its duration ends is stopped a little later.
        let window = measured_until(plan, &findings, end.saturating_add(SECOND / 20)) - plan.warmup_ns;
        (Summary::new(&findings, window, &Counters::default(), &Machine::default()).rate, window)
    }

    #[test]
    fn an_open_loop_reports_the_planned_rate_over_its_whole_time() {
        let plans = |arrivals| {
            let cases =
                [(0.1, 10), (0.1, 120), (0.25, 4), (0.25, 8), (1.0, 1), (1.0, 3), (3.0, 5), (7.0, 60)];
            let fast =
                [(49.9, 10), (100.0, 1), (999.0, 2), (1000.0, 3), (3333.0, 3), (10_000.0, 1), (10_000.0, 5)];
            let all = cases.into_iter().chain(fast);
            all.flat_map(move |(rate, seconds)| {
                [(1, 0), (3, 0), (8, 20)].map(|(processes, warmup)| Plan {
                    rate: Some(rate),
                    duration_ns: Some(seconds * SECOND),
                    warmup_ns: warmup * SECOND,
                    processes,
                    arrivals,
                    ..crate::plan::tests::plan()
                })
            })
        };
        for plan in plans(Arrivals::Constant) {
            let (wanted, duration) = (plan.rate.expect("an open loop"), plan.duration_ns.expect("a time"));
            let (rate, window) = reported(&plan);
            let label = format!("{wanted}/s, {duration} ns after {} ns", plan.warmup_ns);
            assert!((rate / wanted - 1.0).abs() < 0.01 && window == duration, "{label}: {rate} in {window}");
            // The same arrivals, limited by their number.
            let requests = (wanted * (plan.warmup_ns + duration) as f64 / SECOND as f64).round() as u64;
            let (rate, _) = reported(&Plan { requests: Some(requests), duration_ns: None, ..plan });
            assert!((rate / wanted - 1.0).abs() < 0.01, "{label}, {requests} requests: {rate}");
        }
        for plan in plans(Arrivals::Poisson) {
            let (wanted, duration) = (plan.rate.expect("an open loop"), plan.duration_ns.expect("a time"));
            let (rate, window) = reported(&plan);
            // The number of arrivals is random, with the root of its mean as standard deviation.
            let seconds = duration as f64 / SECOND as f64;
            let spread = 5.0 * (wanted * seconds).sqrt() / seconds;
            assert!((rate - wanted).abs() < spread && window == duration, "{wanted}: {rate} in {window}");
        }
    }
}
