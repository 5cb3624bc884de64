//! The older side of a hand-over, in a supervisor: it starts the next generation, where it is the
//! first process of the server, hands the state over, and leaves accepting to it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;

use tine_sys::process::exit_now;

use super::Supervisor;
use super::state::{ServerEvent, ServerState};
use super::succession::{SuccessionAction, SuccessionEvent};
use crate::connection::handler::Handler;
use crate::error::{next_move, reason};
use crate::ipc::board::SlotPhase;
use crate::ipc::handover::lineage::{Lineage, LineageMessage};
use crate::ipc::handover::link::Item;
use crate::ipc::handover::state::OlderConnection;
use crate::ipc::steering::Order;
use crate::net::listener::Listener;
use crate::processes::bus_link::BusLink;
use crate::processes::handover::generations::{GenerationEvent, Generations};
use crate::processes::handover::report::HandoverReport;
use crate::processes::handover::{Binary, Failure, lineage_item, socket_item};
use crate::processes::observer::Observer;
use crate::system::orphans;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Carries out an order to reload or replace the server. It is answered when that has been done
    /// or has failed.
    pub(super) fn replace_for(&mut self, pid: i32, order: Order, path: Option<PathBuf>) {
        let Some(operator) = self.controllers.await_handover(pid) else { return };
        if order == Order::Reload {
            self.log.control(operator, "reload", None);
            let (code, text) = match self.reload() {
                Ok(text) => (0, text.to_owned()),
                Err(error) => (error.exit_code(), error.to_string()),
            };
            return self.controllers.answer_handover(Some(pid), code, &text);
        }
        let detail = path.as_ref().map(|path| path.display().to_string());
        self.log.control(operator, "upgrade", detail.as_deref());
        self.begin_handover(&path.map_or(Binary::Started, Binary::Other), Some(pid));
    }

    /// Whether this server can be replaced by the next generation.
    pub(super) fn is_replaceable(&self) -> bool {
        self.handovers.generations.as_ref().is_some_and(Generations::are_possible)
    }

    /// Begins to replace this server.
    pub(super) fn begin_handover(&mut self, binary: &Binary, asked_by: Option<i32>) {
        let alone = self.alone;
        let begun = match &mut self.handovers.generations {
            // A server that counts its connections would count anew.
            _ if self.settings.exit_after.is_some() => {
                Err(Failure::permanent("a server with exit-after cannot be replaced: restart it"))
            }
            Some(generations) => generations.begin(alone, binary, asked_by),
            None => Err(Failure::permanent("this server cannot be replaced: restart it")),
        };
        self.report().begun(begun, binary.is_own(), asked_by);
    }

    fn report(&mut self) -> HandoverReport<'_> {
        let Supervisor { log, ready, controllers, .. } = self;
        HandoverReport { log, ready, controllers }
    }

    /// Handles what other generations have said.
    pub(super) fn check_handovers(&mut self, state: &ServerState, events: &mut Vec<ServerEvent>) {
        self.handovers.tell_ends();
        if let Some(generations) = &mut self.handovers.generations {
            let found = generations.events();
            found.into_iter().for_each(|event| self.on_generation(event, state, events));
        }
        let mut kills = Vec::new();
        for event in self.handovers.events(&mut kills) {
            self.on_succession(event, state, events);
        }
        kills.into_iter().for_each(|id| self.kill_for_successor(id));
        self.check_older();
        if self.handovers.succession.is_pausing() && self.has_stopped_accepting() {
            self.on_succession(SuccessionEvent::Paused, state, events);
        }
    }

    fn on_generation(&mut self, event: GenerationEvent, state: &ServerState, events: &mut Vec<ServerEvent>) {
        match event {
            GenerationEvent::Offer => self.offer_sockets(),
            GenerationEvent::Commit { pid, build, asked_by } => {
                let connections = Some(self.connections());
                let stays = self.handovers.generations.as_ref().is_none_or(Generations::is_anchor);
                self.report().replaced((pid, &build), connections, stays, asked_by);
                self.on_succession(SuccessionEvent::Commit, state, events);
            }
            GenerationEvent::Unchanged { asked_by } => {
                self.on_succession(SuccessionEvent::Cancel, state, events);
                self.report().unchanged(asked_by);
            }
            GenerationEvent::Cancelled { failure, asked_by } => {
                self.handovers.successor = None;
                self.on_succession(SuccessionEvent::Cancel, state, events);
                self.report().cancelled(&failure, asked_by);
            }
            GenerationEvent::Signal(number) => self.on_command(number, None, events),
            GenerationEvent::Abandoned => events.push(ServerEvent::Abandoned),
            GenerationEvent::OlderFinished => {}
        }
    }

    /// Tells the next generation, if it has the state already, that a connection has begun.
    pub(super) fn tell_begin(&self, slot: usize, pid: i32) {
        let Some(successor) = self.handovers.successor.as_ref().filter(|_| self.handovers.has_handed())
        else {
            return;
        };
        let entry = self.memory.board.entry(slot);
        let connection = OlderConnection {
            id: entry.id,
            pid,
            peer: entry.peer,
            proxied: self.memory.board.proxied(slot),
            start: entry.start,
            waited: self.memory.board.waited(slot),
            generation: 0,
        };
        // A successor that is behind does not count it.
        let _ = successor.send(&LineageMessage::Began(connection.to_json()));
    }

    /// Ends the hand-over that is in progress, if there is one. No other begins.
    pub(super) fn stop_handovers(&mut self) {
        if let Some(generations) = &mut self.handovers.generations {
            generations.stop();
        }
    }

    /// The last step of this generation: an anchor waits for the newer one. Exits if that has
    /// failed.
    pub(super) fn end_generation(&mut self, own_code: u8) {
        let (signals, descriptor) = (&self.fds.commands, self.fds.command_descriptor());
        let Some(generations) = &mut self.handovers.generations else { return };
        generations.tell_exit(own_code);
        let children = &self.children.preexisting;
        let code = generations.wait_for_newer(descriptor, |generations| {
            while let Some(signal) = signals.take() {
                generations.signal_newer(signal.number);
            }
            let orphans = children.children();
            orphans::reap(&orphans, |pid| generations.has_process(pid));
        });
        if code != 0 {
            exit_now(code.into());
        }
    }

    /// Offers the new generation the sockets, and a lineage to this supervisor.
    fn offer_sockets(&mut self) {
        let pair = Lineage::pair();
        let Ok((own, theirs)) = pair.inspect_err(|why| {
            let next = next_move::of_call(&(*why).into());
            self.log.error("cannot hand over the state", &reason(&(*why).into()), next);
        }) else {
            return;
        };
        self.handovers.successor = Some(own);
        let mut items: Vec<(Item, BorrowedFd)> = self.listeners.iter().map(socket_item).collect();
        items.extend(self.controllers.socket_item());
        items.extend(self.observer.iter().flat_map(Observer::listeners).map(socket_item));
        let most = self.settings.max_connections.max(self.memory.board.count(SlotPhase::Serving, None));
        items.push((lineage_item("", self.settings.source_secret, most), theirs.as_fd()));
        if let Some(generations) = &mut self.handovers.generations {
            // A failure is among the next events.
            let _ = generations.offer(items);
        }
    }

    fn on_succession(&mut self, event: SuccessionEvent, state: &ServerState, events: &mut Vec<ServerEvent>) {
        if event == SuccessionEvent::Take && state.is_stopping() {
            return self.refuse_state("the older server stops");
        }
        match self.handovers.succession.on(event, Instant::now()) {
            None => {}
            Some(SuccessionAction::Pause) => self.stop_accepting(),
            Some(SuccessionAction::SendState) => self.send_state(),
            Some(SuccessionAction::Refuse) => {
                self.refuse_state("a forker of the older server does not stop accepting");
                self.resume_after_handover();
            }
            Some(SuccessionAction::Resume) => self.resume_after_handover(),
            Some(SuccessionAction::Replace { has_state }) => {
                self.serves_backlog = !has_state;
                events.push(ServerEvent::Replaced(self.settings.upgrade_drain_timeout));
            }
            Some(SuccessionAction::Drain) => events.push(ServerEvent::NewerStops),
        }
    }

    fn refuse_state(&self, why: &str) {
        if let Some(successor) = &self.handovers.successor {
            // If it has ended, it needs no answer.
            let _ = successor.send(&LineageMessage::Refused(why.to_owned()));
        }
    }

    /// Sends the state. Nothing changes it from now on but the ends of connections.
    fn send_state(&mut self) {
        self.drain_notices();
        self.handovers.ended.clear();
        let state = self.compose_state();
        let Some(successor) = &self.handovers.successor else { return };
        if let Err(why) = successor.send_state(&state, &self.older.lineages()) {
            self.refuse_state(&format!("cannot send the state: {}", reason(&why.into())));
        }
    }

    fn resume_after_handover(&mut self) {
        self.handovers.ended.clear();
        if !self.capacity.is_paused && !self.capacity.is_pending() {
            self.accept_again();
        }
    }

    /// Leaves accepting to the newer generation: of this one, only the connections are left.
    pub(super) fn be_replaced(&mut self) {
        self.listeners.iter_mut().for_each(Listener::hand_over);
        self.controllers.hand_over();
        self.observer.take().iter_mut().for_each(Observer::hand_over);
        self.fleet.link.take().into_iter().for_each(BusLink::end);
        let quota = if self.serves_backlog { self.clients_to_drain() } else { 0 };
        self.begin_drain(quota);
    }
}
