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

    /// Counts the arrivals left. The plan must have a duration or a number of requests.
    #[must_use]
    pub fn left(mut self) -> u64 {
        let before = self.passed;
        while self.next.is_some() {
            self.advance();
        }
        self.passed - before
    }

    fn compute(&mut self) -> Option<u64> {
        let number = self.passed * self.processes + self.process;
        if number >= self.limit {
            return None;
        }
        let count = match self.arrivals {
            Arrivals::Constant => number as f64,
            Arrivals::Poisson => {
                self.at += self.random.exponential() * self.processes as f64;
                self.at
            }
        };
        let time = (self.time_of(count) * SECOND as f64) as u64;
        (time < self.end).then_some(time)
    }

    /// Returns the time at which a number of arrivals is reached, in seconds. The rate grows
    /// linearly over the ramp.
    fn time_of(&self, count: f64) -> f64 {
        let in_ramp = self.rate * self.ramp / 2.0;
        if count < in_ramp {
            (2.0 * count * self.ramp / self.rate).sqrt()
        } else {
            self.ramp + (count - in_ramp) / self.rate
        }
    }
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
