//! The schedule of an open loop: the planned start of each connection (or exchange). Each process
//! computes its own part, so that processes need not communicate.

use super::splitmix::Random;
use super::{Arrivals, Plan};
use crate::units::SECOND;

/// The arrivals of one process, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: f64,
    ramp: f64,
    arrivals: Arrivals,
    processes: u64,
    process: u64,
    passed: u64,
    /// Position of the last random arrival, in mean intervals of all processes.
    at: f64,
    random: Random,
    limit: u64,
    end: u64,
    next: Option<u64>,
}

impl Schedule {
    /// Creates the part of one process. Times count from the start of the run. `None` for a closed
    /// loop.
    #[must_use]
    pub fn new(plan: &Plan, processes: usize, process: usize) -> Option<Schedule> {
        let mut schedule = Schedule {
            rate: plan.rate?,
            ramp: plan.ramp_ns as f64 / SECOND as f64,
            arrivals: plan.arrivals,
            processes: processes as u64,
            process: process as u64,
            passed: 0,
            at: 0.0,
            random: Random::new(plan.seed ^ process as u64),
            limit: plan.requests.unwrap_or(u64::MAX),
            end: plan.duration_ns.map_or(u64::MAX, |duration| plan.warmup_ns + duration),
            next: None,
        };
        schedule.next = schedule.compute();
        Some(schedule)
    }

    /// Returns the time of the next arrival, in nanoseconds from the start; `None` after the last.
    #[must_use]
    pub fn peek(&self) -> Option<u64> {
        self.next
    }

    /// Moves on to the following arrival.
    pub fn advance(&mut self) {
        self.passed += 1;
        self.next = self.compute();
    }

    /// Whether all requested arrivals have passed, if their number is limited. Without a limit, or
    /// if the planned time ends before it is reached, an open loop lasts to the end of that time.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.number() >= self.limit
    }

    /// Counts the arrivals left. The plan must have a duration or a number of requests.
    #[must_use]
    pub fn left(mut self) -> u64 {
        let before = self.passed;
        while self.next.is_some() {
            self.advance();
        }
        self.passed - before
    }

    /// Returns the number of the next arrival, over all processes.
    fn number(&self) -> u64 {
        self.passed * self.processes + self.process
    }

    fn compute(&mut self) -> Option<u64> {
        if self.is_complete() {
            return None;
        }
        let count = match self.arrivals {
            Arrivals::Constant => self.number() as f64,
            Arrivals::Poisson => {
                self.at += self.random.exponential() * self.processes as f64;
                self.at
            }
        };
        let time = time_of(count, self.rate, self.ramp);
        (time < self.end).then_some(time)
    }
}

/// Returns the time at which a number of arrivals is reached, in nanoseconds. The rate, in arrivals
/// per second, grows linearly over the ramp, in seconds.
fn time_of(count: f64, rate: f64, ramp: f64) -> u64 {
    let in_ramp = rate * ramp / 2.0;
    let seconds =
        if count < in_ramp { (2.0 * count * ramp / rate).sqrt() } else { ramp + (count - in_ramp) / rate };
    // Rounded: an arrival that is planned for the end of the time must not come just before it.
    (seconds * SECOND as f64).round() as u64
}

/// Returns the time that the requested number of arrivals takes at the planned rate, in nanoseconds
/// since the start of the run. The interval after the last arrival is part of it: two arrivals in
/// two seconds are one per second, although the second comes after one. `None` for a closed loop,
/// and without a number.
#[must_use]
pub fn time_of_requests(plan: &Plan) -> Option<u64> {
    let (requests, rate) = (plan.requests?, plan.rate?);
    Some(time_of(requests as f64, rate, plan.ramp_ns as f64 / SECOND as f64))
}

/// Returns the rate of the arrivals that are planned for the measured time, in arrivals per second.
/// If that time is not a multiple of the interval between two arrivals, it differs from the rate of
/// the plan. `None` for a closed loop and random arrivals, without a duration, if a number of
/// requests ends the load, and if the ramp extends into the measured time.
#[must_use]
pub fn planned_rate(plan: &Plan) -> Option<f64> {
    let (rate, duration) = (plan.rate?, plan.duration_ns?);
    if plan.arrivals != Arrivals::Constant || plan.requests.is_some() || plan.ramp_ns > plan.warmup_ns {
        return None;
    }
    let ramp = plan.ramp_ns as f64 / SECOND as f64;
    // Arrivals at this time or later; the division is checked by the function that places them.
    let before = |end: u64| {
        let about = rate * (end as f64 / SECOND as f64 - ramp / 2.0);
        let mut number = (about - 1.0).max(0.0) as u64;
        while time_of(number as f64, rate, ramp) < end {
            number += 1;
        }
        number
    };
    let arrivals = before(plan.warmup_ns + duration) - before(plan.warmup_ns);
    Some(arrivals as f64 * SECOND as f64 / duration as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(plan: &Plan, processes: usize) -> Vec<u64> {
        let mut all: Vec<u64> = (0..processes)
            .flat_map(|process| {
                let mut schedule = Schedule::new(plan, processes, process).expect("an open loop");
                let left = schedule.clone().left();
                let times: Vec<u64> = std::iter::from_fn(|| {
                    let time = schedule.peek()?;
                    schedule.advance();
                    Some(time)
                })
                .collect();
                assert_eq!(times.len() as u64, left);
                times
            })
            .collect();
        all.sort_unstable();
        all
    }

    fn plan(rate: f64, duration: u64) -> Plan {
        Plan { rate: Some(rate), duration_ns: Some(duration), ..crate::plan::tests::plan() }
    }

    #[test]
    fn the_parts_of_all_processes_make_one_schedule() {
        let one = times(&plan(1000.0, SECOND), 1);
        assert_eq!(one, times(&plan(1000.0, SECOND), 7));
        assert_eq!((one.len(), one[1]), (1000, 1_000_000));
        assert!(Schedule::new(&crate::plan::tests::plan(), 1, 0).is_none());
    }

    #[test]
    fn requests_limit_the_arrivals() {
        let plan = Plan { requests: Some(10), ..plan(1000.0, SECOND) };
        assert_eq!(times(&plan, 3).len(), 10);
    }

    #[test]
    fn a_schedule_is_complete_when_all_requests_have_passed_not_when_its_time_ends() {
        for (requests, is_complete) in [(None, false), (Some(3), true), (Some(100), false)] {
            let plan = Plan { requests, ..plan(10.0, SECOND) };
            let mut schedule = Schedule::new(&plan, 1, 0).expect("an open loop");
            assert!(!schedule.is_complete());
            while schedule.peek().is_some() {
                schedule.advance();
            }
            assert_eq!(schedule.is_complete(), is_complete, "{requests:?}");
        }
    }

    #[test]
    fn no_arrival_is_planned_for_the_end_of_the_time() {
        // The intervals of many of these rates have no exact floating-point number.
        for rate in (1..2000).map(|rate| f64::from(rate) / 10.0) {
            for duration in [10, 20, 30, 70] {
                let plan = plan(rate, duration * SECOND);
                let arrivals = Schedule::new(&plan, 1, 0).expect("an open loop").left();
                assert_eq!(arrivals, (rate * duration as f64).round() as u64, "{rate}/s for {duration} s");
                assert_eq!(planned_rate(&plan), Some(arrivals as f64 / duration as f64));
            }
        }
    }

    #[test]
    fn the_planned_rate_of_a_broken_interval_differs_from_the_rate_of_the_plan() {
        let second = |duration: f64| (duration * SECOND as f64) as u64;
        for (rate, warmup, duration, planned) in [
            (1.0, 0.0, 3.0, 1.0),
            (0.25, 0.0, 4.0, 0.25),
            (0.25, 0.0, 10.0, 0.3),
            (0.25, 2.0, 4.0, 0.25),
            (0.1, 0.0, 3.0, 1.0 / 3.0),
            (0.1, 5.0, 4.0, 0.0),
            (10_000.0, 0.5, 2.0, 10_000.0),
        ] {
            let plan = Plan { warmup_ns: second(warmup), ..plan(rate, second(duration)) };
            assert_eq!(planned_rate(&plan), Some(planned), "{rate}/s, {warmup} s and {duration} s");
        }
        let ramp = Plan { ramp_ns: SECOND, ..plan(10.0, SECOND) };
        assert_eq!(planned_rate(&ramp), None);
        assert_eq!(planned_rate(&Plan { warmup_ns: 2 * SECOND, ..ramp }), Some(10.0));
    }

    #[test]
    fn a_ramp_has_half_the_arrivals() {
        let plan = Plan { ramp_ns: SECOND, ..plan(1000.0, 2 * SECOND) };
        let times = times(&plan, 2);
        let in_ramp = times.iter().filter(|time| **time < SECOND).count();
        let first_half = times.iter().filter(|time| **time < SECOND / 2).count();
        assert_eq!((in_ramp, first_half, times.len()), (500, 125, 1500));
    }

    #[test]
    fn random_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let plan = Plan { arrivals: Arrivals::Poisson, ..plan(10_000.0, 10 * SECOND) };
        let times = times(&plan, 4);
        // 100,000 expected; five standard deviations are 1,600.
        assert!(times.len().abs_diff(100_000) < 1600, "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The standard deviation of exponential gaps equals their mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{} {mean}", variance.sqrt());
    }
}
