//! What a supervisor knows of other generations: that of the whole server, where it is the first
//! process, and the supervisors of its service before and after it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::succession::{Succession, SuccessionEvent};
use crate::admission::penalty::Fault;
use crate::error::Error;
use crate::ipc::handover::lineage::{Lineage, LineageEvent, LineageMessage, MAX_ENDS};
use crate::ipc::handover::link::{Link, LinkEvent, LinkMessage};
use crate::ipc::handover::state::OlderEnd;
use crate::ipc::handover::takeover::{Predecessor, Takeover};
use crate::processes::handover::generations::Generations;
use crate::processes::handover::prepare_for;
use crate::settings::Settings;
use crate::watch::history::EndedConnection;

/// The time that a successor has to take the last ends. It reads as soon as it is awake.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

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
    pub(super) succession: Succession,
    /// The supervisor of the next generation.
    pub(super) successor: Option<Lineage>,
    /// Connections that have ended and of which the successor has not heard.
    pub(super) ended: Vec<OlderEnd>,
}

impl Handovers {
    /// What a supervisor has of other generations when it is set up.
    pub(super) fn new(
        generations: Option<Generations>,
        predecessor: Option<Predecessor>,
        takes_over: bool,
        master: Option<Link>,
    ) -> Handovers {
        Handovers {
            generations,
            takeover: None,
            takes_over,
            predecessor,
            master,
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
        self.succession.is_replaced() || self.generations.as_ref().is_some_and(Generations::is_replaced)
    }

    /// Whether the successor has the state, and has to hear what changes.
    pub(super) fn has_handed(&self) -> bool {
        self.succession.has_handed()
    }

    /// Notes that a connection has ended, for the supervisor that has its state.
    pub(super) fn note_end(&mut self, id: u64, fault: Option<Fault>, record: Option<EndedConnection>) {
        if self.succession.has_handed() && self.successor.is_some() {
            self.ended.push(OlderEnd { id, fault, record });
        }
    }

    /// Tells the successor which connections have ended.
    pub(super) fn tell_ends(&mut self) {
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

    /// Has the master drain this service. False if there is none any more.
    pub(super) fn ask_to_drain(&self) -> bool {
        self.master.as_ref().is_some_and(|master| master.send(&LinkMessage::Drain).is_ok())
    }

    /// Tells the successor what it has not heard yet, before this process ends. One that does not
    /// read is left.
    pub(super) fn finish(&mut self) {
        let deadline = Instant::now() + FLUSH_WITHIN;
        self.tell_ends();
        while let Some(successor) = self.successor.as_ref().filter(|_| !self.ended.is_empty()) {
            if Instant::now() >= deadline {
                return;
            }
            let _ = tine_sys::wait::until(&mut [PollFd::new(successor, PollFlags::OUT)], Some(deadline));
            self.tell_ends();
        }
    }

    /// What the master and the successor have said since the last call.
    pub(super) fn events(&mut self, kills: &mut Vec<u64>) -> Vec<SuccessionEvent> {
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
                LineageEvent::Message(LineageMessage::Drain, _) => events.push(SuccessionEvent::Drain),
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
