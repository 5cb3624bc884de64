//! Hand-overs in the master: the generations of a server with several services.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use tine_sys::process::exit_now;

use super::Master;
use super::state::{MasterEvent, MasterState};
use crate::error::reason;
use crate::net::listener::Listener;
use crate::processes::handover::generations::GenerationEvent;
use crate::processes::handover::{Binary, Failure, STOPS, UNCHANGED, lineage_item, serves_now, socket_item};
use crate::shared::handover::lineage::Lineage;
use crate::shared::handover::link::{Item, LinkMessage};
use crate::shared::steering::Order;
use crate::system::orphans;

impl Master<'_> {
    /// Carries out an order to reload or replace the server. It is answered when that has been done
    /// or has failed.
    pub(super) fn replace_for(&mut self, pid: i32, order: Order, path: Option<PathBuf>, state: &MasterState) {
        let Some(served) = self.controllers.get_mut(pid).filter(|served| served.operator.may_steer) else {
            return;
        };
        let operator = served.operator;
        self.controllers.await_handover(pid);
        match (order, path) {
            (Order::Reload, _) => {
                self.log.control(operator, "reload", None);
                self.reload(state, Some(pid));
            }
            (_, path) => {
                let detail = path.as_ref().map(|path| path.display().to_string());
                self.log.control(operator, "upgrade", detail.as_deref());
                let binary = path.map_or(Binary::Started, Binary::Other);
                self.begin_handover(&binary, state, Some(pid));
            }
        }
    }

    /// Begins to replace this server.
    pub(super) fn begin_handover(&mut self, binary: &Binary, state: &MasterState, asked_by: Option<i32>) {
        let counts = self.services.iter().find(|service| service.server.settings.exit_after.is_some());
        let begun = match counts {
            _ if state.is_stopping() => Err(Failure::temporary(STOPS)),
            // It would count its connections anew.
            Some(service) => Err(Failure::permanent(format!(
                "service {} has exit-after and cannot be replaced: restart the server",
                service.name
            ))),
            None => self.generations.begin(self.alone, binary, asked_by),
        };
        match begun {
            Ok(pid) => {
                self.ready.reloading();
                self.log.handover_begins(binary.is_own(), pid);
            }
            Err(failure) => {
                self.ready.not_begun(asked_by, &failure.text);
                self.handover_failed(&failure, asked_by);
            }
        }
    }

    /// Handles what other generations have said.
    pub(super) fn check_handovers(&mut self, state: &MasterState, events: &mut Vec<MasterEvent>) {
        for event in self.generations.events() {
            match event {
                GenerationEvent::Offer => self.offer_sockets(),
                GenerationEvent::Commit { pid, build, asked_by } => {
                    self.commit(pid, &build, asked_by);
                    events.push(MasterEvent::Replaced);
                }
                GenerationEvent::Unchanged { asked_by } => {
                    self.tell_services(&LinkMessage::Cancel);
                    self.handover_unchanged(asked_by);
                }
                GenerationEvent::Cancelled { failure, asked_by } => {
                    self.ready.ready_again(Some(&failure.text));
                    self.tell_services(&LinkMessage::Cancel);
                    self.handover_failed(&failure, asked_by);
                }
                GenerationEvent::Signal(number) => self.on_command(number, state, events),
                GenerationEvent::Abandoned => events.push(MasterEvent::Abandoned),
                GenerationEvent::OlderFinished => {}
            }
        }
    }

    fn tell_services(&self, message: &LinkMessage) {
        for link in self.services.iter().filter_map(|service| service.link.as_ref()) {
            // A supervisor that has ended needs none.
            let _ = link.send(message);
        }
    }

    fn commit(&mut self, pid: i32, build: &str, asked_by: Option<i32>) {
        self.log.handed_over(pid, build, None);
        self.ready.replaced(pid, self.generations.is_anchor());
        for service in &mut self.services {
            service.server.listeners.iter_mut().for_each(Listener::hand_over);
        }
        self.controllers.hand_over();
        self.tell_services(&LinkMessage::Commit);
        self.controllers.answer_handover(asked_by, 0, &serves_now(pid, build));
    }

    fn handover_unchanged(&mut self, asked_by: Option<i32>) {
        self.ready.ready_again(None);
        self.controllers.answer_handover(asked_by, 0, UNCHANGED);
    }

    fn handover_failed(&mut self, failure: &Failure, asked_by: Option<i32>) {
        self.log.handover_failed(&failure.text);
        self.controllers.answer_handover(asked_by, failure.code, &failure.text);
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
        let about = || serde_json::Value::Null;
        let listeners = self.services.iter().flat_map(|service| &service.server.listeners);
        let mut items: Vec<(Item, BorrowedFd)> = listeners.map(socket_item).collect();
        items.extend(self.controllers.socket().map(|socket| {
            let name = socket.handed_name();
            (Item { kind: "socket".into(), name, about: about() }, socket.as_fd())
        }));
        items.extend(lineages.iter().map(|(item, lineage)| (item.clone(), lineage.as_fd())));
        // A failure is among the next events.
        self.generations.offer(items);
    }

    /// The descriptors to wait for, with the events.
    pub(super) fn links(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.generations.descriptors().map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
    }

    /// Once all services accept clients: the sockets are this process's, and the older generations
    /// finish.
    pub(super) fn finish_takeover(&mut self) {
        let Some(takeover) = self.takeover.take() else { return };
        for service in &mut self.services {
            service.server.listeners.iter_mut().for_each(Listener::take_over);
        }
        self.controllers.take_over();
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
