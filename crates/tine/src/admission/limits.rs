//! The configured limits: connections and rates per source and prefix, access rules, penalties; and
//! the action for clients over a limit. Plain values, from which [`super::Admission`] is made.

use std::time::Duration;

use crate::admission::access::compiled::CompiledRules;
use crate::admission::block::{Aggregation, Aggregations, Block};
use crate::admission::fleet::FleetLimits;
use crate::admission::penalty::Penalties;
use crate::admission::proxy::ProxyProtocol;
use crate::admission::rate::{Rate, Rates};
use crate::admission::reason::Reason;
use crate::error::named;
use crate::net::peer::Peer;

/// The default number of clients of [`WhenLimited::Delay`].
pub const MAX_DELAYED: usize = 256;

/// The default timeout of [`WhenLimited::Delay`].
pub const DELAY_TIMEOUT: Duration = Duration::from_secs(10);

/// The action for clients that arrive while all slots are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// Clients wait in the backlog until a slot is free.
    #[default]
    Wait,
    /// Clients get this text, byte for byte, and the end of the stream.
    Reject(Vec<u8>),
}

/// The action for clients that exceed a limit of their source or prefix, or whose source has a
/// penalty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenLimited {
    /// Clients wait in the delay queue, in order within a source; sources take turns.
    Delay {
        /// The maximum number of clients in the delay queue, over all sources. When it is full,
        /// clients are rejected.
        max_clients: usize,
        /// Time after which a queued client is rejected.
        timeout: Duration,
    },
    /// Clients get this text, byte for byte, and the end of the stream; without a text, that of
    /// [`WhenFull::Reject`].
    Reject(Option<Vec<u8>>),
    /// Clients get the end of the stream.
    Close,
}

impl WhenLimited {
    /// [`WhenLimited::Delay`] with the defaults: 256 clients, 10 s.
    pub const DELAY: WhenLimited = WhenLimited::Delay { max_clients: MAX_DELAYED, timeout: DELAY_TIMEOUT };
}

impl Default for WhenLimited {
    fn default() -> WhenLimited {
        WhenLimited::Reject(None)
    }
}

/// What limits and access rules do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitsMode {
    /// Clients that they do not admit are delayed or rejected.
    #[default]
    Enforce,
    /// A dry run: clients that they would delay or reject are counted, logged and served.
    Report,
}

named!(LimitsMode { Enforce = "enforce", Report = "report" });

/// The limits of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// What the limits do until an operator changes it.
    pub(crate) mode: LimitsMode,
    pub(crate) when_full: WhenFull,
    pub(crate) when_limited: WhenLimited,
    /// What counts as a source and as a prefix.
    pub(crate) aggregations: Aggregations,
    /// Connections per source at a time.
    pub(crate) max_per_source: Option<usize>,
    /// Connections per prefix at a time.
    pub(crate) max_per_prefix: Option<usize>,
    pub(crate) rates: Rates,
    /// Without rules, every client is allowed.
    pub(crate) rules: Option<CompiledRules>,
    pub(crate) penalties: Option<Penalties>,
    /// Clients that these rules allow get no penalties.
    pub(crate) penalty_exempt: Option<CompiledRules>,
    /// Connections of clients that these rules allow are logged only if they fail.
    pub(crate) log_exclude: Option<CompiledRules>,
    /// Limits over all nodes of a fleet.
    pub(crate) fleet: FleetLimits,
    /// The proxies that speak for clients.
    pub(crate) proxy: Option<ProxyProtocol>,
}

/// A limit on the connections of a block at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionLimit {
    pub(crate) max: usize,
    pub(crate) aggregation: Aggregation,
    /// Why a client over this limit is not admitted.
    pub(crate) reason: Reason,
}

/// The limits per source and prefix, here and over all nodes of a fleet: those of the start, or
/// those that an operator has set since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceLimits {
    /// Connections per source at a time.
    pub(crate) max_per_source: Option<usize>,
    /// Connections per prefix at a time.
    pub(crate) max_per_prefix: Option<usize>,
    pub(crate) rates: Rates,
    /// Limits over all nodes of a fleet.
    pub(crate) fleet: FleetLimits,
}

/// The words of [`SourceLimits`].
pub(crate) const SOURCE_LIMITS_WORDS: usize = 9;

impl SourceLimits {
    /// Zero is no limit.
    pub(crate) fn to_words(self) -> [u64; SOURCE_LIMITS_WORDS] {
        let max = |max: Option<usize>| max.unwrap_or(0) as u64;
        let rate = |rate: Option<Rate>| rate.map_or([0; 2], Rate::to_words);
        let ([a, b], [c, d]) = (rate(self.rates.source), rate(self.rates.prefix));
        let (fleet, [e, f]) = (max(self.fleet.max_per_source), rate(self.fleet.rate_per_source));
        [max(self.max_per_source), max(self.max_per_prefix), a, b, c, d, fleet, e, f]
    }

    pub(crate) fn from_words(words: [u64; SOURCE_LIMITS_WORDS]) -> SourceLimits {
        let [source, prefix, a, b, c, d, fleet, e, f] = words;
        let max = |max: u64| usize::try_from(max).ok().filter(|max| *max > 0);
        SourceLimits {
            max_per_source: max(source),
            max_per_prefix: max(prefix),
            rates: Rates { source: Rate::from_words([a, b]), prefix: Rate::from_words([c, d]) },
            fleet: FleetLimits { max_per_source: max(fleet), rate_per_source: Rate::from_words([e, f]) },
        }
    }

    /// The limits on connections at a time.
    pub(crate) fn connections(
        &self,
        aggregations: Aggregations,
    ) -> impl Iterator<Item = ConnectionLimit> + use<> {
        [
            (self.max_per_source, aggregations.source, Reason::Source),
            (self.max_per_prefix, aggregations.prefix, Reason::Prefix),
        ]
        .into_iter()
        .filter_map(|(max, aggregation, reason)| Some(ConnectionLimit { max: max?, aggregation, reason }))
    }

    /// The limits on connections at a time that apply to a client, with the block that each counts.
    pub(crate) fn connections_of(
        &self,
        peer: Peer,
        aggregations: Aggregations,
    ) -> impl Iterator<Item = (ConnectionLimit, Block)> + use<> {
        self.connections(aggregations).filter_map(move |limit| Some((limit, peer.block(limit.aggregation)?)))
    }
}

impl Limits {
    /// The limits per source and prefix of the start.
    #[inline]
    pub(crate) fn of_sources(&self) -> SourceLimits {
        let Limits { max_per_source, max_per_prefix, rates, fleet, .. } = *self;
        SourceLimits { max_per_source, max_per_prefix, rates, fleet }
    }

    /// Whether there are buckets: for rates, and to mark blocks with queued clients.
    pub(crate) fn have_buckets(&self) -> bool {
        self.rates.are_any() || self.delays()
    }

    /// Whether clients are rejected when all slots are taken, instead of waiting in the backlog.
    pub(crate) fn rejects_when_full(&self) -> bool {
        matches!(self.when_full, WhenFull::Reject(_))
    }

    /// Whether any client is ever rejected.
    pub(crate) fn rejects(&self) -> bool {
        self.rejects_when_full() || self.rules.is_some() || self.limits_sources() || self.proxy.is_some()
    }

    /// The text for a rejected client.
    pub(crate) fn rejection_text(&self, reason: Reason) -> &[u8] {
        match (reason, &self.when_limited, &self.when_full) {
            (Reason::Denied | Reason::Time | Reason::Proxy | Reason::Banned, ..) => &[],
            (Reason::Full, _, WhenFull::Reject(text)) => text,
            (_, WhenLimited::Reject(Some(text)), _) => text,
            (_, WhenLimited::Close, _) => &[],
            (_, _, WhenFull::Reject(text)) => text,
            (_, _, WhenFull::Wait) => &[],
        }
    }

    /// Whether clients over a limit of their source or prefix are queued.
    pub(crate) fn delays(&self) -> bool {
        matches!(self.when_limited, WhenLimited::Delay { .. }) && self.limits_sources()
    }

    /// The maximum number of clients in the delay queue.
    pub(crate) fn max_delayed(&self) -> usize {
        if let WhenLimited::Delay { max_clients, .. } = self.when_limited { max_clients } else { 0 }
    }

    /// The deadline of a client that is queued now, in nanoseconds of the monotonic clock.
    pub(crate) fn delay_deadline(&self, now: u64) -> u64 {
        let WhenLimited::Delay { timeout, .. } = self.when_limited else { return now };
        now.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The blocks whose delay queues a client would be in: its source, and its prefix where that
    /// has a limit.
    pub(crate) fn delay_blocks(&self, peer: Peer) -> impl Iterator<Item = Block> + use<> {
        let delays = self.delays();
        let source = delays.then_some(self.aggregations.source);
        let prefix = (delays && self.limits_prefixes()).then_some(self.aggregations.prefix);
        source.into_iter().chain(prefix).filter_map(move |aggregation| peer.block(aggregation))
    }

    /// Whether there is a limit per prefix.
    pub(crate) fn limits_prefixes(&self) -> bool {
        self.max_per_prefix.is_some() || self.rates.prefix.is_some()
    }

    fn limits_sources(&self) -> bool {
        self.max_per_source.is_some()
            || self.max_per_prefix.is_some()
            || self.rates.are_any()
            || self.penalties.is_some()
            || self.fleet.are_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_sources_survive_the_words() {
        let rate = Rate::new(10, Duration::from_secs(1)).burst(50);
        for limits in [
            SourceLimits::default(),
            SourceLimits { max_per_source: Some(7), ..SourceLimits::default() },
            SourceLimits {
                max_per_source: None,
                max_per_prefix: Some(9),
                rates: Rates { source: Some(rate), prefix: None },
                fleet: FleetLimits { max_per_source: Some(4), rate_per_source: None },
            },
            SourceLimits { rates: Rates { source: None, prefix: Some(rate) }, ..SourceLimits::default() },
            SourceLimits {
                fleet: FleetLimits { max_per_source: None, rate_per_source: Some(rate) },
                ..SourceLimits::default()
            },
        ] {
            assert_eq!(SourceLimits::from_words(limits.to_words()), limits);
        }
    }
}
