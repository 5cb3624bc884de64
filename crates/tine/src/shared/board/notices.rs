//! What the processes that have the board tell each other by it: what has changed, who waits for what, what is left to do.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{
    Board, DELAYER_WANTS_SLOT, DRAIN_QUOTA, NOTICE_REQUESTED, Orders, PASSING, TROUBLE, WAITING,
    WAKEUP_PENDING, WANTS_SLOT, bit,
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
    pub(crate) fn claim_wakeup(&self) -> bool {
        self.words[WAKEUP_PENDING].swap(1, SeqCst) == 0
    }

    pub(crate) fn wakeup_handled(&self) {
        self.words[WAKEUP_PENDING].store(0, SeqCst);
    }

    /// Notes that the supervisor, which watches connections, knows of none and wants to be woken for the
    /// next.
    pub(crate) fn request_notice(&self) {
        self.words[NOTICE_REQUESTED].store(1, SeqCst);
    }

    /// Whether it wants to; once only.
    pub(crate) fn take_notice_request(&self) -> bool {
        self.words[NOTICE_REQUESTED].load(SeqCst) != 0 && self.words[NOTICE_REQUESTED].swap(0, SeqCst) != 0
    }

    // What forkers want.

    pub(crate) fn set_wants_slot(&self, forker: usize, wants: bool) {
        self.forker_word(forker, WANTS_SLOT).store(u64::from(wants), SeqCst);
    }

    pub(crate) fn wants_slot(&self, forker: usize) -> bool {
        self.forker_word(forker, WANTS_SLOT).load(SeqCst) != 0
    }

    /// Notes whether somebody waits at the delayer for the end of a connection.
    pub(crate) fn set_delayer_wants_slot(&self, wants: bool) {
        self.words[DELAYER_WANTS_SLOT].store(u64::from(wants), SeqCst);
    }

    pub(crate) fn delayer_wants_slot(&self) -> bool {
        self.words[DELAYER_WANTS_SLOT].load(SeqCst) != 0
    }

    /// Does something that nobody does once a drain has been answered: it is not begun after the drain, and who waits for
    /// [`Board::is_passing`] knows when it is over.
    pub(crate) fn pass_unless_draining(&self, send: impl FnOnce() -> bool) -> bool {
        self.words[PASSING].fetch_add(1, SeqCst);
        let sent = self.orders() == Orders::Serve && send();
        self.words[PASSING].fetch_sub(1, SeqCst);
        sent
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.words[PASSING].load(SeqCst) != 0
    }

    /// Sets the number of waiting processes of a forker, a hint that its spares count down.
    pub(crate) fn set_idle(&self, forker: usize, waiting: usize) {
        self.forker_word(forker, WAITING).store(waiting as u64, SeqCst);
    }

    /// One waiting process fewer; says how many are left, at least.
    pub(crate) fn dec_idle(&self, forker: usize) -> usize {
        (self.forker_word(forker, WAITING).fetch_sub(1, SeqCst) as i64 - 1).max(0) as usize
    }

    /// One waiting process more; says how many there are.
    pub(crate) fn inc_idle(&self, forker: usize) -> usize {
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
