//! Hand-overs in the master: the generations of a server with several services.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use tine_sys::process::exit_now;

use super::Master;
use super::state::MasterEvent;
use crate::error::reason;
use crate::ipc::handover::lineage::Lineage;
use crate::ipc::handover::link::{Item, Link, LinkEvent, LinkMessage};
use crate::ipc::steering::Order;
use crate::net::listener::Listener;
use crate::processes::handover::generations::GenerationEvent;
use crate::processes::handover::report::HandoverReport;
use crate::processes::handover::{Binary, Failure, lineage_item, socket_item};
use crate::processes::observer::Observer;
use crate::system::orphans;

impl Master<'_> {
    /// Carries out an order to reload or replace the server. It is answered when that has been done
    /// or has failed.
    pub(super) fn replace_for(&mut self, pid: i32, order: Order, path: Option<PathBuf>) {
        let Some(operator) = self.controllers.await_handover(pid) else { return };
        if order == Order::Reload {
            self.log.control(operator, "reload", None);
            return self.reload(Some(pid));
        }
        let detail = path.as_ref().map(|path| path.display().to_string());
        self.log.control(operator, "upgrade", detail.as_deref());
        self.begin_handover(&path.map_or(Binary::Started, Binary::Other), Some(pid));
    }

    /// Begins to replace this server.
    pub(super) fn begin_handover(&mut self, binary: &Binary, asked_by: Option<i32>) {
        let counts = self.services.iter().find(|service| service.server.settings.exit_after.is_some());
        let begun = match counts {
            // It would count its connections anew.
            Some(service) => Err(Failure::permanent(format!(
                "service {} has exit-after and cannot be replaced: restart the server",
                service.name
            ))),
            None => self.generations.begin(self.alone, binary, asked_by),
        };
        self.report().begun(begun, binary.is_own(), asked_by);
    }

    fn report(&mut self) -> HandoverReport<'_> {
        let Master { log, ready, controllers, .. } = self;
        HandoverReport { log, ready, controllers }
    }

    /// Handles what other generations have said.
    pub(super) fn check_handovers(&mut self, events: &mut Vec<MasterEvent>) {
        for event in self.generations.events() {
            match event {
                GenerationEvent::Offer => self.offer_sockets(),
                GenerationEvent::Commit { pid, build, asked_by } => {
                    self.commit(pid, &build, asked_by);
                    events.push(MasterEvent::Replaced);
                }
                GenerationEvent::Unchanged { asked_by } => {
                    self.tell_services(&LinkMessage::Cancel);
                    self.report().unchanged(asked_by);
                }
                GenerationEvent::Cancelled { failure, asked_by } => {
                    self.tell_services(&LinkMessage::Cancel);
                    self.report().cancelled(&failure, asked_by);
                }
                GenerationEvent::Signal(number) => self.on_command(number, events),
                GenerationEvent::Abandoned => events.push(MasterEvent::Abandoned),
                GenerationEvent::OlderFinished => {}
            }
        }
    }

    /// What supervisors have asked for since the last call.
    pub(super) fn hear_services(&mut self, events: &mut Vec<MasterEvent>) {
        for (number, service) in self.services.iter_mut().enumerate() {
            while let Some(event) = service.link.as_ref().and_then(Link::receive) {
                match event {
                    LinkEvent::Message(LinkMessage::Drain, _) => {
                        events.push(MasterEvent::DrainRequested(number));
                    }
                    LinkEvent::Message(..) | LinkEvent::Unknown => {}
                    // The kernel reports its end by a signal.
                    LinkEvent::Ended => service.link = None,
                }
            }
        }
    }

    /// Hears no supervisor any more: their ends are awaited.
    pub(super) fn leave_services(&mut self) {
        self.services.iter_mut().for_each(|service| service.link = None);
    }

    fn tell_services(&self, message: &LinkMessage) {
        for link in self.services.iter().filter_map(|service| service.link.as_ref()) {
            // A supervisor that has ended needs none.
            let _ = link.send(message);
        }
    }

    fn commit(&mut self, pid: i32, build: &str, asked_by: Option<i32>) {
        for service in &mut self.services {
            service.server.listeners.iter_mut().for_each(Listener::hand_over);
        }
        self.controllers.hand_over();
        self.observer.take().iter_mut().for_each(Observer::hand_over);
        self.tell_services(&LinkMessage::Commit);
        let stays = self.generations.is_anchor();
        self.report().replaced((pid, build), None, stays, asked_by);
    }

    /// Offers the new generation the sockets, and a lineage to each supervisor.
    fn offer_sockets(&mut self) {
        let mut lineages = Vec::new();
        for service in &self.services {
            let Some(link) = &service.link else { continue };
            let passed = Lineage::pair().and_then(|(own, theirs)| {
                link.send_with(&LinkMessage::Successor, own.as_fd())?;
                Ok(theirs)
            });
            match passed {
                Ok(theirs) => {
                    let settings = &service.server.settings;
                    // Its older generations may have more than it, and it does not know it here.
                    let most = settings.slots();
                    lineages.push((lineage_item(&service.name, settings.source_secret, most), theirs));
                }
                Err(why) => {
                    let what = format!("cannot hand over the state of service {}", service.name);
                    self.log.error(&what, &reason(&why.into()), "its new supervisor begins without it");
                }
            }
        }
        let listeners = self.services.iter().flat_map(|service| &service.server.listeners);
        let mut items: Vec<(Item, BorrowedFd)> = listeners.map(socket_item).collect();
        items.extend(self.controllers.socket_item());
        items.extend(self.observer.iter().flat_map(Observer::listeners).map(socket_item));
        items.extend(lineages.iter().map(|(item, lineage)| (item.clone(), lineage.as_fd())));
        // A failure is among the next events.
        self.generations.offer(items);
    }

    /// The descriptors to wait for, with the events.
    pub(super) fn links(&self) -> impl Iterator<Item = PollFd<'_>> {
        let services = self.services.iter().filter_map(|service| service.link.as_ref().map(Link::as_fd));
        let all = self.generations.descriptors().chain(services);
        all.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
    }

    /// Once all services accept clients: the sockets are this process's, and the older generations
    /// finish.
    pub(super) fn finish_takeover(&mut self) {
        let Some(takeover) = self.takeover.take() else { return };
        for service in &mut self.services {
            service.server.listeners.iter_mut().for_each(Listener::take_over);
        }
        self.controllers.take_over();
        self.observer.iter_mut().for_each(Observer::take_over);
        self.generations.take_over(takeover.accepting());
    }

    /// The last step of this generation: an anchor waits for the newer one. Exits if that has
    /// failed.
    pub(super) fn end_generation(&mut self, own_code: u8) {
        let Master { generations, signals, signal_fd, preexisting, .. } = self;
        generations.tell_exit(own_code);
        let code = generations.wait_for_newer(signal_fd, |generations| {
            while let Some(signal) = signals.take() {
                generations.signal_newer(signal.number);
            }
            orphans::reap(&preexisting.children(), |pid| generations.has_process(pid));
        });
        if code != 0 {
            exit_now(code.into());
        }
    }
}
