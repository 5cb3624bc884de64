//! The links of a server's first process to its other generations: to older ones that still serve
//! connections, to the one that is being started, and to the one that has replaced it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Rlimit;
use tine_sys::process::{Alone, has_ended};

use super::newer::{Newer, NewerEvent};
use super::state::{Failure, HandoverAction, HandoverEvent, HandoverState};
use super::successor::{Binary, Successor, open_files};
use crate::ipc::handover::link::{Item, LinkEvent, LinkMessage, Offer};
use crate::ipc::handover::takeover::OlderGeneration;
use crate::lifecycle::ready::has_service_manager;
use crate::settings::replacement::Replacement;

/// A hand-over that has begun.
#[derive(Debug)]
struct Handover {
    successor: Successor,
    state: HandoverState,
    is_reload: bool,
    /// The control process whose operator waits for the end.
    asked_by: Option<i32>,
    /// It was given up, since the server stops.
    cancelled: bool,
}

/// Why a server that stops is not replaced.
const STOPS: &str = "the server stops";

/// All other generations of a server, seen from its first process.
#[derive(Debug)]
pub(crate) struct Generations {
    /// How this server is replaced; `None` if it cannot be.
    replacement: Option<Replacement>,
    /// The limit of open files that this process was started with.
    open_files: Rlimit,
    older: Vec<OlderGeneration>,
    handover: Option<Handover>,
    newer: Option<Newer>,
    /// This process stays until the generation that has replaced it ends.
    is_anchor: bool,
    is_stopping: bool,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GenerationEvent {
    /// The new generation is to be offered the sockets.
    Offer,
    /// The new generation serves: this one accepts no more.
    Commit { pid: i32, build: String, asked_by: Option<i32> },
    /// A reload has found nothing to change.
    Unchanged { asked_by: Option<i32> },
    /// There is no new generation.
    Cancelled { failure: Failure, asked_by: Option<i32> },
    /// Act as if this signal had been sent to this process.
    Signal(i32),
    /// The process that belongs to the whole server has died: end everything.
    Abandoned,
    /// An older generation has no connection any more.
    OlderFinished,
}

impl Generations {
    /// The generations of a server that is started: itself.
    pub(crate) fn new(replacement: Option<Replacement>) -> Generations {
        // The first process of a pid namespace cannot change; one that nothing but its parent
        // watches must not end before the server.
        let is_anchor = rustix::process::getpid().is_init() || !has_service_manager();
        let (older, open_files) = (Vec::new(), open_files());
        Generations {
            replacement,
            open_files,
            older,
            handover: None,
            newer: None,
            is_anchor,
            is_stopping: false,
        }
    }

    /// This process has taken over from these, the last of which has executed it.
    pub(crate) fn take_over(&mut self, older: Vec<OlderGeneration>) {
        self.is_anchor &= !older.iter().any(|older| older.is_anchor);
        self.older = older;
    }

    /// Learns which processes belong to newer generations: those that this process adopts must not
    /// be taken for orphans of connections.
    pub(crate) fn learn_newer(&mut self) {
        self.listen_to_newer(&mut Vec::new());
    }

    /// Whether this process stays until the generation that replaces it ends.
    pub(crate) fn is_anchor(&self) -> bool {
        self.is_anchor
    }

    /// Whether this server can be replaced.
    pub(crate) fn are_possible(&self) -> bool {
        self.replacement.is_some() && self.newer.is_none()
    }

    /// Whether a newer generation serves.
    pub(crate) fn is_replaced(&self) -> bool {
        self.newer.is_some()
    }

    /// Whether older generations still have connections.
    pub(crate) fn has_older(&self) -> bool {
        self.older.iter().any(|older| !older.is_finished)
    }

    /// Whether a process belongs to another generation: it is a child of this process, or adopted.
    pub(crate) fn has_process(&self, pid: i32) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.successor.pid == pid)
            || self.newer.as_ref().is_some_and(|newer| newer.has_process(pid))
    }

    /// Begins a hand-over: executes the binary.
    ///
    /// # Errors
    /// It is not possible now, or not at all.
    pub(crate) fn begin(
        &mut self,
        alone: &Alone,
        binary: &Binary,
        asked_by: Option<i32>,
    ) -> Result<i32, Failure> {
        let Some(replacement) = &self.replacement else {
            return Err(Failure::permanent("this server cannot be replaced: restart it"));
        };
        // Its sockets are no longer those of this process. The newer one answers from now on.
        if self.newer.is_some() {
            return Err(Failure::temporary("the server has just been replaced: repeat the command"));
        }
        if self.is_stopping {
            return Err(Failure::temporary(STOPS));
        }
        if self.handover.is_some() {
            return Err(Failure::temporary("a hand-over is in progress: wait for its end"));
        }
        let started = Successor::start(alone, binary, replacement, self.open_files);
        let successor = started.map_err(|why| {
            Failure::temporary(format!("cannot start the new binary: {}", crate::error::reason(&why)))
        })?;
        let pid = successor.pid;
        let state = HandoverState::new(replacement.timeout, Instant::now());
        let is_reload = binary.is_own();
        self.handover = Some(Handover { successor, state, is_reload, asked_by, cancelled: false });
        Ok(pid)
    }

    /// Offers sockets, and the links to older generations.
    pub(crate) fn offer(&mut self, items: Vec<(Item, BorrowedFd)>) -> Vec<GenerationEvent> {
        match self.send_offer(items) {
            Ok(()) => Vec::new(),
            Err(text) => self.advance(HandoverEvent::NotOffered(text)),
        }
    }

    fn send_offer<'a>(&'a self, mut items: Vec<(Item, BorrowedFd<'a>)>) -> Result<(), String> {
        let Some(handover) = &self.handover else { return Ok(()) };
        let offer = Offer {
            is_reload: handover.is_reload,
            configuration: self.replacement.as_ref().and_then(|replacement| replacement.configuration),
            is_anchor: self.is_anchor,
        };
        for older in &self.older {
            let about = serde_json::json!({ "anchor": older.is_anchor, "finished": older.is_finished });
            items.push((Item { kind: "link".into(), name: String::new(), about }, older.link.as_fd()));
        }
        let link = &handover.successor.link;
        let sent = link
            .send(&LinkMessage::Offer(offer))
            .and_then(|()| link.send_items(&items))
            .and_then(|()| link.send(&LinkMessage::Complete));
        match sent {
            // If it has ended, its end is seen, too, and has the reason.
            Ok(()) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(why) => {
                let why = crate::error::reason(&why.into());
                Err(format!("cannot hand over {} sockets: {why}", items.len()))
            }
        }
    }

    /// The descriptors to wait for.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let older = self.older.iter().map(|older| older.link.as_fd());
        let handover = self.handover.iter().map(|handover| handover.successor.link.as_fd());
        let newer = self.newer.iter().filter_map(Newer::descriptor);
        older.chain(handover).chain(newer)
    }

    /// When the events are to be asked for at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.handover.as_ref().map(|handover| handover.state.deadline())
    }

    /// What has happened since the last call.
    pub(crate) fn events(&mut self) -> Vec<GenerationEvent> {
        let mut events = Vec::new();
        self.listen_to_older(&mut events);
        self.listen_to_newer(&mut events);
        while let Some(handover) = &self.handover {
            let event = match handover.successor.link.receive() {
                _ if handover.cancelled => HandoverEvent::Failed(Failure::temporary(STOPS)),
                None => HandoverEvent::Tick,
                Some(LinkEvent::Ended) => HandoverEvent::Ended(handover.successor.collect()),
                // It may have been killed since: then this generation goes on.
                Some(LinkEvent::Message(LinkMessage::Accepting, _)) if has_ended(handover.successor.pid) => {
                    HandoverEvent::Ended(handover.successor.collect())
                }
                Some(LinkEvent::Message(message, _)) => event_of(message),
                Some(LinkEvent::Unknown) => HandoverEvent::Unknown,
            };
            let is_last = event == HandoverEvent::Tick;
            events.extend(self.advance(event));
            if is_last {
                break;
            }
        }
        events
    }

    fn advance(&mut self, event: HandoverEvent) -> Vec<GenerationEvent> {
        let Some(handover) = &mut self.handover else { return Vec::new() };
        let Some(action) = handover.state.on(event, Instant::now()) else { return Vec::new() };
        let asked_by = handover.asked_by;
        match action {
            HandoverAction::Offer => vec![GenerationEvent::Offer],
            HandoverAction::Go => {
                // If it has ended, its end is seen, too.
                let _ = handover.successor.link.send(&LinkMessage::Go);
                Vec::new()
            }
            HandoverAction::Commit => self.commit().into_iter().collect(),
            HandoverAction::Keep => {
                self.end_handover();
                vec![GenerationEvent::Unchanged { asked_by }]
            }
            HandoverAction::Cancel(failure) => {
                self.end_handover();
                vec![GenerationEvent::Cancelled { failure, asked_by }]
            }
        }
    }

    /// The new generation serves, and has the links to the older ones.
    fn commit(&mut self) -> Option<GenerationEvent> {
        let Handover { successor: Successor { pid, link }, state, asked_by, .. } = self.handover.take()?;
        self.newer = Some(Newer::new(pid, link));
        self.older.clear();
        Some(GenerationEvent::Commit { pid, build: state.build, asked_by })
    }

    /// The server stops: a hand-over is given up, which the next events say, and none begins.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        if let Some(handover) = &mut self.handover {
            handover.cancelled = true;
        }
    }

    fn end_handover(&mut self) {
        if let Some(handover) = self.handover.take() {
            handover.successor.kill();
        }
    }

    fn listen_to_older(&mut self, events: &mut Vec<GenerationEvent>) {
        for older in &mut self.older {
            while !older.has_ended {
                match older.link.receive() {
                    None => break,
                    Some(LinkEvent::Message(LinkMessage::Signal(number), _)) => {
                        events.push(GenerationEvent::Signal(number));
                    }
                    Some(LinkEvent::Message(LinkMessage::Finished, _)) => {
                        older.is_finished = true;
                        events.push(GenerationEvent::OlderFinished);
                    }
                    Some(LinkEvent::Message(..) | LinkEvent::Unknown) => {}
                    Some(LinkEvent::Ended) => {
                        (older.has_ended, older.is_finished) = (true, true);
                        events.push(match older.is_anchor {
                            true => GenerationEvent::Abandoned,
                            false => GenerationEvent::OlderFinished,
                        });
                    }
                }
            }
        }
        self.older.retain(|older| !older.has_ended);
    }

    fn listen_to_newer(&mut self, events: &mut Vec<GenerationEvent>) {
        for event in self.newer.iter_mut().flat_map(Newer::events) {
            match event {
                NewerEvent::Signal(number) => events.push(GenerationEvent::Signal(number)),
                NewerEvent::Died if self.is_anchor => events.push(GenerationEvent::Abandoned),
                NewerEvent::Died => {}
            }
        }
    }

    /// Passes a signal on to the older generations.
    pub(crate) fn signal_older(&self, number: i32) {
        for older in self.older.iter().filter(|older| !older.is_finished) {
            // One that has ended needs none.
            let _ = older.link.send(&LinkMessage::Signal(number));
        }
    }

    /// Passes a signal on to the generation that has replaced this one. False if this process has
    /// to act itself.
    pub(crate) fn signal_newer(&self, number: i32) -> bool {
        self.is_anchor && self.newer.as_ref().is_some_and(|newer| newer.signal(number))
    }

    /// Waits, as an anchor, until the generation that has replaced this one ends. Returns its exit
    /// code; 0 if this process waits for none. `signals` is readable while one is pending, and
    /// `take` handles those and passes others on.
    pub(crate) fn wait_for_newer(&mut self, signals: &OwnedFd, mut take: impl FnMut(&mut Generations)) -> u8 {
        match &self.newer {
            Some(newer) if self.is_anchor => newer.tell_finished(),
            _ => return 0,
        }
        loop {
            take(self);
            self.events();
            if let Some(code) = self.newer.as_ref().and_then(Newer::exit_code) {
                return code;
            }
            let own = std::iter::once(signals.as_fd());
            let descriptors = own.chain(self.descriptors());
            let mut poll: Vec<PollFd> =
                descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
            let _ = tine_sys::wait::until(&mut poll, None);
        }
    }

    /// Tells the anchor, if there is one, how this process ends.
    pub(crate) fn tell_exit(&self, code: u8) {
        for older in self.older.iter().filter(|older| older.is_anchor) {
            let _ = older.link.send(&LinkMessage::Exit(code));
        }
    }
}

/// The event of a message in a hand-over.
fn event_of(message: LinkMessage) -> HandoverEvent {
    match message {
        LinkMessage::Hello { version, build } => HandoverEvent::Hello { version, build },
        LinkMessage::Failed { code, text } => HandoverEvent::Failed(Failure { code, text }),
        LinkMessage::Unchanged => HandoverEvent::Unchanged,
        LinkMessage::Built => HandoverEvent::Built,
        LinkMessage::Accepting => HandoverEvent::Accepting,
        _ => HandoverEvent::Unknown,
    }
}
