//! Counts the connections that supervisors of older generations serve, as these tell.

use rustix::event::PollFd;

use super::Supervisor;
use super::older::OlderEvent;
use crate::connection::handler::Handler;
use crate::ipc::handover::state::{OlderConnection, OlderEnd};

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Enters a connection that an older supervisor serves.
    pub(super) fn hold_older(&mut self, connection: OlderConnection, generation: usize) {
        // There are as many slots as the older generations had connections. A client that waited
        // there may begin when newer ones have taken them.
        let board = &self.memory.board;
        self.older.enter(generation, connection, |connection| board.hold_older(connection));
    }

    /// Whether older supervisors tell this one what happens. From the state on, a successor reads
    /// their lineages, which are the same sockets: each message has one reader.
    fn hears_older(&self) -> bool {
        !self.handovers.has_handed()
    }

    /// The lineages to wait for.
    pub(super) fn poll_older(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.older.poll().filter(|_| self.hears_older())
    }

    /// Handles what older supervisors have said.
    pub(super) fn check_older(&mut self) {
        if !self.hears_older() {
            return;
        }
        let mut gone = Vec::new();
        for (generation, event) in self.older.events() {
            match event {
                OlderEvent::Began(connection) => self.hold_older(connection, generation),
                OlderEvent::Ended(end) => self.older_ended(generation, end),
                OlderEvent::Gone => {
                    for (id, slot) in self.older.take_all(generation) {
                        self.release_older(id, slot);
                    }
                    gone.push(generation);
                }
            }
        }
        for generation in gone.into_iter().rev() {
            self.older.forget(generation);
        }
    }

    fn older_ended(&mut self, generation: usize, end: OlderEnd) {
        let OlderEnd { id, fault, record } = end;
        // The record of a program follows when its bytes are known: its slot is free by then.
        if let Some(record) = record.filter(|_| self.controllers.are_possible()) {
            self.history.record_end(record);
        }
        let Some(slot) = self.older.take(generation, id) else { return };
        let peer = self.memory.board.entry(slot).peer;
        if let Some(fault) = fault
            && let Some(time) = self.memory.admission.charge(peer, fault)
        {
            self.log.penalty(&peer, fault.name(), time);
            self.tell_penalty(peer, time);
        }
        self.release_older(id, slot);
    }

    fn release_older(&mut self, id: u64, slot: usize) {
        self.killings.take(slot, id);
        self.free_slot(slot);
        self.wake_delayer();
    }
}
