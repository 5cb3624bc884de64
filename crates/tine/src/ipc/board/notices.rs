//! Notes that the processes with the board leave for each other: changed slots, requests for
//! wakeups, quotas and failures.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{
    BACKLOG_DONE, Board, DELAYER_WANTS_SLOT, DRAIN_QUOTA, FAILURE, IDLE, NOTICE_REQUESTED, PASSING,
    SLOT_OFFERED, WAKEUP_PENDING, WANTS_SLOT, bit,
};

impl Board {
    // To the supervisor.

    /// Leaves a notice for the supervisor that a slot changed.
    pub(crate) fn mark_changed(&self, slot: usize) {
        self.changed_word(slot).fetch_or(bit(slot), SeqCst);
    }

    /// Takes the slots with a notice.
    pub(crate) fn take_changed(&self, slots: &mut Vec<usize>) {
        slots.clear();
        for word in 0..self.slot_count().div_ceil(64) {
            let cell = self.word(self.changed_at() + word);
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

    /// Claims the wakeup of the supervisor: false if one is pending already.
    pub(crate) fn claim_wakeup(&self) -> bool {
        self.word(WAKEUP_PENDING).swap(1, SeqCst) == 0
    }

    /// Ends a pending wakeup, before the notices are taken.
    pub(crate) fn wakeup_handled(&self) {
        self.word(WAKEUP_PENDING).store(0, SeqCst);
    }

    /// Requests a wakeup for the next connection: the supervisor monitors connections and knows of
    /// none.
    pub(crate) fn request_notice(&self) {
        self.word(NOTICE_REQUESTED).store(1, SeqCst);
    }

    /// Whether that request is pending.
    pub(crate) fn is_notice_requested(&self) -> bool {
        self.word(NOTICE_REQUESTED).load(SeqCst) != 0
    }

    /// Takes that request, once.
    pub(crate) fn take_notice_request(&self) -> bool {
        self.word(NOTICE_REQUESTED).load(SeqCst) != 0 && self.word(NOTICE_REQUESTED).swap(0, SeqCst) != 0
    }

    // To the supervisor and the forkers.

    /// Notes whether a forker waits for a free slot.
    pub(crate) fn set_wants_slot(&self, forker: usize, wants: bool) {
        self.forker_word(forker, WANTS_SLOT).store(u64::from(wants), SeqCst);
    }

    pub(crate) fn wants_slot(&self, forker: usize) -> bool {
        self.forker_word(forker, WANTS_SLOT).load(SeqCst) != 0
    }

    /// Notes that a slot was released without a connection, while a forker waited for one.
    pub(crate) fn offer_slot(&self) {
        self.word(SLOT_OFFERED).store(1, SeqCst);
    }

    /// Takes that note, once.
    pub(crate) fn take_slot_offer(&self) -> bool {
        self.word(SLOT_OFFERED).swap(0, SeqCst) != 0
    }

    /// Notes whether the delayer waits for the end of a connection.
    pub(crate) fn set_delayer_wants_slot(&self, wants: bool) {
        self.word(DELAYER_WANTS_SLOT).store(u64::from(wants), SeqCst);
    }

    pub(crate) fn delayer_wants_slot(&self) -> bool {
        self.word(DELAYER_WANTS_SLOT).load(SeqCst) != 0
    }

    /// Begins to accept a client that may have to be passed to the proxy reader. Before the drain
    /// quota is taken: once the quota is used up and [`Board::is_passing`] is false, no more client
    /// is passed.
    pub(crate) fn begin_passing(&self) {
        self.word(PASSING).fetch_add(1, SeqCst);
    }

    /// Ends what [`Board::begin_passing`] began.
    pub(crate) fn end_passing(&self) {
        self.word(PASSING).fetch_sub(1, SeqCst);
    }

    /// Passes a client to the delayer with `send`, unless the server drains. The delayer sees by
    /// [`Board::is_passing`] when no forker that began before the drain is still sending.
    pub(crate) fn pass_unless_draining(&self, send: impl FnOnce() -> bool) -> bool {
        self.word(PASSING).fetch_add(1, SeqCst);
        let sent = !self.is_draining() && send();
        self.word(PASSING).fetch_sub(1, SeqCst);
        sent
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.word(PASSING).load(SeqCst) != 0
    }

    /// Notes that a forker accepts no more client in this drain. True if this holds for all of this
    /// number of forkers.
    pub(crate) fn set_backlog_done(&self, forker: usize, forkers: usize) -> bool {
        let done = self.word(BACKLOG_DONE).fetch_or(bit(forker), SeqCst) | bit(forker);
        (0..forkers).all(|forker| done & bit(forker) != 0)
    }

    /// Forgets that note: the forker is started again.
    pub(crate) fn forget_backlog_done(&self, forker: usize) {
        self.word(BACKLOG_DONE).fetch_and(!bit(forker), SeqCst);
    }

    /// Sets the number of idle processes of a forker, a hint that its spares count down.
    pub(crate) fn set_idle(&self, forker: usize, idle: usize) {
        self.forker_word(forker, IDLE).store(idle as u64, SeqCst);
    }

    /// Counts one idle process less; returns how many are left, at least.
    pub(crate) fn dec_idle(&self, forker: usize) -> usize {
        (self.forker_word(forker, IDLE).fetch_sub(1, SeqCst) as i64 - 1).max(0) as usize
    }

    /// Counts one idle process more; returns how many there are.
    pub(crate) fn inc_idle(&self, forker: usize) -> usize {
        (self.forker_word(forker, IDLE).fetch_add(1, SeqCst) as i64 + 1).max(0) as usize
    }

    /// Sets the number of clients of the backlog to accept in a drain, over all forkers.
    pub(crate) fn set_drain_quota(&self, clients: u64) {
        self.word(DRAIN_QUOTA).store(clients, SeqCst);
    }

    /// What is left of that quota.
    pub(crate) fn drain_quota(&self) -> u64 {
        self.word(DRAIN_QUOTA).load(SeqCst)
    }

    /// Gives one of that quota back: its listener had no client.
    pub(crate) fn return_drain_quota(&self) {
        self.word(DRAIN_QUOTA).fetch_add(1, SeqCst);
    }

    /// Takes one of that quota; false if none is left.
    pub(crate) fn take_drain_quota(&self) -> bool {
        self.word(DRAIN_QUOTA).fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Notes the error number (0 for none) of a failing accept or fork, for all forkers. True if it
    /// is another one than before, so that a failure of all forkers is logged once.
    pub(crate) fn set_failure(&self, errno: i32) -> bool {
        self.word(FAILURE).swap(errno as u64, SeqCst) != errno as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;

    #[test]
    fn a_notice_is_taken_once() {
        let board = board(130);
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
    fn the_backlog_is_done_when_every_forker_is() {
        let board = board(1);
        assert_eq!([0, 2, 0, 1].map(|forker| board.set_backlog_done(forker, 3)), [false, false, false, true]);
        board.forget_backlog_done(1);
        assert!(!board.set_backlog_done(63, 3));
        assert!(board.set_backlog_done(1, 3));
    }

    #[test]
    fn quotas_and_failures() {
        let board = board(1);
        board.set_drain_quota(2);
        assert_eq!([0; 3].map(|_| board.take_drain_quota()), [true, true, false]);
        assert_eq!([11, 11, 0, 11].map(|errno| board.set_failure(errno)), [true, false, true, true]);
        board.set_idle(0, 1);
        assert_eq!(board.dec_idle(0), 0);
        assert_eq!(board.dec_idle(0), 0);
    }
}
