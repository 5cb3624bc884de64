//! How many connections of each source and prefix there are, those included that have just been let go. No system call here.

use std::collections::HashMap;

use crate::admission::block::Block;

/// What has been counted. Forkers need a moment to serve whom they are sent, so who goes is counted at once.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: HashMap<Block, usize>,
}

impl Places {
    /// These blocks have a connection each.
    pub(super) fn take(&mut self, blocks: impl Iterator<Item = Block>) {
        blocks.for_each(|block| *self.taken.entry(block).or_default() += 1);
    }

    /// Whether each of these blocks has fewer connections than it may; `count` counts those of one that nothing is known of.
    pub(super) fn are_free(
        &mut self,
        mut limits: impl Iterator<Item = (usize, Block)>,
        count: impl Fn(Block) -> usize,
    ) -> bool {
        limits.all(|(most, block)| *self.taken.entry(block).or_insert_with(|| count(block)) < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::block::Aggregations;
    use crate::net::peer::Peer;

    #[test]
    fn who_goes_takes_a_place_at_once() {
        let peer = Peer::Tcp("192.0.2.1:1".parse().expect("an address"));
        let aggregations = Aggregations::default();
        let [source, prefix] = [aggregations.source, aggregations.prefix]
            .map(|aggregation| peer.block(aggregation).expect("an address"));
        for (served_of_source, served_of_prefix, go) in
            [(0, 0, 2), (1, 1, 1), (2, 2, 0), (0, 4, 1), (0, 5, 0)]
        {
            let mut places = Places::default();
            let count = |block| if block == source { served_of_source } else { served_of_prefix };
            let goes = |_: &u32| {
                let is_free = places.are_free([(2, source), (5, prefix)].into_iter(), count);
                if is_free {
                    places.take([source, prefix].into_iter());
                }
                is_free
            };
            assert_eq!((0..9).filter(goes).count(), go, "{served_of_source} {served_of_prefix}");
        }
    }

    #[test]
    fn what_is_known_is_not_counted_again() {
        let block =
            Peer::Tcp("192.0.2.1:1".parse().expect("an address")).block(Aggregations::default().source);
        let mut places = Places::default();
        places.take(block.into_iter());
        let limit = |most: usize| block.map(|block| (most, block)).into_iter();
        assert!(places.are_free(limit(2), |_| unreachable!("one is known of")));
        assert!(!places.are_free(limit(1), |_| unreachable!("one is known of")));
    }
}
