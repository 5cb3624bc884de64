//! Hand-overs in a supervisor: the generations of a single server, and the lineage of a service to
//! the supervisors before and after it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tine_sys::process::exit_now;

use super::Supervisor;
use super::setup::Setup;
use super::state::{ServerEvent, ServerState};
use super::succession::{Succession, SuccessionAction, SuccessionEvent};
use crate::admission::penalty::Fault;
use crate::connection::Connection;
use crate::error::{Error, HandlerError, next_move, reason};
use crate::net::listener::Listener;
use crate::processes::handover::generations::{GenerationEvent, Generations};
use crate::processes::handover::{Binary, Failure, lineage_item, prepare_for, socket_item};
use crate::settings::Settings;
use crate::shared::board::SlotPhase;
use crate::shared::handover::lineage::{
    Lineage, LineageEvent, LineageMessage, MAX_ENDS, read_state,
};
use crate::shared::handover::link::{Item, Link, LinkEvent, LinkMessage};
use crate::shared::handover::state::{OlderConnection, OlderEnd};
use crate::shared::handover::takeover::{Predecessor, Takeover, Told};
use crate::system::orphans;
use crate::watch::history::EndedConnection;

/// The time that the older supervisor has to send its state: that to stop accepting, and more.
const STATE_WITHIN: Duration = Duration::from_secs(10);

/// What a supervisor knows of other generations.
pub(super) struct Handovers {
    /// The generations of the server, where this is its first process.
    pub(super) generations: Option<Generations>,
    /// Until this process has taken over: the first process of the older generation.
    pub(super) takeover: Option<Takeover>,
    /// Until this process has taken over: the older supervisor of the service.
    pub(super) predecessor: Option<Predecessor>,
    /// All services of the server take over together.
    pub(super) takes_over: bool,
    /// The master, which tells about the next generation.
    pub(super) master: Option<Link>,
    succession: Succession,
    /// The supervisor of the next generation.
    successor: Option<Lineage>,
    /// Connections that have ended and of which the successor has not heard.
    ended: Vec<OlderEnd>,
}

impl Handovers {
    /// Takes what a supervisor has of other generations from its set-up.
    pub(super) fn of(setup: &mut Setup) -> Handovers {
        Handovers {
            generations: setup.settings.master.is_none().then(|| Generations::new(setup.replacement.take())),
            takeover: None,
            takes_over: setup.takes_over,
            predecessor: setup.predecessor.take(),
            master: setup.master.take(),
            succession: Succession::none(),
            successor: None,
            ended: Vec::new(),
        }
    }

    /// Prepares settings for the state of an older supervisor, if there is one.
    pub(super) fn prepare(&self, settings: &mut Settings) {
        self.predecessor.iter().for_each(|predecessor| prepare_for(predecessor, settings));
    }

    /// Reports why this process cannot take over, if it was to.
    pub(super) fn takeover_failed(&self, error: &Error) {
        self.takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
    }

    /// The descriptors to wait for, with the events.
    pub(super) fn poll(&self) -> Vec<PollFd<'_>> {
        let readable = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        let generations = self.generations.iter().flat_map(Generations::descriptors);
        let links = self.master.iter().map(AsFd::as_fd).chain(generations);
        let successor = self.successor.iter().map(|successor| {
            let is_behind = !self.ended.is_empty();
            let flags = if is_behind { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            PollFd::new(successor, flags)
        });
        links.map(readable).chain(successor).collect()
    }

    /// When the events are to be asked for at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let generations = self.generations.as_ref().and_then(Generations::deadline);
        [generations, self.succession.deadline()].into_iter().flatten().min()
    }

    /// Whether a process belongs to another generation.
    pub(super) fn has_process(&self, pid: i32) -> bool {
        self.generations.as_ref().is_some_and(|generations| generations.has_process(pid))
    }

    /// Whether older generations have to stop before this one.
    pub(super) fn has_older(&self) -> bool {
        self.generations.as_ref().is_some_and(Generations::has_older)
    }

    /// Whether a newer generation serves.
    pub(super) fn is_replaced(&self) -> bool {
        self.generations.as_ref().is_some_and(Generations::is_replaced)
    }

    /// Whether the successor has the state, and has to hear what changes.
    fn has_handed(&self) -> bool {
        self.succession.has_handed()
    }

    /// Notes that a connection has ended, for the supervisor that has its state.
    pub(super) fn note_end(&mut self, id: u64, fault: Option<Fault>, record: Option<EndedConnection>) {
        if self.succession.has_handed() && self.successor.is_some() {
            self.ended.push(OlderEnd { id, fault, record });
        }
    }

    /// Tells the successor which connections have ended.
    fn tell_ends(&mut self) {
        let Some(successor) = &self.successor else { return };
        while !self.ended.is_empty() {
            let count = self.ended.len().min(MAX_ENDS);
            let some = self.ended[..count].iter().map(OlderEnd::to_json).collect();
            match successor.send(&LineageMessage::Ended(some)) {
                Ok(()) => drop(self.ended.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return,
                // It has ended, and with it the server, or another one takes its place.
                Err(_) => self.ended.clear(),
            }
        }
    }

    /// What the master and the successor have said since the last call.
    fn events(&mut self, kills: &mut Vec<u64>) -> Vec<SuccessionEvent> {
        let mut events = vec![SuccessionEvent::Tick];
        while let Some(event) = self.master.as_ref().and_then(Link::receive) {
            match event {
                LinkEvent::Message(LinkMessage::Successor, mut descriptors) => {
                    self.successor = descriptors.pop().map(Lineage::from);
                }
                LinkEvent::Message(LinkMessage::Commit, _) => events.push(SuccessionEvent::Commit),
                LinkEvent::Message(LinkMessage::Cancel, _) => {
                    self.successor = None;
                    events.push(SuccessionEvent::Cancel);
                }
                LinkEvent::Message(..) | LinkEvent::Unknown => {}
                // The kernel reports its end by a signal.
                LinkEvent::Ended => self.master = None,
            }
        }
        while let Some(event) = self.successor.as_ref().and_then(Lineage::receive) {
            match event {
                LineageEvent::Message(LineageMessage::Take, _) => events.push(SuccessionEvent::Take),
                LineageEvent::Message(LineageMessage::Kill(id), _) => kills.push(id),
                LineageEvent::Message(..) => {}
                LineageEvent::Ended => {
                    self.successor = None;
                    events.push(SuccessionEvent::Cancel);
                }
            }
        }
        events
    }
}

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    // The older side.

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
        match begun {
            Ok(pid) => {
                self.ready.reloading();
                self.log.handover_begins(binary.is_own(), pid);
            }
            Err(failure) => self.handover_failed(&failure, asked_by),
        }
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

    fn on_generation(
        &mut self,
        event: GenerationEvent,
        state: &ServerState,
        events: &mut Vec<ServerEvent>,
    ) {
        match event {
            GenerationEvent::Offer => self.offer_sockets(),
            GenerationEvent::Commit { pid, build, asked_by } => {
                self.handover_done(pid, &build, asked_by);
                self.on_succession(SuccessionEvent::Commit, state, events);
            }
            GenerationEvent::Unchanged { asked_by } => {
                self.on_succession(SuccessionEvent::Cancel, state, events);
                self.handover_unchanged(asked_by);
            }
            GenerationEvent::Cancelled { failure, asked_by } => {
                self.handovers.successor = None;
                self.on_succession(SuccessionEvent::Cancel, state, events);
                self.handover_failed(&failure, asked_by);
            }
            GenerationEvent::Signal(number) => self.on_command(number, None, events),
            GenerationEvent::Abandoned => events.push(ServerEvent::Abandoned),
            GenerationEvent::OlderFinished => {}
        }
    }

    /// Tells the next generation, if it has the state already, that a connection has begun.
    pub(super) fn tell_begin(&self, slot: usize, pid: i32) {
        let Some(successor) = self.handovers.successor.as_ref().filter(|_| self.handovers.has_handed()) else {
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

    /// Tells everybody who waits for it that the next generation serves.
    fn handover_done(&mut self, pid: i32, build: &str, asked_by: Option<i32>) {
        let connections = self.connections();
        self.log.handed_over(pid, build, Some(connections));
        let stays_main = self.handovers.generations.as_ref().is_none_or(Generations::is_anchor);
        match (stays_main, u32::try_from(pid)) {
            (false, Ok(pid)) => self.ready.main_pid(pid),
            _ => self.ready.ready_again(),
        }
        let _ = asked_by;
    }

    /// Tells everybody who waits for it that a reload has nothing to change but what is read again
    /// at each.
    fn handover_unchanged(&mut self, asked_by: Option<i32>) {
        self.ready.ready_again();
        self.reload();
        let _ = asked_by;
    }

    /// Tells everybody who waits for it that this generation goes on.
    fn handover_failed(&mut self, failure: &Failure, asked_by: Option<i32>) {
        self.ready.ready_again();
        self.log.handover_failed(&failure.text);
        let _ = asked_by;
    }

    /// Ends the hand-over that is in progress, if there is one.
    pub(super) fn cancel_handover(&mut self, why: &str) {
        if let Some(generations) = &mut self.handovers.generations {
            generations.cancel(why);
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
        items.extend(self.controllers.socket().map(|socket| {
            let name = socket.handed_name();
            (Item { kind: "socket".into(), name, about: serde_json::Value::Null }, socket.as_fd())
        }));
        let most = self.settings.max_connections.max(self.memory.board.count(SlotPhase::Serving, None));
        items.push((lineage_item("", self.settings.source_secret, most), theirs.as_fd()));
        if let Some(generations) = &mut self.handovers.generations {
            // A failure is among the next events.
            let _ = generations.offer(items);
        }
    }

    fn on_succession(
        &mut self,
        event: SuccessionEvent,
        state: &ServerState,
        events: &mut Vec<ServerEvent>,
    ) {
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
        let quota = if self.serves_backlog { self.clients_to_drain() } else { 0 };
        self.begin_drain(quota);
    }

    // The newer side.

    /// Reports that this generation can serve, and waits until it may. False if it may not.
    pub(super) fn wait_for_predecessor(&mut self, stop: BorrowedFd) -> Result<bool, Error> {
        let Some(takeover) = &mut self.handovers.takeover else { return Ok(true) };
        let told = takeover.built(stop);
        Ok(told == Told::Go)
    }

    /// Takes the state of the older supervisor, if there is one.
    ///
    /// # Errors
    /// It has ended, or does not send it.
    pub(super) fn take_state(&mut self) -> Result<(), Error> {
        let Some(Predecessor { lineage, .. }) = self.handovers.predecessor.take() else { return Ok(()) };
        let failed = |why: &str| {
            Error::usage(format_args!("cannot take over the state: {why}"), "try again, or restart the server")
        };
        lineage.send(&LineageMessage::Take).map_err(|_| failed("the older server has ended"))?;
        let deadline = Instant::now() + STATE_WITHIN;
        let (file, older) = loop {
            match lineage.receive() {
                None if Instant::now() >= deadline => return Err(failed("it does not come")),
                None => {
                    let mut poll = [PollFd::new(&lineage, PollFlags::IN)];
                    let _ = tine_sys::wait::until(&mut poll, Some(deadline));
                }
                Some(LineageEvent::Message(LineageMessage::State, descriptors)) => {
                    let mut descriptors = descriptors.into_iter();
                    let file = descriptors.next().ok_or_else(|| failed("it is missing"))?;
                    break (file, descriptors.map(Lineage::from).collect::<Vec<_>>());
                }
                Some(LineageEvent::Message(LineageMessage::Refused(why), _)) => return Err(failed(&why)),
                Some(LineageEvent::Message(..)) => {}
                Some(LineageEvent::Ended) => return Err(failed("the older server has ended")),
            }
        };
        let state = read_state(file).map_err(|why| failed(&reason(&why)))?;
        self.restore_state(&state, lineage, older)
    }

    /// Once clients are accepted here: the sockets are this process's, and the older generations
    /// finish.
    pub(super) fn finish_takeover(&mut self) {
        let Some(takeover) = self.handovers.takeover.take() else { return };
        self.listeners.iter_mut().for_each(Listener::take_over);
        self.controllers.take_over();
        let older = takeover.accepting();
        if let Some(generations) = &mut self.handovers.generations {
            generations.take_over(older);
        }
    }
}
