//! Limits per source over all nodes of a fleet: what forkers ask, and the supervisor sets.
//!
//! A node knows of the others what they told a moment ago. So it does not use all that is left: of
//! what is left, each node may use an equal part until it hears more. Where nothing is set for a
//! source, and while nothing is heard, a node has its share of the limit.

use std::io;
use std::time::Duration;

use super::block::Block;
use super::rate::Rate;
use super::sources::{Eviction, SourceSecret, Sources};

/// A cap that was not set anew for this time holds no longer: the supervisor, or the link, has
/// nothing to say.
const CAP_HOLDS: Duration = Duration::from_secs(2);

/// The low bits of the word of a source, which are its cap; the rest is the time until which that
/// holds, so that the table can tell which word has expired.
const CAP_BITS: u32 = 20;
const MAX_CAP: u64 = (1 << CAP_BITS) - 1;

/// The limits over a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetLimits {
    /// Connections per source at a time.
    pub(crate) max_per_source: Option<usize>,
    pub(crate) rate_per_source: Option<Rate>,
}

impl FleetLimits {
    /// Whether there is any.
    pub(crate) fn are_any(&self) -> bool {
        self.max_per_source.is_some() || self.rate_per_source.is_some()
    }

    /// The share of a node in the connections, rounded up.
    pub(crate) fn share(max: usize, nodes: u32) -> usize {
        max.div_ceil(nodes.max(1) as usize)
    }
}

/// What this node may do for each source, in memory that forkers and supervisor share.
#[derive(Debug)]
pub(crate) struct FleetTables {
    caps: Option<Sources>,
    buckets: Option<Sources>,
}

impl FleetTables {
    /// Maps the tables that these limits need.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(limits: FleetLimits, secret: SourceSecret) -> io::Result<FleetTables> {
        let table = || Sources::new(Eviction::Expired, secret);
        Ok(FleetTables {
            caps: limits.max_per_source.map(|_| table()).transpose()?,
            buckets: limits.rate_per_source.map(|_| table()).transpose()?,
        })
    }

    /// The connections that a source may have here, of `max` over all nodes.
    pub(crate) fn cap(&self, source: &Block, max: usize, nodes: u32, now: u64) -> usize {
        let word = self.caps.as_ref().and_then(|caps| caps.find(source));
        let set = word.filter(|word| word & !MAX_CAP > now).map(|word| (word & MAX_CAP) as usize);
        // A cap may have been set by a limit that was larger.
        set.unwrap_or_else(|| FleetLimits::share(max, nodes)).min(max)
    }

    /// Sets the cap of a source. Runs in the supervisor.
    pub(crate) fn set_cap(&self, source: &Block, cap: usize, now: u64) {
        let until = now.saturating_add(CAP_HOLDS.as_nanos() as u64) & !MAX_CAP;
        let word = until | (cap as u64).min(MAX_CAP);
        self.caps.iter().for_each(|caps| _ = caps.change(source, now, |_| Some(word)));
    }

    /// Takes a token of a source, of `rate` over all nodes; false if it has none here.
    pub(crate) fn take_token(&self, source: &Block, rate: Rate, nodes: u32, now: u64) -> bool {
        let rate = rate.share(nodes);
        let take = |buckets: &Sources| buckets.change(source, now, |word| rate.take(word, now)).is_some();
        self.buckets.as_ref().is_none_or(take)
    }

    /// Sets the tokens of a source that this node may take until it hears more, of `rate` over all
    /// nodes. Runs in the supervisor.
    pub(crate) fn set_tokens(&self, source: &Block, tokens: f64, rate: Rate, nodes: u32, now: u64) {
        let word = rate.share(nodes).word_of(tokens, now);
        self.buckets.iter().for_each(|buckets| _ = buckets.change(source, now, |_| Some(word)));
    }

    fn tables(&self) -> impl Iterator<Item = &Sources> {
        self.caps.iter().chain(&self.buckets)
    }

    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.tables().try_for_each(Sources::exclude_from_fork)
    }

    pub(crate) fn unmap(self) -> io::Result<()> {
        self.caps.into_iter().chain(self.buckets).try_for_each(Sources::unmap)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Aggregations;
    use super::*;
    use crate::net::peer::Peer;

    const SECOND: u64 = 1_000_000_000;

    fn tables(max: Option<usize>, rate: Option<Rate>) -> FleetTables {
        let limits = FleetLimits { max_per_source: max, rate_per_source: rate };
        FleetTables::new(limits, SourceSecret::random()).expect("memory")
    }

    fn source(last: u8) -> Block {
        let peer = Peer::Tcp(([192, 0, 2, last], 1).into());
        peer.block(Aggregations::default().source).expect("an address")
    }

    #[test]
    fn a_cap_holds_for_a_while_and_then_the_share() {
        let tables = tables(Some(10), None);
        let cap = |last: u8, nodes: u32, now: u64| tables.cap(&source(last), 10, nodes, now);
        let now = 100 * SECOND;
        assert_eq!([1, 2, 3, 30].map(|nodes| cap(1, nodes, now)), [10, 5, 4, 1]);
        tables.set_cap(&source(1), 7, now);
        assert_eq!(cap(1, 3, now + SECOND), 7);
        assert_eq!(cap(2, 3, now + SECOND), 4);
        assert_eq!(cap(1, 3, now + 2 * SECOND), 4);
        tables.set_cap(&source(1), 0, now);
        assert_eq!(cap(1, 3, now), 0);
        tables.set_cap(&source(1), usize::MAX, now);
        assert_eq!(cap(1, 3, now), 10, "no more than the limit, whatever was set");
        assert_eq!(tables.cap(&source(1), usize::MAX, 3, now), MAX_CAP as usize);
    }

    #[test]
    fn a_node_has_its_share_of_a_rate_or_what_was_set() {
        let rate = Rate::new(9, Duration::from_secs(1)).burst(6);
        let tables = tables(None, Some(rate));
        let take = |now: u64| (0..20).filter(|_| tables.take_token(&source(1), rate, 3, now)).count();
        let set = |tokens: f64, now: u64| tables.set_tokens(&source(1), tokens, rate, 3, now);
        let now = 100 * SECOND;
        assert_eq!(take(now), 2, "a third of the burst");
        assert_eq!(take(now + SECOND / 3 + 1), 1, "a third of the rate");
        set(1.5, now + SECOND);
        assert_eq!(take(now + SECOND), 1);
        set(-4.0, now + 2 * SECOND);
        assert_eq!(take(now + 2 * SECOND), 0);
        set(99.0, now + 3 * SECOND);
        assert_eq!(take(now + 3 * SECOND), 2, "no more than its share of the burst");
        // A bucket of a rate that was much lower holds up nobody.
        let faster = Rate::new(1000, Duration::from_secs(1));
        tables.set_tokens(&source(1), 0.0, Rate::new(1, Duration::from_secs(86400)), 3, now + 4 * SECOND);
        assert!(tables.take_token(&source(1), faster, 3, now + 4 * SECOND));
    }
}
