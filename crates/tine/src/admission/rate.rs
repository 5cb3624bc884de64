//! How often a source may come: token buckets, one for each source, in a table that all forkers share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::admission::block::{Aggregations, Block};
use crate::admission::sources::Sources;
use crate::error::Error;
use crate::net::peer::Peer;

/// How often: a bucket of tokens that fills evenly. Each connection takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Time for one token, in nanoseconds.
    interval: u64,
    /// Tokens of a full bucket.
    burst: u64,
}

impl Rate {
    /// So many connections in so much time; as many may come at once after a rest.
    #[must_use]
    pub fn new(connections: u32, time: Duration) -> Rate {
        let connections = u64::from(connections.max(1));
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Rate { interval: (time / connections).max(1), burst: connections }
    }

    /// The same, with so many at once after a rest.
    #[must_use]
    pub fn burst(self, connections: u32) -> Rate {
        Rate { burst: u64::from(connections.max(1)), ..self }
    }

    /// What becomes of a bucket when a connection comes. A bucket is the time at which it will be full; now, or before, it
    /// is. `None` if it has no token. (The generic cell rate algorithm, ITU-T I.371, as a virtual schedule.)
    fn take(self, full_at: u64, now: u64) -> Option<u64> {
        let full_at = full_at.max(now);
        let empty = self.interval.saturating_mul(self.burst);
        let after = full_at.saturating_add(self.interval);
        (after - now <= empty).then_some(after)
    }

    /// From when on such a bucket has a token.
    fn next_token(self, full_at: u64) -> u64 {
        let empty = self.interval.saturating_mul(self.burst);
        full_at.saturating_add(self.interval).saturating_sub(empty)
    }
}

/// Reads `10/s`, `100/min`, `5/h`, and `10/s:50` for a burst of 50.
impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rate, Error> {
        let bad = || {
            let next =
                "write a number, a slash and s, min, h or d, as in 10/s, and :50 where 50 may come at once";
            Error::usage(format_args!("'{text}' is no rate"), next)
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

/// As it is read, in the shortest time of which it is a whole number.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_time = |seconds: u64| (seconds as f64 * 1e9 / self.interval as f64).round() as u64;
        let units = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)];
        // The interval was rounded down, so a count of it fills its time but for less than itself.
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

/// The rates that a service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) source: Option<Rate>,
    pub(crate) prefix: Option<Rate>,
}

impl Rates {
    /// Whether there is any.
    pub(crate) fn are_any(&self) -> bool {
        self.source.is_some() || self.prefix.is_some()
    }

    /// Whether a client may come now, as to these. The source's own bucket is asked first: who is beyond it takes nothing
    /// from the bucket that it shares with others.
    pub(crate) fn admit(&self, buckets: &Sources, peer: Peer, aggregations: Aggregations, now: u64) -> bool {
        self.of(peer, aggregations).all(|(rate, bucket)| {
            // The lowest bit says that somebody waits for a token: the delayer's business.
            let step = |word: u64| Some(rate.take(word & !1, now)?.next_multiple_of(2) | word & 1);
            buckets.change(&bucket, now, step).is_some()
        })
    }

    /// When a client could come, if nobody comes before it.
    pub(crate) fn earliest_admission(
        &self,
        buckets: &Sources,
        peer: Peer,
        aggregations: Aggregations,
    ) -> u64 {
        let chances = self
            .of(peer, aggregations)
            .filter_map(|(rate, bucket)| Some(rate.next_token(buckets.find(&bucket)? & !1)));
        chances.max().unwrap_or(0)
    }

    /// The rates for a client, and which bucket is meant.
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
    fn what_may_be_typed() {
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

    /// How many of connections at these times, in nanoseconds, are admitted.
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
    fn the_next_token_is_there_when_it_is_said_to_be() {
        for rate in [Rate::new(10, Duration::from_secs(1)), Rate::new(3, Duration::from_secs(60)).burst(7)] {
            let (mut full_at, mut now) = (0, 1_000_000_000_000);
            for _ in 0..100 {
                let chance = rate.next_token(full_at);
                if chance > now {
                    assert_eq!(rate.take(full_at, chance - 1), None);
                }
                now = now.max(chance);
                full_at = rate.take(full_at, now).expect("a token");
            }
        }
    }

    #[test]
    fn a_bucket_holds_its_burst_and_fills_evenly() {
        let rate = Rate::new(10, Duration::from_secs(1));
        let second = 1_000_000_000;
        // All at once: the burst, and nothing more.
        assert_eq!(admitted(rate, std::iter::repeat_n(second, 100)), 10);
        // A thousand a second for ten seconds: the burst, and ten for each second.
        assert_eq!(admitted(rate, (0..10_000).map(|number| number * second / 1000)), 10 + 99);
        // At its rate: all.
        assert_eq!(admitted(rate, (0..1000).map(|number| number * second / 10)), 1000);
        // A rest fills it, and no more than that.
        let rested = std::iter::repeat_n(0, 100).chain(std::iter::repeat_n(1000 * second, 100));
        assert_eq!(admitted(rate, rested), 20);
    }
}
