//! Frees slots, and wakes the processes that wait for one.

use super::Supervisor;
use crate::connection::handler::Handler;
use crate::ipc::board::SlotPhase;
use crate::ipc::board::places::PlaceHolder;
use crate::system::cgroup::Cgroup;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Releases a slot and wakes the forkers that wait for one, or that miss a spare now.
    pub(super) fn free_slot(&mut self, slot: usize) {
        if let Some(cgroup) = self.cgroup(slot).filter(Cgroup::is_in_use) {
            // The next connection in this slot must not share it with what lives on: it would pay
            // for its memory, too.
            self.memory.board.change_cgroup(slot);
            self.children.populated_cgroups.push(cgroup);
        }
        let board = &self.memory.board;
        board.return_place(PlaceHolder::Spare(slot));
        let was_idle = board.phase(slot) == SlotPhase::Idle;
        let owner = board.owner(slot);
        if !self.release_slot(slot) {
            return;
        }
        let board = &self.memory.board;
        for forker in 0..self.channels.controls.len() {
            let misses_a_spare = was_idle && owner == Some(forker);
            if misses_a_spare || board.wants_slot(forker) {
                board.set_wants_slot(forker, false);
                self.wake_forker(forker);
            }
        }
    }

    /// Wakes the forkers that wait for a slot, if one was released without a connection. That
    /// happens where proxies speak for clients.
    pub(super) fn offer_free_slots(&self) {
        let board = &self.memory.board;
        if self.channels.proxy_reader.is_none() || !board.take_slot_offer() {
            return;
        }
        self.wake_waiting_forkers();
    }

    /// Wakes the forkers that wait for a slot.
    pub(super) fn wake_waiting_forkers(&self) {
        let board = &self.memory.board;
        for forker in (0..self.channels.controls.len()).filter(|forker| board.wants_slot(*forker)) {
            board.set_wants_slot(forker, false);
            self.wake_forker(forker);
        }
    }

    pub(super) fn wake_delayer(&self) {
        let delayer = self.channels.delayer.as_ref();
        if let Some(delayer) = delayer.filter(|_| self.memory.board.delayer_wants_slot()) {
            delayer.wakeup.wake();
        }
    }
}
