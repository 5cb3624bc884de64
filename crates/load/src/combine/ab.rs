//! Two servers measured in turn: the order of the rounds, and the comparison computed from them.
//! No system call here; the caller starts the servers and runs the loads.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::ratio::Ratio;
use crate::findings::machine::Machine;
use crate::plan::sources::Block;
use crate::plan::splitmix::Random;
use crate::report::Report;

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The server compared with.
    A,
    /// The server judged.
    B,
}

/// Returns the order of the next four rounds: ABBA or BAAB at random, so that drift of the machine
/// affects both servers alike.
#[must_use]
pub fn block(random: &mut Random) -> [Side; 4] {
    match random.next_word() & 1 {
        0 => [Side::A, Side::B, Side::B, Side::A],
        _ => [Side::B, Side::A, Side::A, Side::B],
    }
}

/// Returns the loopback source of a round, which the rounds before did not use. After a number of
/// rounds the sources repeat: all of them together, and one more, must have fewer ports than the
/// kernel keeps sockets in TIME_WAIT.
#[must_use]
pub fn source_of_round(round: usize, machine: &Machine) -> Block {
    let sources = (machine.max_time_wait() / machine.ports().max(1)).saturating_sub(1).clamp(1, 200);
    let host = 1 + (round as u64 % sources) as u8;
    IpAddr::from(Ipv4Addr::new(127, 77, 1, host)).into()
}

/// The figures of one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The server that was measured.
    pub side: Side,
    /// Exchanges (or connections) done per second.
    pub rate: f64,
    /// Median latency.
    pub p50_ns: u64,
    /// 99th percentile of the latency.
    pub p99_ns: u64,
    /// Processor time of the whole machine for each exchange (or connection) done.
    pub machine_cpu_ns: u64,
    /// Connections that ended in an error.
    pub errors: u64,
    /// Reasons why the round does not count.
    pub discarded: Vec<String>,
}

impl Round {
    /// Creates the round of a report.
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

/// The comparison of both servers: ratios of B to A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Ratio of the rates.
    pub rate: Option<Ratio>,
    /// Ratio of the median latencies.
    pub p50: Option<Ratio>,
    /// Ratio of the 99th percentiles of the latency.
    pub p99: Option<Ratio>,
    /// Ratio of the machine's processor time for each exchange (or connection).
    pub machine_cpu: Option<Ratio>,
    /// Ratio of the rates of A in the same block: its distance from 1 is noise.
    pub control: Option<Ratio>,
    /// Number of pairs in which a round did not count.
    pub discarded: usize,
}

impl Comparison {
    /// Computes the comparison from whole blocks of four rounds.
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

    /// Decides whether to measure more, after a number of pairs. If none of the first few counts,
    /// more would not either: the client, not the servers, is the reason.
    #[must_use]
    pub fn decide(&self, pairs: usize, precision: f64, max_pairs: usize) -> Decision {
        // Fewer pairs may agree by chance.
        const MIN_PAIRS: usize = 4;
        let is_precise = self.rate.is_some_and(|rate| rate.pairs >= MIN_PAIRS && rate.is_within(precision));
        let counts_none = self.discarded == pairs && pairs >= MIN_PAIRS;
        match (is_precise, counts_none || pairs >= max_pairs) {
            (true, _) => Decision::Enough,
            (false, false) => Decision::More,
            (false, true) => Decision::GiveUp,
        }
    }

    /// Whether the rate of B is lower by more than `tolerance`, a part of 1, even at the upper end
    /// of the interval.
    #[must_use]
    pub fn is_worse_by(&self, tolerance: f64) -> bool {
        self.rate.is_some_and(|rate| rate.high < 1.0 - tolerance)
    }
}

/// The next step after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Measure another block.
    More,
    /// Stop: the result is as precise as requested.
    Enough,
    /// Stop: the maximum number of pairs is reached, or no pair counts.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::state::{Origin, State};
    use crate::report::tests::ended;

    fn round(side: Side, rate: f64) -> Round {
        Round { side, rate, p50_ns: 100, p99_ns: 200, machine_cpu_ns: 1000, errors: 0, discarded: Vec::new() }
    }

    /// Blocks in which the machine slows down, and B has 0.9 of the rate of A.
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
    fn rounds_have_sources_of_their_own_as_far_as_time_wait_allows() {
        let settings = [("ipv4/ip_local_port_range", "32768 60999"), ("ipv4/tcp_max_tw_buckets", "131072")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let machine = Machine { settings, ..Machine::default() };
        let of = |round| source_of_round(round, &machine).to_string();
        assert_eq!(
            [0, 1, 3, 4].map(of),
            ["127.77.1.1/32", "127.77.1.2/32", "127.77.1.1/32", "127.77.1.2/32"]
        );
        assert_eq!(source_of_round(9, &Machine::default()).to_string(), "127.77.1.1/32");
    }

    #[test]
    fn both_orders_occur() {
        let mut random = Random::new(1);
        let firsts: Vec<Side> = (0..50).map(|_| block(&mut random)[0]).collect();
        assert!(firsts.contains(&Side::A) && firsts.contains(&Side::B));
    }

    #[test]
    fn drift_of_the_machine_does_not_count_as_a_difference() {
        let comparison = Comparison::of(&rounds(8, 0.0));
        let rate = comparison.rate.expect("pairs");
        assert!((rate.ratio - 0.9).abs() < 0.002 && rate.low < 0.9 && 0.9 < rate.high, "{rate:?}");
        assert_eq!(rate.pairs, 16);
        assert!((comparison.control.expect("blocks").ratio - 1.0).abs() < 0.003);
        assert!(comparison.is_worse_by(0.05) && !comparison.is_worse_by(0.2));
    }

    #[test]
    fn rounds_go_on_until_the_result_is_precise() {
        let decide = |rounds: &[Round], max| Comparison::of(rounds).decide(rounds.len() / 2, 0.01, max);
        assert_eq!(decide(&rounds(1, 0.0), 30), Decision::More);
        assert_eq!(decide(&rounds(3, 0.0), 30), Decision::Enough);
        assert_eq!(decide(&rounds(3, 0.1), 30), Decision::More);
        assert_eq!(decide(&rounds(3, 0.1), 6), Decision::GiveUp);
    }

    #[test]
    fn rounds_end_when_none_of_them_counts() {
        let mut all = rounds(2, 0.1);
        all.iter_mut().for_each(|round| round.discarded.push("no-ports".into()));
        let decide = |rounds: &[Round]| Comparison::of(rounds).decide(rounds.len() / 2, 0.01, 30);
        assert_eq!((decide(&all[..4]), decide(&all)), (Decision::More, Decision::GiveUp));
        all[0].discarded.clear();
        all[1].discarded.clear();
        assert_eq!(decide(&all), Decision::More);
    }

    #[test]
    fn a_discarded_round_discards_its_pair() {
        let mut rounds = rounds(3, 0.0);
        rounds[0].discarded.push("late".into());
        let comparison = Comparison::of(&rounds);
        assert_eq!((comparison.discarded, comparison.rate.expect("pairs").pairs), (1, 5));
    }

    #[test]
    fn a_round_with_an_error_of_the_client_is_discarded() {
        for (state, _) in State::ALL {
            let report = Report::new(&crate::plan::tests::plan(), ended(state));
            let counts = state.origin() != Some(Origin::Client) && !state.is_wrong();
            assert_eq!(Round::new(Side::A, &report).discarded.is_empty(), counts, "{state}");
        }
    }
}
