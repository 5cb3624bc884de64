//! Two servers measured in turn: which comes when, and what the rounds tell. Pure; whoever starts the servers
//! is elsewhere.

use serde::{Deserialize, Serialize};

use crate::combine::ratio::Ratio;
use crate::plan::schedule::Random;
use crate::report::Report;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// What is compared with.
    A,
    /// What is judged.
    B,
}

/// Which come in the next four rounds: ABBA or BAAB by chance, so that what drifts hits both alike.
#[must_use]
pub fn block(random: &mut Random) -> [Side; 4] {
    match random.next_word() & 1 {
        0 => [Side::A, Side::B, Side::B, Side::A],
        _ => [Side::B, Side::A, Side::A, Side::B],
    }
}

/// The figures of one round that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Whose it is.
    pub side: Side,
    /// Done each second.
    pub rate: f64,
    /// Half of the exchanges did not take longer.
    pub p50_ns: u64,
    /// 99 % did not.
    pub p99_ns: u64,
    /// Processor time of the whole machine for each that was done.
    pub machine_cpu_ns: u64,
    /// Connections that ended in an error.
    pub errors: u64,
    /// Why the round does not count.
    pub discarded: Vec<String>,
}

impl Round {
    /// The round of a report.
    #[must_use]
    pub fn new(side: Side, report: &Report) -> Round {
        let summary = &report.summary;
        let mut discarded = report.validity.reasons.clone();
        if report.findings.connections.wrong() > 0 {
            discarded.push("wrong bytes".into());
        }
        Round {
            side,
            rate: summary.rate,
            p50_ns: summary.latency_ns.p50,
            p99_ns: summary.latency_ns.p99,
            machine_cpu_ns: summary.machine_cpu_ns_per_done,
            errors: summary.errors,
            discarded,
        }
    }
}

/// What the rounds tell: ratios of B to A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of the rates.
    pub rate: Option<Ratio>,
    /// Of the medians.
    pub p50: Option<Ratio>,
    /// Of the 99th percentiles.
    pub p99: Option<Ratio>,
    /// Of the machine's processor time for each that was done.
    pub machine_cpu: Option<Ratio>,
    /// Of the rate of A to that of A in the same block: what it differs from 1 by is noise.
    pub control: Option<Ratio>,
    /// Pairs in which a round did not count.
    pub discarded: usize,
}

impl Comparison {
    /// Of whole blocks of four rounds.
    #[must_use]
    pub fn of(rounds: &[Round]) -> Comparison {
        let counts = |pair: &&[Round]| pair.iter().all(|round| round.discarded.is_empty());
        let pairs: Vec<&[Round]> = rounds.chunks_exact(2).collect();
        let good: Vec<&[Round]> = pairs.iter().copied().filter(counts).collect();
        let ratio = |of: &dyn Fn(&Round) -> f64| {
            let side = |pair: &[Round], side| pair.iter().find(|round| round.side == side).map(of);
            let logarithm = |pair: &&[Round]| Some((side(pair, Side::B)? / side(pair, Side::A)?).ln());
            Ratio::of(
                &good.iter().filter_map(logarithm).filter(|value| value.is_finite()).collect::<Vec<_>>(),
            )
        };
        let control = |block: &[Round]| {
            let of_a = || block.iter().filter(|round| round.side == Side::A && round.discarded.is_empty());
            let (first, second) = (of_a().next()?, of_a().nth(1)?);
            Some((second.rate / first.rate).ln()).filter(|value| value.is_finite())
        };
        Comparison {
            rate: ratio(&|round| round.rate),
            p50: ratio(&|round| round.p50_ns as f64),
            p99: ratio(&|round| round.p99_ns as f64),
            machine_cpu: ratio(&|round| round.machine_cpu_ns as f64),
            control: Ratio::of(&rounds.chunks_exact(4).filter_map(control).collect::<Vec<_>>()),
            discarded: pairs.len() - good.len(),
        }
    }

    /// What to do after so many pairs.
    #[must_use]
    pub fn decide(&self, pairs: usize, precision: f64, most: usize) -> Decision {
        // A few pairs may agree by chance.
        const LEAST: usize = 4;
        let is_precise =
            self.rate.is_some_and(|rate| rate.pairs >= LEAST && rate.is_as_precise_as(precision));
        match (is_precise, pairs >= most) {
            (true, _) => Decision::Enough,
            (false, false) => Decision::More,
            (false, true) => Decision::GiveUp,
        }
    }

    /// Whether B is worse by more than this, whatever the noise.
    #[must_use]
    pub fn is_worse_by(&self, tolerance: f64) -> bool {
        self.rate.is_some_and(|rate| rate.high < 1.0 - tolerance)
    }
}

/// What to do after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another block.
    More,
    /// It is as precise as was asked for.
    Enough,
    /// It will not get so precise.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(side: Side, rate: f64) -> Round {
        Round { side, rate, p50_ns: 100, p99_ns: 200, machine_cpu_ns: 1000, errors: 0, discarded: Vec::new() }
    }

    /// Blocks in which the machine gets slower, and B has a rate of 0.9.
    fn rounds(blocks: usize, noise: f64) -> Vec<Round> {
        let mut random = Random::new(3);
        let sides: Vec<Side> = (0..blocks).flat_map(|_| block(&mut random)).collect();
        let rate = |(at, side): (usize, Side)| {
            let own = if side == Side::A { 1000.0 } else { 900.0 };
            let noise = 1.0 + noise * if at % 3 == 0 { 1.0 } else { -0.5 };
            round(side, own * noise * (1.0 - at as f64 * 0.001))
        };
        sides.into_iter().enumerate().map(rate).collect()
    }

    #[test]
    fn blocks_are_both_kinds() {
        let mut random = Random::new(1);
        let firsts: Vec<Side> = (0..50).map(|_| block(&mut random)[0]).collect();
        assert!(firsts.contains(&Side::A) && firsts.contains(&Side::B));
    }

    #[test]
    fn drift_is_not_taken_for_a_difference() {
        let comparison = Comparison::of(&rounds(8, 0.0));
        let rate = comparison.rate.expect("pairs");
        assert!((rate.ratio - 0.9).abs() < 0.002 && rate.low < 0.9 && 0.9 < rate.high, "{rate:?}");
        assert_eq!(rate.pairs, 16);
        assert!((comparison.control.expect("blocks").ratio - 1.0).abs() < 0.003);
        assert!(comparison.is_worse_by(0.05) && !comparison.is_worse_by(0.2));
    }

    #[test]
    fn it_goes_on_until_it_is_precise() {
        let decide = |rounds: &[Round], most| Comparison::of(rounds).decide(rounds.len() / 2, 0.01, most);
        assert_eq!(decide(&rounds(1, 0.0), 30), Decision::More);
        assert_eq!(decide(&rounds(3, 0.0), 30), Decision::Enough);
        assert_eq!(decide(&rounds(3, 0.1), 30), Decision::More);
        assert_eq!(decide(&rounds(3, 0.1), 6), Decision::GiveUp);
    }

    #[test]
    fn rounds_that_do_not_count_take_their_partner_along() {
        let mut rounds = rounds(3, 0.0);
        rounds[0].discarded.push("late".into());
        let comparison = Comparison::of(&rounds);
        assert_eq!((comparison.discarded, comparison.rate.expect("pairs").pairs), (1, 5));
    }
}
