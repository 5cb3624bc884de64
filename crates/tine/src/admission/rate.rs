//! Connection rates: a token bucket for each source and prefix, in a table that all forkers share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::admission::block::{Aggregations, Block};
use crate::admission::sources::Sources;
use crate::error::Error;
use crate::net::peer::Peer;

/// How much older the clock of a process can be than that of the process that took the last token,
/// in nanoseconds: ten seconds, in which it was not scheduled.
const CLOCK_SLACK: u64 = 10_000_000_000;

/// A limit on the rate of connections: a token bucket that fills evenly; each connection takes a
/// token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Time between two tokens, in nanoseconds.
    interval: u64,
    /// Tokens in a full bucket.
    burst: u64,
}

impl Rate {
    /// A number of connections per time. The burst is the same number.
    #[must_use]
    pub fn new(connections: u32, time: Duration) -> Rate {
        let connections = u64::from(connections.max(1));
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Rate { interval: (time / connections).max(1), burst: connections }
    }

    /// Sets the burst: the number of connections that can be accepted at once after a pause.
    #[must_use]
    pub fn burst(self, connections: u32) -> Rate {
        Rate { burst: u64::from(connections.max(1)), ..self }
    }

    /// The rate in words.
    pub(crate) fn to_words(self) -> [u64; 2] {
        [self.interval, self.burst]
    }

    /// The rate in these words; `None` if it is none.
    pub(crate) fn from_words([interval, burst]: [u64; 2]) -> Option<Rate> {
        (interval > 0 && burst > 0).then_some(Rate { interval, burst })
    }

    /// When a bucket is full. One that takes longer to fill than an empty one is of a rate that has
    /// been changed since: it counts as full. `now` can be older than the process that took the
    /// last token read it.
    fn full_at(self, word: u64, now: u64) -> u64 {
        let time_to_fill = self.interval.saturating_mul(self.burst);
        let latest = now.saturating_add(time_to_fill).saturating_add(CLOCK_SLACK);
        if word > latest { now } else { word }
    }

    /// Takes a token from a bucket; `None` if it has none. A bucket is represented by the time at
    /// which it will be full: it is full if that is not after `now`. Returns the new time. (The
    /// generic cell rate algorithm as a virtual schedule, ITU-T I.371.)
    pub(crate) fn take(self, full_at: u64, now: u64) -> Option<u64> {
        let time_to_fill = self.interval.saturating_mul(self.burst);
        let after = self.full_at(full_at, now).max(now).saturating_add(self.interval);
        (after - now <= time_to_fill).then_some(after)
    }

    /// The share of one of several nodes.
    pub(crate) fn share(self, nodes: u32) -> Rate {
        let nodes = u64::from(nodes.max(1));
        Rate { interval: self.interval.saturating_mul(nodes), burst: (self.burst / nodes).max(1) }
    }

    /// The word of a bucket with so many tokens, at most a full one.
    pub(crate) fn word_of(self, tokens: f64, now: u64) -> u64 {
        let missing = (self.burst as f64 - tokens).clamp(0.0, self.burst as f64);
        // Odd words are of other tables.
        now.saturating_add((missing * self.interval as f64) as u64)
    }

    /// The tokens of a full bucket.
    pub(crate) fn burst_tokens(self) -> f64 {
        self.burst as f64
    }

    /// Time between two tokens, in nanoseconds.
    pub(crate) fn interval_nanos(self) -> u64 {
        self.interval
    }

    /// The time from which a bucket has a token.
    fn next_token(self, full_at: u64, now: u64) -> u64 {
        let time_to_fill = self.interval.saturating_mul(self.burst);
        self.full_at(full_at, now).saturating_add(self.interval).saturating_sub(time_to_fill)
    }
}

/// Parses `10/s`, `100/min`, `5/h`, and `10/s:50` for a burst of 50.
impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rate, Error> {
        let bad = || {
            let next =
                "write NUMBER/UNIT with a unit of s, min, h or d, as in 10/s, or 10/s:50 for a burst of 50";
            Error::usage(format_args!("invalid rate '{text}'"), next)
        };
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (number, unit) = rate.split_once('/').ok_or_else(bad)?;
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(bad()),
        };
        let count =
            |text: &str| text.parse().ok().filter(|number| (1..=1_000_000).contains(number)).ok_or_else(bad);
        let rate = Rate::new(count(number)?, Duration::from_secs(seconds));
        burst.map_or(Ok(rate), |burst| Ok(rate.burst(count(burst)?)))
    }
}

/// Writes the rate so that it can be parsed again, in the shortest unit that has a whole number.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_time = |seconds: u64| (seconds as f64 * 1e9 / self.interval as f64).round() as u64;
        let units = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)];
        // The interval was rounded down, so it is compared instead of the time that it divides.
        let is_whole = |seconds: u64| {
            let count = in_time(seconds);
            count > 0 && seconds * 1_000_000_000 / count == self.interval
        };
        let (unit, seconds) = units.into_iter().find(|(_, seconds)| is_whole(*seconds)).unwrap_or(units[3]);
        let count = in_time(seconds);
        write!(f, "{count}/{unit}")?;
        if self.burst == count { Ok(()) } else { write!(f, ":{}", self.burst) }
    }
}

/// The rates of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) source: Option<Rate>,
    pub(crate) prefix: Option<Rate>,
}

impl Rates {
    /// Whether any rate is set.
    pub(crate) fn are_any(&self) -> bool {
        self.source.is_some() || self.prefix.is_some()
    }

    /// Takes a token from each of a client's buckets; false if one is empty. The source's bucket
    /// comes first: a source over its rate takes no token from the bucket that it shares with other
    /// sources of its prefix.
    pub(crate) fn admit(&self, buckets: &Sources, peer: Peer, aggregations: Aggregations, now: u64) -> bool {
        self.of(peer, aggregations).all(|(rate, block)| {
            // Bit 0 is not part of the time: it is set while the delay queue has clients of the
            // block.
            let step = |word: u64| Some(rate.take(word & !1, now)?.next_multiple_of(2) | word & 1);
            buckets.change(&block, now, step).is_some()
        })
    }

    /// The time at which all of a client's buckets have a token, if no other client takes one
    /// before; 0 if no bucket is known.
    pub(crate) fn earliest_admission(
        &self,
        buckets: &Sources,
        peer: Peer,
        aggregations: Aggregations,
        now: u64,
    ) -> u64 {
        let times = self
            .of(peer, aggregations)
            .filter_map(|(rate, block)| Some(rate.next_token(buckets.find(&block)? & !1, now)));
        times.max().unwrap_or(0)
    }

    /// The rates that apply to a client, with the block that each is for.
    pub(crate) fn of(&self, peer: Peer, aggregations: Aggregations) -> impl Iterator<Item = (Rate, Block)> {
        [(self.source, aggregations.source), (self.prefix, aggregations.prefix)]
            .into_iter()
            .filter_map(move |(rate, aggregation)| Some((rate?, peer.block(aggregation)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_parsed_and_invalid_ones_rejected() {
        for (text, interval, burst) in [
            ("10/s", 100_000_000, 10),
            ("60/min", 1_000_000_000, 60),
            ("1/h", 3_600_000_000_000, 1),
            ("10/s:50", 100_000_000, 50),
            ("1/d:3", 86_400_000_000_000, 3),
            ("7/min", 8_571_428_571, 7),
            ("3/s:1000000", 333_333_333, 1_000_000),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!(rate, Rate { interval, burst }, "{text}");
            assert_eq!(rate.to_string().parse::<Rate>().expect(text), rate, "{text}");
        }
        for text in ["", "10", "10/", "/s", "0/s", "10/w", "10/s:", "10/s:0", "-1/s", "1.5/s", "2000000/s"] {
            assert_eq!(text.parse::<Rate>().expect_err(text).exit_code(), 100, "{text}");
        }
    }

    /// Returns how many of the connections at these times, in nanoseconds, are admitted.
    fn admitted(rate: Rate, times: impl Iterator<Item = u64>) -> usize {
        let mut full_at = 0;
        times
            .filter(|now| match rate.take(full_at, *now) {
                Some(after) => {
                    full_at = after;
                    true
                }
                None => false,
            })
            .count()
    }

    #[test]
    fn a_bucket_has_a_token_from_the_computed_time_on() {
        for rate in [Rate::new(10, Duration::from_secs(1)), Rate::new(3, Duration::from_secs(60)).burst(7)] {
            let (mut full_at, mut now) = (0, 1_000_000_000_000);
            for _ in 0..100 {
                let time = rate.next_token(full_at, now);
                if time > now {
                    assert_eq!(rate.take(full_at, time - 1), None);
                }
                now = now.max(time);
                full_at = rate.take(full_at, now).expect("a token");
            }
        }
    }

    #[test]
    fn a_bucket_of_a_slower_rate_counts_as_full_and_one_that_is_a_little_ahead_does_not() {
        let now = 1_000_000_000_000_000;
        let [slow, fast] = [86_400, 1].map(|seconds| Rate::new(10, Duration::from_secs(seconds)));
        let full_at = (0..10).fold(0, |full_at, _| slow.take(full_at, now).expect("a token"));
        assert_eq!((slow.take(full_at, now), fast.next_token(full_at, now) <= now), (None, true));
        let after = fast.take(full_at, now).expect("a token");
        assert_eq!(after, fast.take(0, now).expect("a token"));
        // Of this rate, taken by a process whose clock was read later.
        let ahead = (0..10).fold(0, |full_at, _| fast.take(full_at, now + 5_000_000_000).expect("a token"));
        assert_eq!(fast.take(ahead, now), None);
        for rate in [slow, fast] {
            assert_eq!(Rate::from_words(rate.to_words()), Some(rate));
        }
        assert_eq!(Rate::from_words([0, 0]), None);
    }

    #[test]
    fn a_bucket_holds_its_burst_and_fills_evenly() {
        let rate = Rate::new(10, Duration::from_secs(1));
        let second = 1_000_000_000;
        // 100 connections at once: the burst is admitted.
        assert_eq!(admitted(rate, std::iter::repeat_n(second, 100)), 10);
        // 1000 connections a second for 10 s: the burst, and 10 in each second.
        assert_eq!(admitted(rate, (0..10_000).map(|number| number * second / 1000)), 10 + 99);
        // Connections at the rate: all are admitted.
        assert_eq!(admitted(rate, (0..1000).map(|number| number * second / 10)), 1000);
        // A pause fills the bucket to the burst, however long it is.
        let two_bursts = std::iter::repeat_n(0, 100).chain(std::iter::repeat_n(1000 * second, 100));
        assert_eq!(admitted(rate, two_bursts), 20);
    }
}
