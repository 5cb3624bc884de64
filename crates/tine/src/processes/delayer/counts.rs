//! Counts of the connections of each source and prefix, with those of the clients that were just
//! released. No system call here.

use std::collections::HashMap;

use crate::admission::block::Block;
use crate::admission::limits::ConnectionLimit;

/// The counts. Forkers need a moment to serve a released client, so it is counted at once.
#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: HashMap<Block, usize>,
}

impl Counts {
    /// Counts a connection for each of these blocks.
    pub(super) fn add(&mut self, blocks: impl Iterator<Item = Block>) {
        blocks.for_each(|block| *self.connections.entry(block).or_default() += 1);
    }

    /// Whether each block is below its limit. `count` counts the connections of a block that has no
    /// count yet.
    pub(super) fn are_below(
        &mut self,
        mut limits: impl Iterator<Item = (ConnectionLimit, Block)>,
        count: impl Fn(Block) -> usize,
    ) -> bool {
        limits
            .all(|(limit, block)| *self.connections.entry(block).or_insert_with(|| count(block)) < limit.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::block::Aggregations;
    use crate::admission::reason::Reason;
    use crate::net::peer::Peer;

    fn limit(max: usize) -> ConnectionLimit {
        ConnectionLimit { max, aggregation: Aggregations::default().source, reason: Reason::Source }
    }

    #[test]
    fn a_released_client_counts_at_once() {
        let peer = Peer::Tcp("192.0.2.1:1".parse().expect("an address"));
        let aggregations = Aggregations::default();
        let [source, prefix] = [aggregations.source, aggregations.prefix]
            .map(|aggregation| peer.block(aggregation).expect("an address"));
        for (served_of_source, served_of_prefix, go) in
            [(0, 0, 2), (1, 1, 1), (2, 2, 0), (0, 4, 1), (0, 5, 0)]
        {
            let mut counts = Counts::default();
            let count = |block| if block == source { served_of_source } else { served_of_prefix };
            let released = |_: &u32| {
                let is_below = counts.are_below([(limit(2), source), (limit(5), prefix)].into_iter(), count);
                if is_below {
                    counts.add([source, prefix].into_iter());
                }
                is_below
            };
            assert_eq!((0..9).filter(released).count(), go, "{served_of_source} {served_of_prefix}");
        }
    }

    #[test]
    fn a_block_with_a_count_is_not_counted_again() {
        let block =
            Peer::Tcp("192.0.2.1:1".parse().expect("an address")).block(Aggregations::default().source);
        let mut counts = Counts::default();
        counts.add(block.into_iter());
        let limit = |max: usize| block.map(|block| (limit(max), block)).into_iter();
        assert!(counts.are_below(limit(2), |_| unreachable!("the block has a count")));
        assert!(!counts.are_below(limit(1), |_| unreachable!("the block has a count")));
    }
}
