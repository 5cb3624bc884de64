//! Changes the maximum of connections while the server serves.
//!
//! To lower it, the supervisor pauses accepting for a moment: then every slot is free or serves a
//! connection. It withdraws the free ones, as many as are too many, and after the pause each one
//! that a connection leaves, until there are no more than the new maximum. No connection is ended,
//! and no client is admitted beyond the maximum.

use std::time::{Duration, Instant};

use super::Supervisor;
use super::capacity::PendingMaximum;
use crate::connection::handler::Handler;
use crate::ipc::setting::{Refusal, Setting, SettingValue};
use crate::ipc::steering::OrderAnswer;

/// The time in which each forker stops accepting. It takes milliseconds, unless one is stopped.
const PAUSE_WAIT: Duration = Duration::from_secs(3);

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Changes the maximum of connections. `None`: the answer follows, once it is in force.
    pub(super) fn set_maximum(&mut self, pid: i32, maximum: SettingValue) -> Option<OrderAnswer> {
        if self.capacity.is_pending() {
            return Some(OrderAnswer::Refused(Refusal::Busy));
        }
        if maximum.count() < Some(self.settings.max_connections) {
            let until = Instant::now() + PAUSE_WAIT;
            self.capacity.pending = Some(PendingMaximum { pid, maximum, until });
            self.stop_accepting();
            self.check_maximum();
            return None;
        }
        self.settings.store(Setting::MaxConnections, maximum);
        for _ in 0..self.capacity.surplus(self.settings.max_connections) {
            self.memory.board.put_back();
            self.capacity.withdrawn -= 1;
        }
        self.wake_waiting_forkers();
        Some(OrderAnswer::Done(1))
    }

    /// Puts a lower maximum in force, once no process accepts.
    pub(super) fn check_maximum(&mut self) {
        let Some(PendingMaximum { pid, maximum, until }) = self.capacity.pending else { return };
        let answer = if self.has_stopped_accepting() {
            self.settings.store(Setting::MaxConnections, maximum);
            let missing = self.capacity.missing(self.settings.max_connections);
            let withdrawn = self.memory.board.withdraw_free(missing);
            self.capacity.withdrawn += withdrawn;
            OrderAnswer::Done(1)
        } else if until <= Instant::now() {
            OrderAnswer::Refused(Refusal::NoPause)
        } else {
            return;
        };
        self.capacity.pending = None;
        if !self.capacity.is_paused {
            self.accept_again();
        }
        if let Some(served) = self.controllers.get_mut(pid) {
            served.orders.answer(answer);
        }
    }

    /// Releases a slot, or withdraws it where there are too many. True if it is free. One that a
    /// connection of an older generation needs is passed to that first.
    pub(super) fn release_slot(&mut self, slot: usize) -> bool {
        if let Some(older) = self.older.give(slot) {
            self.memory.board.pass_to_older(slot, &older);
            return false;
        }
        let withdraws = self.capacity.missing(self.settings.max_connections) > 0;
        match withdraws {
            true => {
                self.memory.board.withdraw(slot);
                self.capacity.withdrawn += 1;
            }
            false => self.memory.board.release(slot),
        }
        !withdraws
    }
}
