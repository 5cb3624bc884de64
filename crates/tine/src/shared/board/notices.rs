//! What the processes that have the board tell each other by it: what has changed, who waits for what, what is left to do.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{
    Board, DELAYER_WANTS_ROOM, DRAIN_QUOTA, HANDED_OVER, Orders, POKED, TROUBLE, WAITING, WANTS_NEWS,
    WANTS_ROOM, bit,
};

impl Board {
    // Telling the supervisor.

    /// Notes that the supervisor should look at a slot.
    pub(crate) fn mark_changed(&self, slot: usize) {
        self.changed_word(slot).fetch_or(bit(slot), SeqCst);
    }

    /// The slots noted since the last time.
    pub(crate) fn take_changed(&self, slots: &mut Vec<usize>) {
        slots.clear();
        for word in 0..self.slots.len().div_ceil(64) {
            let cell = &self.words[self.changed_at() + word];
            if cell.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = cell.swap(0, SeqCst);
            while bits != 0 {
                slots.push(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    /// Whether the supervisor still has to be woken; false if that was done and not yet answered.
    pub(crate) fn poke(&self) -> bool {
        self.words[POKED].swap(1, SeqCst) == 0
    }

    pub(crate) fn poke_answered(&self) {
        self.words[POKED].store(0, SeqCst);
    }

    /// Notes that the supervisor, which watches connections, knows of none and wants to be woken for the
    /// next.
    pub(crate) fn want_news(&self) {
        self.words[WANTS_NEWS].store(1, SeqCst);
    }

    /// Whether it wants to; once only.
    pub(crate) fn take_wants_news(&self) -> bool {
        self.words[WANTS_NEWS].load(SeqCst) != 0 && self.words[WANTS_NEWS].swap(0, SeqCst) != 0
    }

    // What forkers want.

    pub(crate) fn set_wants_room(&self, forker: usize, wants: bool) {
        self.forker_word(forker, WANTS_ROOM).store(u64::from(wants), SeqCst);
    }

    pub(crate) fn wants_room(&self, forker: usize) -> bool {
        self.forker_word(forker, WANTS_ROOM).load(SeqCst) != 0
    }

    /// Notes whether somebody waits at the delayer for the end of a connection.
    pub(crate) fn set_delayer_wants_room(&self, wants: bool) {
        self.words[DELAYER_WANTS_ROOM].store(u64::from(wants), SeqCst);
    }

    pub(crate) fn delayer_wants_room(&self) -> bool {
        self.words[DELAYER_WANTS_ROOM].load(SeqCst) != 0
    }

    /// Does something that nobody does once a drain has been answered: it is not begun after the drain, and who waits for
    /// [`Board::somebody_is_being_handed_over`] knows when it is over.
    pub(crate) fn hand_over_unless_draining(&self, send: impl FnOnce() -> bool) -> bool {
        self.words[HANDED_OVER].fetch_add(1, SeqCst);
        let sent = self.orders() == Orders::Serve && send();
        self.words[HANDED_OVER].fetch_sub(1, SeqCst);
        sent
    }

    pub(crate) fn somebody_is_being_handed_over(&self) -> bool {
        self.words[HANDED_OVER].load(SeqCst) != 0
    }

    /// Sets the number of waiting processes of a forker, a hint that its spares count down.
    pub(crate) fn set_waiting(&self, forker: usize, waiting: usize) {
        self.forker_word(forker, WAITING).store(waiting as u64, SeqCst);
    }

    /// One waiting process fewer; says how many are left, at least.
    pub(crate) fn one_waits_less(&self, forker: usize) -> usize {
        (self.forker_word(forker, WAITING).fetch_sub(1, SeqCst) as i64 - 1).max(0) as usize
    }

    /// One waiting process more; says how many there are.
    pub(crate) fn one_waits_more(&self, forker: usize) -> usize {
        (self.forker_word(forker, WAITING).fetch_add(1, SeqCst) as i64 + 1).max(0) as usize
    }

    /// How many clients of the queue are still to be accepted in a drain, over all forkers.
    pub(crate) fn set_drain_quota(&self, clients: u64) {
        self.words[DRAIN_QUOTA].store(clients, SeqCst);
    }

    /// Takes one of the quota; false if none is left.
    pub(crate) fn take_drain_quota(&self) -> bool {
        self.words[DRAIN_QUOTA].fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Notes trouble (an error number, 0 for none) with accepting or forking, for all forkers. True
    /// if that is news, so that a trouble that all have is logged once.
    pub(crate) fn set_trouble(&self, errno: i32) -> bool {
        self.words[TROUBLE].swap(errno as u64, SeqCst) != errno as u64
    }
}
