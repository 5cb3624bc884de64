//! Connections per block of addresses, counted anew for each question, so that no count can be
//! wrong.

use std::sync::atomic::Ordering::SeqCst;

use super::{Board, SlotPhase};
use crate::admission::SlotCounts;
use crate::admission::block::{Aggregation, Block, block_of};
use crate::net::peer::Peer;
use crate::system::procfs::Stat;

/// A slot for which a client is being admitted.
pub(crate) struct CandidateSlot<'a> {
    pub(crate) board: &'a Board,
    pub(crate) slot: usize,
}

impl SlotCounts for CandidateSlot<'_> {
    fn reserve(&self, peer: Peer) {
        self.board.reserve(self.slot, peer);
    }

    /// Processes that have begun to end do not count: their clients may know of it already.
    fn has_others(&self, block: Block, max: usize) -> bool {
        // Counted twice instead of collected: a page of heap written between forks is copied by the
        // next.
        let others = || self.board.other_pids_in(block, self.slot);
        others().count() >= max && others().filter(|pid| !is_ending(*pid)).count() >= max
    }
}

/// Whether a process has begun to end. One without an id is just being created.
fn is_ending(pid: i32) -> bool {
    pid != 0 && Stat::of(pid).is_none_or(|stat| stat.is_ending())
}

impl Board {
    /// The processes, by id, that serve other connections of a block than the one in this slot. The
    /// id is 0 while a process is being created or its client is being admitted.
    fn other_pids_in(&self, block: Block, slot: usize) -> impl Iterator<Item = i32> + '_ {
        self.slots_in(block).filter(move |other| *other != slot).map(|other| self.pid(other))
    }

    /// The slots with connections of a block.
    pub(crate) fn slots_in(&self, block: Block) -> impl Iterator<Item = usize> + '_ {
        self.claimed_slots()
            .filter(move |slot| self.counts(*slot) && self.block(*slot, block.aggregation) == Some(block))
    }

    /// The block of each connection.
    pub(crate) fn blocks(&self, aggregation: Aggregation) -> impl Iterator<Item = Block> + '_ {
        let slots = self.claimed_slots().filter(|slot| self.counts(*slot));
        slots.filter_map(move |slot| self.block(slot, aggregation))
    }

    /// The block of each connection that is served.
    pub(crate) fn served_blocks(&self, aggregation: Aggregation) -> impl Iterator<Item = Block> + '_ {
        let slots = self.claimed_slots().filter(|slot| self.phase(*slot) == SlotPhase::Serving);
        slots.filter_map(move |slot| self.block(slot, aggregation))
    }

    fn counts(&self, slot: usize) -> bool {
        matches!(self.phase(slot), SlotPhase::Serving | SlotPhase::Deciding)
    }

    fn block(&self, slot: usize, aggregation: Aggregation) -> Option<Block> {
        block_of(self.peer_words(slot), aggregation)
    }

    /// The claimed slots. Every slot in use is among them: its bit is cleared before and set after.
    /// Most of a large table is free, and is skipped.
    fn claimed_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slot_count().div_ceil(64)).flat_map(move |word| {
            let first = word * 64;
            let exist = u64::MAX >> (64 - (self.slot_count() - first).min(64));
            let mut claimed = !self.word(self.free_at() + word).load(SeqCst) & exist;
            std::iter::from_fn(move || {
                let slot = (claimed != 0).then(|| first + claimed.trailing_zeros() as usize)?;
                claimed &= claimed - 1;
                Some(slot)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;
    use crate::admission::block::Aggregations;
    use crate::net::peer::Peer;
    use crate::system::random::Random;

    #[test]
    fn connections_of_a_source_are_counted() {
        let board = board(8);
        let begin = |text: &str| {
            let slot = board.claim(0).expect("free");
            board.begin(slot, Peer::Tcp(text.parse().expect("an address")));
            slot
        };
        let first = begin("192.0.2.1:1");
        let second = begin("192.0.2.1:2");
        let other = begin("192.0.2.2:1");
        let local = board.claim(0).expect("free");
        board.begin(local, Peer::Unix(None));
        let counts = |slot: usize| {
            let block = board.block(slot, Aggregations::default().source);
            block.map_or(0, |block| board.other_pids_in(block, slot).count())
        };
        assert_eq!([first, second, other, local].map(counts), [1, 1, 0, 0]);
        assert_eq!(board.claimed_slots().count(), 4);
        board.release(second);
        assert_eq!(counts(first), 0);
    }

    /// Whatever order clients come, crash and go in, and forkers die in: what is counted is what is
    /// there.
    #[test]
    fn counts_are_right_in_every_order() {
        let mut random = Random::new(5);
        const SLOTS: usize = 70;
        let aggregations = Aggregations::default();
        let board = board(SLOTS);
        let source = |number: usize| Peer::Tcp(([192, 0, number as u8 / 4, number as u8 % 4], 9).into());
        // What there is: slot, forker, source, and whether it has a process.
        let mut there: Vec<(usize, usize, usize, bool)> = Vec::new();
        for _ in 0..30_000 {
            match random.below(8) {
                0..4 => {
                    let (forker, number, has_process) =
                        (random.below(3), random.below(8), random.below(4) > 0);
                    let slot = board.claim(forker);
                    assert_eq!(slot.is_none(), there.len() == SLOTS);
                    let Some(slot) = slot else { continue };
                    board.begin(slot, source(number));
                    if has_process {
                        board.pid_cell(slot).store(1000 + slot as i32, SeqCst);
                    }
                    there.push((slot, forker, number, has_process));
                }
                4..7 if !there.is_empty() => {
                    let (slot, ..) = there.swap_remove(random.below(there.len()));
                    board.release(slot);
                }
                _ if random.below(10) == 0 => {
                    let dead = random.below(3);
                    board.unforked(dead).collect::<Vec<_>>().into_iter().for_each(|slot| board.release(slot));
                    there.retain(|(_, forker, _, has_process)| *forker != dead || *has_process);
                }
                _ => {}
            }
            let number = random.below(8);
            for aggregation in [aggregations.source, aggregations.prefix] {
                let block = source(number).block(aggregation).expect("an address");
                let counted =
                    there.iter().filter(|(_, _, other, _)| source(*other).block(aggregation) == Some(block));
                assert_eq!(board.slots_in(block).count(), counted.count());
            }
            assert_eq!(
                (board.claimed_slots().count(), board.count(SlotPhase::Serving, None)),
                (there.len(), there.len())
            );
        }
        there.into_iter().for_each(|(slot, ..)| board.release(slot));
        assert_eq!(
            (board.claimed_slots().count(), (0..SLOTS).filter_map(|_| board.claim(0)).count()),
            (0, SLOTS)
        );
    }
}
