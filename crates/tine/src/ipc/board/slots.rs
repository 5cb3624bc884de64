//! Slots of the board: claiming and releasing them, and the connection that each serves.

use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::waited::{waited_from_word, waited_to_word, waited_word};
use super::{
    Board, CGROUP, Entry, ID, LAST_ID, MAX_FORKERS, OWNER, PEER, PHASE, SOCKET, START, SlotPhase, WAITED,
    WARM, bit,
};
use crate::ipc::handover::state::OlderConnection;
use crate::log::Waited;
use crate::net::accept::Delay;
use crate::net::peer::Peer;
use crate::net::proxied::{PROXIED_WORDS, Proxied};
use crate::system::clock::now;

/// The owner of a slot that no forker can claim; others are one more than the number of a forker.
const WITHDRAWN: u64 = MAX_FORKERS as u64 + 1;

/// The owner of a slot whose connection an older generation of the server serves: it counts, and is
/// no process of this one.
const OLDER: u64 = MAX_FORKERS as u64 + 2;

impl Board {
    /// Claims the lowest free slot for a forker, so that few pages are in use. Runs in forkers.
    pub(crate) fn claim(&self, forker: usize) -> Option<usize> {
        self.claim_as(forker as u64 + 1)
    }

    #[inline(always)]
    fn claim_as(&self, as_owner: u64) -> Option<usize> {
        for word in 0..self.slot_count().div_ceil(64) {
            let mut free = self.word(self.free_at() + word).load(SeqCst);
            while free != 0 {
                let slot = word * 64 + free.trailing_zeros() as usize;
                free &= free - 1;
                let owner = &self.record(slot).words[OWNER];
                // The owner decides; the bitmap is a hint. A forker that loses must not clear the
                // bit: it would lose a slot that was released in the meantime.
                if owner.compare_exchange(0, as_owner, SeqCst, SeqCst).is_ok() {
                    self.free_word(slot).fetch_and(!bit(slot), SeqCst);
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Releases a slot.
    pub(crate) fn release(&self, slot: usize) {
        let record = self.record(slot);
        record.pid.store(0, SeqCst);
        self.set_phase(slot, SlotPhase::Claimed);
        record.words[OWNER].store(0, SeqCst);
        self.free_word(slot).fetch_or(bit(slot), SeqCst);
    }

    /// The slots that a dead forker had claimed without creating a process. Runs in the supervisor,
    /// which releases them.
    pub(crate) fn unforked(&self, forker: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.slot_count()).filter(move |slot| self.owner(*slot) == Some(forker) && self.pid(*slot) == 0)
    }

    // Withdrawn slots. Only the supervisor withdraws slots and puts them back.

    /// Withdraws a slot that a process has left, so that no forker can claim it.
    pub(crate) fn withdraw(&self, slot: usize) {
        let record = self.record(slot);
        record.pid.store(0, SeqCst);
        self.set_phase(slot, SlotPhase::Claimed);
        record.words[OWNER].store(WITHDRAWN, SeqCst);
    }

    /// Withdraws the highest free slots, at most this many. Returns their number.
    pub(crate) fn withdraw_free(&self, most: usize) -> usize {
        let withdraws = |slot: &usize| {
            let owner = &self.record(*slot).words[OWNER];
            let is_free = owner.compare_exchange(0, WITHDRAWN, SeqCst, SeqCst).is_ok();
            if is_free {
                self.free_word(*slot).fetch_and(!bit(*slot), SeqCst);
            }
            is_free
        };
        // Lazy: no slot is withdrawn beyond the last one that is taken.
        (0..self.slot_count()).rev().filter(withdraws).take(most).count()
    }

    /// Puts the lowest withdrawn slot back, if there is one.
    pub(crate) fn put_back(&self) {
        let is_withdrawn = |slot: &usize| self.record(*slot).words[OWNER].load(SeqCst) == WITHDRAWN;
        if let Some(slot) = (0..self.slot_count()).find(is_withdrawn) {
            self.release(slot);
        }
    }

    // Connections of older generations. Only the supervisor enters them, and releases their slots.

    /// Enters a connection of an older generation; `None` if no slot is free.
    pub(crate) fn hold_older(&self, older: &OlderConnection) -> Option<usize> {
        let slot = self.claim_as(OLDER)?;
        self.enter_older(slot, older);
        Some(slot)
    }

    /// Enters a connection of an older generation into a slot that another connection has left.
    pub(crate) fn pass_to_older(&self, slot: usize, older: &OlderConnection) {
        self.record(slot).words[OWNER].store(OLDER, SeqCst);
        self.enter_older(slot, older);
    }

    fn enter_older(&self, slot: usize, older: &OlderConnection) {
        let record = self.record(slot);
        record.words[ID].store(older.id, Relaxed);
        record.words[START].store(older.start, Relaxed);
        record.words[SOCKET].store(0, Relaxed);
        record.words[WAITED].store(waited_word(older.waited), Relaxed);
        self.enter_peer(slot, older.peer);
        self.enter_proxied(slot, older.proxied.as_ref());
        record.pid.store(older.pid, SeqCst);
        self.set_phase(slot, SlotPhase::Serving);
    }

    /// Whether an older generation serves the connection in a slot.
    pub(crate) fn is_older(&self, slot: usize) -> bool {
        self.record(slot).words[OWNER].load(SeqCst) == OLDER
    }

    /// Goes on with the numbers of connections after this one.
    pub(crate) fn number_after(&self, last_id: u64) {
        self.word(LAST_ID).fetch_max(last_id, Relaxed);
    }

    /// The cell into which the kernel writes the id of the process that gets this slot.
    pub(crate) fn pid_cell(&self, slot: usize) -> &AtomicI32 {
        &self.record(slot).pid
    }

    /// The process in a slot; 0 if there is none yet.
    pub(crate) fn pid(&self, slot: usize) -> i32 {
        self.record(slot).pid.load(SeqCst)
    }

    /// The forker that claimed a slot; `None` if the slot is free or withdrawn.
    pub(crate) fn owner(&self, slot: usize) -> Option<usize> {
        let owner = (self.record(slot).words[OWNER].load(SeqCst) as usize).checked_sub(1);
        owner.filter(|forker| *forker < MAX_FORKERS)
    }

    pub(crate) fn phase(&self, slot: usize) -> SlotPhase {
        match self.record(slot).words[PHASE].load(SeqCst) {
            1 => SlotPhase::Idle,
            2 => SlotPhase::Serving,
            3 => SlotPhase::Deciding,
            _ => SlotPhase::Claimed,
        }
    }

    fn set_phase(&self, slot: usize, phase: SlotPhase) {
        self.record(slot).words[PHASE].store(phase as u64, SeqCst);
    }

    /// Marks a slot as that of a process which waits for a client.
    pub(crate) fn mark_idle(&self, slot: usize) {
        self.set_phase(slot, SlotPhase::Idle);
    }

    /// Enters a client that is being admitted, so that it counts for the limits of its source and
    /// prefix.
    pub(crate) fn reserve(&self, slot: usize, peer: Peer) {
        self.enter_peer(slot, peer);
        self.set_phase(slot, SlotPhase::Deciding);
    }

    /// Enters a new connection into a slot and numbers it.
    #[inline]
    pub(crate) fn begin(&self, slot: usize, peer: Peer) -> Entry {
        let id = self.word(LAST_ID).fetch_add(1, Relaxed) + 1;
        let entry = Entry { id, peer, start: now() };
        let words = &self.record(slot).words;
        words[ID].store(id, Relaxed);
        words[START].store(entry.start, Relaxed);
        words[WARM].store(0, Relaxed);
        self.enter_peer(slot, peer);
        self.set_phase(slot, SlotPhase::Serving);
        entry
    }

    #[inline]
    fn enter_peer(&self, slot: usize, peer: Peer) {
        let words = &self.record(slot).words;
        for (at, word) in peer.to_words().into_iter().enumerate() {
            words[PEER + at].store(word, Relaxed);
        }
    }

    /// Touches the memory that a spare uses for its client, so that the page faults come before the
    /// client. It is written to: at a read the kernel maps the pages around, too, and the client
    /// waits for all of them to be unmapped.
    #[inline]
    pub(crate) fn prefault(&self, slot: usize) {
        self.word(LAST_ID).fetch_add(std::hint::black_box(0), Relaxed);
        self.record(slot).words[START].store(now(), Relaxed);
        std::hint::black_box(self.is_draining());
    }

    /// The connection in a slot that serves one.
    pub(crate) fn entry(&self, slot: usize) -> Entry {
        let word = |at: usize| self.record(slot).words[at].load(Relaxed);
        Entry { id: word(ID), start: word(START), peer: Peer::from_words(self.peer_words(slot)) }
    }

    pub(super) fn peer_words(&self, slot: usize) -> [u64; 3] {
        [PEER, PEER + 1, PEER + 2].map(|at| self.record(slot).words[at].load(Relaxed))
    }

    /// Enters what is known of a proxied client, or that the client of the slot is not proxied.
    #[inline]
    pub(crate) fn enter_proxied(&self, slot: usize, proxied: Option<&Proxied>) {
        let Some(first) = self.proxied_at(slot) else { return };
        for (at, word) in Proxied::to_words(proxied).into_iter().enumerate() {
            self.word(first + at).store(word, Relaxed);
        }
    }

    /// What is known of the client in a slot, if it is proxied.
    pub(crate) fn proxied(&self, slot: usize) -> Option<Proxied> {
        let first = self.proxied_at(slot)?;
        let words: [u64; PROXIED_WORDS] = std::array::from_fn(|at| self.word(first + at).load(Relaxed));
        Proxied::from_words(words)
    }

    /// Notes how long the client of a slot was in the delay queue; no other client was.
    #[inline]
    pub(crate) fn enter_delay(&self, slot: usize, delay: Option<&Delay>) {
        let word = delay.map_or(0, |delay| waited_to_word(now().saturating_sub(delay.since), delay.reason));
        self.record(slot).words[WAITED].store(word, Relaxed);
    }

    /// How long the client in a slot was in the delay queue, if it was.
    pub(crate) fn waited(&self, slot: usize) -> Option<Waited> {
        waited_from_word(self.record(slot).words[WAITED].load(Relaxed))
    }

    /// Notes the inode of the socket in a slot, which identifies it in the kernel's table of
    /// sockets.
    pub(crate) fn set_socket(&self, slot: usize, inode: u64) {
        self.record(slot).words[SOCKET].store(inode, Relaxed);
    }

    /// The inode of the socket in a slot.
    pub(crate) fn socket(&self, slot: usize) -> u64 {
        self.record(slot).words[SOCKET].load(Relaxed)
    }

    /// The number of the cgroup in use for a slot: it grows when processes outlive their
    /// connection.
    pub(crate) fn cgroup(&self, slot: usize) -> u64 {
        self.record(slot).words[CGROUP].load(Relaxed)
    }

    /// Gives the next connection in a slot another cgroup. Runs in the supervisor.
    pub(crate) fn change_cgroup(&self, slot: usize) {
        self.record(slot).words[CGROUP].fetch_add(1, Relaxed);
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.word(LAST_ID).load(Relaxed)
    }

    /// Whether a spare waits for a client, or decides about one. Each slot is read once: a spare
    /// that is seen to serve a connection does not wait again.
    pub(crate) fn has_waiting_spares(&self) -> bool {
        let waits = |slot| matches!(self.phase(slot), SlotPhase::Idle | SlotPhase::Deciding);
        (0..self.slot_count()).any(waits)
    }

    /// The number of slots in a phase, of one forker or of all.
    pub(crate) fn count(&self, phase: SlotPhase, forker: Option<usize>) -> usize {
        (0..self.slot_count())
            .filter(|&slot| self.phase(slot) == phase)
            .filter(|&slot| forker.is_none() || self.owner(slot) == forker)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;
    use crate::admission::reason::Reason;

    fn peer() -> Peer {
        Peer::Tcp("192.0.2.1:5".parse().expect("an address"))
    }

    #[test]
    fn a_board_has_as_many_slots_as_connections() {
        for limit in [1, 3, 64, 65, 200] {
            let board = board(limit);
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
    fn slots_of_a_dead_forker_without_a_process_are_released() {
        let board = board(4);
        let forked = board.claim(0).expect("free");
        board.pid_cell(forked).store(77, SeqCst);
        board.claim(0).expect("free");
        board.claim(1).expect("free");
        board.unforked(0).collect::<Vec<_>>().into_iter().for_each(|slot| board.release(slot));
        assert_eq!(board.owner(forked), Some(0));
        assert_eq!(board.count(SlotPhase::Claimed, Some(0)), 1);
        assert_eq!(
            [board.claim(2).is_some(), board.claim(2).is_some(), board.claim(2).is_some()],
            [true, true, false]
        );
    }

    #[test]
    fn withdrawn_slots_are_not_claimed_until_they_are_put_back() {
        let board = board(70);
        let served = board.claim(0).expect("free");
        assert_eq!([board.withdraw_free(0), board.withdraw_free(66), board.withdraw_free(1)], [0, 66, 1]);
        let claimed = [board.claim(0), board.claim(1), board.claim(0)];
        assert_eq!((served, claimed), (0, [Some(1), Some(2), None]));
        assert_eq!(board.withdraw_free(1), 0);
        board.withdraw(served);
        assert_eq!((board.owner(served), board.claim(0)), (None, None));
        board.release(1);
        assert_eq!(board.claim(0), Some(1));
        assert!(!board.has_waiting_spares());
        board.reserve(1, peer());
        assert!(board.has_waiting_spares());
        board.mark_idle(1);
        assert!(board.has_waiting_spares());
        board.begin(1, peer());
        assert!(!board.has_waiting_spares());
        (0..68).for_each(|_| board.put_back());
        assert_eq!((0..70).filter_map(|_| board.claim(0)).count(), 68);
        board.put_back();
        assert_eq!(board.claim(0), None);
    }

    #[test]
    fn connections_of_older_generations_hold_slots() {
        let board = board(3);
        let proxied = Some(Proxied { proxy: peer(), local: None, header: 7 });
        let older = |id| OlderConnection {
            id,
            pid: 77,
            peer: peer(),
            proxied,
            start: 5,
            waited: None,
            generation: 0,
        };
        let held = [board.hold_older(&older(8)), board.hold_older(&older(9))];
        assert_eq!(held, [Some(0), Some(1)]);
        board.number_after(9);
        board.number_after(3);
        let own = board.claim(0).expect("the last slot");
        assert_eq!((board.claim(0), board.hold_older(&older(10))), (None, None));
        assert_eq!(board.begin(own, peer()).id, 10);
        assert_eq!(board.entry(1), Entry { id: 9, peer: peer(), start: 5 });
        assert_eq!((board.pid(1), board.proxied(1), board.owner(1)), (77, proxied, None));
        assert_eq!([board.is_older(1), board.is_older(own)], [true, false]);
        assert_eq!((board.count(SlotPhase::Serving, None), board.unforked(0).count()), (3, 1));
        board.release(1);
        assert_eq!((board.is_older(1), board.claim(1)), (false, Some(1)));
    }

    #[test]
    fn each_slot_has_its_proxied_client() {
        let board = board(130);
        let proxied = |header| Proxied { proxy: peer(), local: None, header };
        for slot in [0, 63, 129] {
            board.enter_proxied(slot, Some(&proxied(slot as u32 + 1)));
        }
        board.enter_proxied(63, None);
        assert_eq!(
            [0, 63, 129].map(|slot| board.proxied(slot)),
            [Some(proxied(1)), None, Some(proxied(130))]
        );
        assert_eq!(board.proxied(128), None);
        assert!((0..130).filter_map(|_| board.claim(0)).count() == 130, "the bitmaps are untouched");
    }

    #[test]
    fn a_stay_in_the_delay_queue_is_noted_with_its_reason() {
        let board = board(2);
        assert_eq!(board.waited(1), None);
        let since = now() - 3_000_000_000;
        board.enter_delay(1, Some(&Delay { since, deadline: u64::MAX, reason: Reason::Rate.index() }));
        let waited = board.waited(1).expect("a delay");
        assert_eq!((waited.limit, waited.time.as_secs()), ("rate", 3));
        board.enter_delay(1, None);
        assert_eq!(board.waited(1), None);
    }

    #[test]
    fn connections_are_numbered_and_entered() {
        let board = board(2);
        let slot = board.claim(0).expect("free");
        let entry = board.begin(slot, peer());
        assert_eq!((entry.id, entry.peer), (1, peer()));
        assert_eq!(board.entry(slot), entry);
        assert_eq!(board.phase(slot), SlotPhase::Serving);
        assert_eq!(board.begin(slot, Peer::Unix(None)).id, 2);
    }
}
