//! What the processes of a server know of each other, in shared memory filled before the first fork.
//!
//! Two kinds of it. The [`Board`] decides: which slots are taken, by which process. Only trusted
//! processes have it: supervisor, forkers, and spares that have read no byte of a client yet (with
//! `reuse`, workers keep it, which is why that is weaker). The [`ConnStats`] shows: bytes so far, how it
//! ended. Every connection can write it, so nothing is decided by it.
//!
//! A slot is the right to serve a connection: there are as many as connections may be served at a
//! time, so the limit needs no counter that could drift. Whatever dies, its slot names its owner.

mod notices;

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU64};

use tine_sys::memory::{BroadcastFlag, Record, Region, Shared};

use crate::admission::block::{Aggregation, Block, block_of};
use crate::net::peer::Peer;
use crate::shared::stats::ConnStats;
use crate::system::clock::now;

/// The most forkers that a server can have.
pub(crate) const MAX_FORKERS: usize = 64;

// Words of a slot.
const OWNER: usize = 0;
const PHASE: usize = 1;
const ID: usize = 2;
const START: usize = 3;
const PEER: usize = 4;
const SOCKET: usize = 7;
const CGROUP: usize = 8;
const SLOT_WORDS: usize = 9;

// Words of the head, before the words of each forker and the two bitmaps.
const LAST_ID: usize = 0;
const WAKEUP_PENDING: usize = 1;
const DRAIN_QUOTA: usize = 2;
const TROUBLE: usize = 3;
const NOTICE_REQUESTED: usize = 4;
const DELAYER_WANTS_SLOT: usize = 5;
const PASSING: usize = 6;
const HEAD: usize = 7;
// Words of each forker.
const WANTS_SLOT: usize = 0;
const WAITING: usize = 1;
const FORKER_WORDS: usize = 2;

/// The trusted tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board {
    slots: Shared<Record<SLOT_WORDS>>,
    words: Shared<AtomicU64>,
    /// The memory of both.
    trusted: Region,
    orders: BroadcastFlag,
    display: ConnStats,
}

/// What forkers and spares are to do. Handlers may look at it, too: it says whether a drain began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orders {
    /// Accept and serve.
    Serve = 0,
    /// Accept what is in the queue, then leave.
    Drain = 1,
}

/// What the process in a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Taken, nothing known yet.
    Fresh = 0,
    /// A spare or a worker that waits for a client.
    Waiting = 1,
    /// It serves a connection.
    Serving = 2,
}

/// A connection, as the process that accepted it wrote it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// Monotonic clock, nanoseconds.
    pub(crate) start: u64,
}

impl Board {
    /// Tables for so many connections at a time.
    pub(crate) fn new(slots: usize) -> io::Result<Board> {
        let head = HEAD + MAX_FORKERS * FORKER_WORDS + 2 * slots.div_ceil(64);
        let (slots_table, words, trusted) = Shared::pair(slots, head)?;
        let board = Board {
            slots: slots_table,
            words,
            trusted,
            orders: BroadcastFlag::new()?,
            display: ConnStats::new(slots)?,
        };
        for slot in 0..slots {
            board.free_word(slot).fetch_or(bit(slot), Relaxed);
        }
        Ok(board)
    }

    /// Leaves the trusted tables out of processes forked from here.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.trusted.exclude_from_fork()
    }

    /// Takes the trusted tables away from this process, which must not use this board any more.
    pub(crate) fn unmap(&self) -> io::Result<()> {
        self.trusted.unmap()
    }

    pub(crate) fn display(&self) -> ConnStats {
        self.display
    }

    pub(crate) fn orders(&self) -> Orders {
        if self.orders.readable().load(SeqCst) == 0 { Orders::Serve } else { Orders::Drain }
    }

    /// Supervisor only: the word is read-only elsewhere.
    pub(crate) fn order_drain(&self) {
        self.orders.writable().store(Orders::Drain as u64, SeqCst);
    }

    pub(crate) fn drain_flag(&self) -> BroadcastFlag {
        self.orders
    }

    // Taking and giving back slots.

    /// Takes a free slot for this forker, the lowest there is, so that few pages are in use.
    pub(crate) fn claim(&self, forker: usize) -> Option<usize> {
        for word in 0..self.slots.len().div_ceil(64) {
            let mut free = self.words[self.free_at() + word].load(SeqCst);
            while free != 0 {
                let slot = word * 64 + free.trailing_zeros() as usize;
                free &= free - 1;
                let owner = &self.slots[slot].words[OWNER];
                // The owner decides; the bitmap only says where to look. Who loses leaves the bit
                // to who won, else a slot that was given back meanwhile would be lost.
                if owner.compare_exchange(0, forker as u64 + 1, SeqCst, SeqCst).is_ok() {
                    self.free_word(slot).fetch_and(!bit(slot), SeqCst);
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Gives a slot back.
    pub(crate) fn release(&self, slot: usize) {
        let record = &self.slots[slot];
        record.pid.store(0, SeqCst);
        record.words[PHASE].store(Phase::Fresh as u64, SeqCst);
        record.words[OWNER].store(0, SeqCst);
        self.free_word(slot).fetch_or(bit(slot), SeqCst);
    }

    /// Gives back what a dead forker had taken and not yet handed to a process.
    pub(crate) fn release_unforked(&self, forker: usize) {
        for slot in 0..self.slots.len() {
            let record = &self.slots[slot];
            if record.words[OWNER].load(SeqCst) == forker as u64 + 1 && record.pid.load(SeqCst) == 0 {
                self.release(slot);
            }
        }
    }

    /// Where the kernel is to write the id of the process that gets this slot.
    pub(crate) fn pid_cell(&self, slot: usize) -> &AtomicI32 {
        &self.slots[slot].pid
    }

    pub(crate) fn pid(&self, slot: usize) -> i32 {
        self.slots[slot].pid.load(SeqCst)
    }

    /// The forker that took this slot.
    pub(crate) fn owner(&self, slot: usize) -> Option<usize> {
        (self.slots[slot].words[OWNER].load(SeqCst) as usize).checked_sub(1)
    }

    pub(crate) fn phase(&self, slot: usize) -> Phase {
        match self.slots[slot].words[PHASE].load(SeqCst) {
            2 => Phase::Serving,
            1 => Phase::Waiting,
            _ => Phase::Fresh,
        }
    }

    pub(crate) fn mark_idle(&self, slot: usize) {
        self.slots[slot].words[PHASE].store(Phase::Waiting as u64, SeqCst);
    }

    /// Touches what [`Board::begin`] will, so that a spare has its page faults before its client comes.
    pub(crate) fn prefault(&self, slot: usize) {
        let words = &self.slots[slot].words;
        words[START].store(now(), Relaxed);
        self.display.clear(slot);
        self.display.received(slot, 0);
        self.words[LAST_ID].fetch_add(0, Relaxed);
        self.orders();
    }

    /// Writes a new connection into a slot and numbers it.
    #[inline]
    pub(crate) fn begin(&self, slot: usize, peer: Peer) -> Entry {
        let id = self.words[LAST_ID].fetch_add(1, Relaxed) + 1;
        let entry = Entry { id, peer, start: now() };
        let words = &self.slots[slot].words;
        words[ID].store(id, Relaxed);
        words[START].store(entry.start, Relaxed);
        for (at, word) in peer.to_words().into_iter().enumerate() {
            words[PEER + at].store(word, Relaxed);
        }
        self.display.clear(slot);
        words[PHASE].store(Phase::Serving as u64, SeqCst);
        entry
    }

    /// Notes the inode of the socket in a slot, by which the kernel's table of sockets knows it.
    pub(crate) fn note_socket(&self, slot: usize, inode: u64) {
        self.slots[slot].words[SOCKET].store(inode, Relaxed);
    }

    /// Which cgroup of this slot is in use: the first, or the one after those in which something lives on.
    pub(crate) fn cgroup(&self, slot: usize) -> u64 {
        self.slots[slot].words[CGROUP].load(Relaxed)
    }

    /// Has the next connection in a slot get another cgroup. Supervisor only.
    pub(crate) fn change_cgroup(&self, slot: usize) {
        self.slots[slot].words[CGROUP].fetch_add(1, Relaxed);
    }

    pub(crate) fn socket(&self, slot: usize) -> u64 {
        self.slots[slot].words[SOCKET].load(Relaxed)
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> u64 {
        self.words[LAST_ID].load(Relaxed)
    }

    /// The connection in a slot that serves one.
    pub(crate) fn entry(&self, slot: usize) -> Entry {
        let word = |at: usize| self.slots[slot].words[at].load(Relaxed);
        Entry {
            id: word(ID),
            start: word(START),
            peer: Peer::from_words([word(PEER), word(PEER + 1), word(PEER + 2)]),
        }
    }

    /// The processes that serve other connections of the source of this slot's, or of its prefix, by their ids.
    /// Counted anew each time, so that no count can be wrong.
    pub(crate) fn other_pids_in_block(
        &self,
        slot: usize,
        aggregation: Aggregation,
    ) -> impl Iterator<Item = i32> + '_ {
        let own = self.block(slot, aggregation);
        own.into_iter()
            .flat_map(|own| self.serving_slots_in(own))
            .filter(move |other| *other != slot)
            .map(|other| self.pid(other))
    }

    /// The slots that serve connections of this block.
    pub(crate) fn serving_slots_in(&self, block: Block) -> impl Iterator<Item = usize> + '_ {
        self.taken().filter(move |slot| {
            self.phase(*slot) == Phase::Serving && self.block(*slot, block.aggregation) == Some(block)
        })
    }

    /// The block of each connection that is served.
    pub(crate) fn serving_blocks(&self, aggregation: Aggregation) -> impl Iterator<Item = Block> + '_ {
        let served = self.taken().filter(|slot| self.phase(*slot) == Phase::Serving);
        served.filter_map(move |slot| self.block(slot, aggregation))
    }

    fn block(&self, slot: usize, aggregation: Aggregation) -> Option<Block> {
        let word = |at: usize| self.slots[slot].words[at].load(Relaxed);
        block_of([word(PEER), word(PEER + 1), word(PEER + 2)], aggregation)
    }

    /// The slots that are taken, those that are served among them: a slot's bit goes before it is served, and comes back
    /// after. Most of a great table is free, and need not be looked at.
    fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len().div_ceil(64)).flat_map(move |word| {
            let first = word * 64;
            let exist = u64::MAX >> (64 - (self.slots.len() - first).min(64));
            let mut taken = !self.words[self.free_at() + word].load(SeqCst) & exist;
            std::iter::from_fn(move || {
                let slot = (taken != 0).then(|| first + taken.trailing_zeros() as usize)?;
                taken &= taken - 1;
                Some(slot)
            })
        })
    }

    /// How many slots are in this phase, of this forker or of all.
    pub(crate) fn count(&self, phase: Phase, forker: Option<usize>) -> usize {
        (0..self.slots.len())
            .filter(|&slot| self.phase(slot) == phase)
            .filter(|&slot| forker.is_none() || self.owner(slot) == forker)
            .count()
    }

    fn free_at(&self) -> usize {
        HEAD + MAX_FORKERS * FORKER_WORDS
    }

    fn changed_at(&self) -> usize {
        self.free_at() + self.slots.len().div_ceil(64)
    }

    fn free_word(&self, slot: usize) -> &AtomicU64 {
        &self.words[self.free_at() + slot / 64]
    }

    fn changed_word(&self, slot: usize) -> &AtomicU64 {
        &self.words[self.changed_at() + slot / 64]
    }

    fn forker_word(&self, forker: usize, which: usize) -> &AtomicU64 {
        &self.words[HEAD + forker * FORKER_WORDS + which]
    }
}

fn bit(slot: usize) -> u64 {
    1 << (slot % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::block::Aggregations;

    fn peer() -> Peer {
        Peer::Tcp("192.0.2.1:5".parse().expect("an address"))
    }

    #[test]
    fn as_many_slots_as_connections_and_no_more() {
        for limit in [1, 3, 64, 65, 200] {
            let board = Board::new(limit).expect("memory");
            let mut taken: Vec<usize> = (0..limit).map(|_| board.claim(0).expect("free")).collect();
            assert_eq!(board.claim(0), None);
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), limit);
            board.release(limit / 2);
            assert_eq!(board.claim(1), Some(limit / 2));
            assert_eq!(board.owner(limit / 2), Some(1));
        }
    }

    #[test]
    fn a_dead_forker_keeps_only_what_it_handed_on() {
        let board = Board::new(4).expect("memory");
        let handed = board.claim(0).expect("free");
        board.pid_cell(handed).store(77, SeqCst);
        board.claim(0).expect("free");
        board.claim(1).expect("free");
        board.release_unforked(0);
        assert_eq!(board.owner(handed), Some(0));
        assert_eq!(board.count(Phase::Fresh, Some(0)), 1);
        assert_eq!(
            [board.claim(2).is_some(), board.claim(2).is_some(), board.claim(2).is_some()],
            [true, true, false]
        );
    }

    #[test]
    fn connections_are_numbered_and_described() {
        let board = Board::new(2).expect("memory");
        let slot = board.claim(0).expect("free");
        let entry = board.begin(slot, peer());
        assert_eq!((entry.id, entry.peer), (1, peer()));
        assert_eq!(board.entry(slot), entry);
        assert_eq!(board.phase(slot), Phase::Serving);
        assert_eq!(board.begin(slot, Peer::Unix).id, 2);
    }

    #[test]
    fn connections_of_a_source_are_counted() {
        let board = Board::new(8).expect("memory");
        let begin = |text: &str| {
            let slot = board.claim(0).expect("free");
            board.begin(slot, Peer::Tcp(text.parse().expect("an address")));
            slot
        };
        let first = begin("192.0.2.1:1");
        let second = begin("192.0.2.1:2");
        let other = begin("192.0.2.2:1");
        let local = board.claim(0).expect("free");
        board.begin(local, Peer::Unix);
        let counts = |slot: usize| board.other_pids_in_block(slot, Aggregations::default().source).count();
        assert_eq!([first, second, other, local].map(counts), [1, 1, 0, 0]);
        assert_eq!(board.taken().count(), 4);
        board.release(second);
        assert_eq!(counts(first), 0);
    }

    /// Whatever order clients come, crash and go in, and forkers die in: what is counted is what is there.
    #[test]
    fn counts_are_right_in_every_order() {
        let mut state = 5u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        const SLOTS: usize = 70;
        let aggregations = Aggregations::default();
        let board = Board::new(SLOTS).expect("memory");
        let source = |number: usize| Peer::Tcp(([192, 0, number as u8 / 4, number as u8 % 4], 9).into());
        // What there is: slot, forker, source, and whether it has a process.
        let mut there: Vec<(usize, usize, usize, bool)> = Vec::new();
        for _ in 0..30_000 {
            match random(8) {
                0..4 => {
                    let (forker, number, has_process) = (random(3), random(8), random(4) > 0);
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
                    let (slot, ..) = there.swap_remove(random(there.len()));
                    board.release(slot);
                }
                _ if random(10) == 0 => {
                    let dead = random(3);
                    board.release_unforked(dead);
                    there.retain(|(_, forker, _, has_process)| *forker != dead || *has_process);
                }
                _ => {}
            }
            let number = random(8);
            for aggregation in [aggregations.source, aggregations.prefix] {
                let block = source(number).block(aggregation).expect("an address");
                let counted =
                    there.iter().filter(|(_, _, other, _)| source(*other).block(aggregation) == Some(block));
                assert_eq!(board.serving_slots_in(block).count(), counted.count());
            }
            assert_eq!(
                (board.taken().count(), board.count(Phase::Serving, None)),
                (there.len(), there.len())
            );
        }
        there.into_iter().for_each(|(slot, ..)| board.release(slot));
        assert_eq!((board.taken().count(), (0..SLOTS).filter_map(|_| board.claim(0)).count()), (0, SLOTS));
    }

    #[test]
    fn changes_are_told_once() {
        let board = Board::new(130).expect("memory");
        let mut changed = Vec::new();
        for slot in [0, 64, 129] {
            board.mark_changed(slot);
        }
        board.take_changed(&mut changed);
        assert_eq!(changed, [0, 64, 129]);
        board.take_changed(&mut changed);
        assert!(changed.is_empty());
        assert_eq!([board.claim_wakeup(), board.claim_wakeup()], [true, false]);
        board.wakeup_handled();
        assert!(board.claim_wakeup());
    }

    #[test]
    fn quotas_and_trouble() {
        let board = Board::new(1).expect("memory");
        board.set_drain_quota(2);
        assert_eq!([0; 3].map(|_| board.take_drain_quota()), [true, true, false]);
        assert_eq!([11, 11, 0, 11].map(|errno| board.set_trouble(errno)), [true, false, true, true]);
        board.set_idle(0, 1);
        assert_eq!(board.dec_idle(0), 0);
        assert_eq!(board.dec_idle(0), 0);
    }
}
