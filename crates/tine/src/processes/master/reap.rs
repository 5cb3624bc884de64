//! Reaps what the master has started, and what its supervisors have left behind.

use std::time::Instant;

use tine_sys::process::{How, reap};

use super::Master;
use super::state::{MasterEvent, MasterState};
use crate::lifecycle::outcome::{COMPLETED, Outcome};
use crate::system::{descendants, orphans};

impl Master<'_> {
    /// Reaps supervisors that have ended, and the orphans of supervisors that died.
    pub(super) fn reap_children(&mut self, events: &mut Vec<MasterEvent>) {
        self.reap_controls();
        self.log_writer.iter_mut().for_each(|writer| _ = writer.companion.check(&mut self.log));
        self.observer.iter_mut().for_each(|observer| observer.check(&mut self.log));
        for (pid, service) in self.pids.clone() {
            if let Ok(Some(ended)) = reap(pid) {
                self.pids.remove(&pid);
                self.ended.push((service, ended));
                events.push(match ended.how {
                    How::Exited(COMPLETED) => MasterEvent::Completed(service),
                    _ => MasterEvent::Ended(service),
                });
            }
        }
        let _ = orphans::reap(&self.orphans(), |pid| self.is_own(pid));
    }

    /// The processes that supervisors left behind.
    pub(super) fn orphans(&self) -> Vec<i32> {
        let children = self.preexisting.children();
        children.into_iter().filter(|pid| !self.is_own(*pid)).collect()
    }

    /// Whether a child was forked by the master.
    fn is_own(&self, pid: i32) -> bool {
        let is_writer = self.log_writer.as_ref().is_some_and(|writer| writer.companion.is(pid));
        let is_observer = self.observer.as_ref().is_some_and(|observer| observer.companion.is(pid));
        let is_own = self.pids.contains_key(&pid) || self.controllers.has(pid) || is_writer || is_observer;
        is_own || self.generations.has_process(pid)
    }

    /// After the end of a supervisor: kills what it left behind, and logs when it is restarted.
    pub(super) fn handle_end(&mut self, event: MasterEvent, state: &MasterState) {
        let (MasterEvent::Ended(service) | MasterEvent::Completed(service)) = event else { return };
        self.generations.learn_newer();
        // The kernel kills the children of a supervisor, but not their descendants.
        // What cannot be killed is accounted for at the stop.
        let _ = descendants::kill(|| self.orphans());
        let Some(at) = self.ended.iter().position(|(ended, _)| *ended == service) else { return };
        let (_, ended) = self.ended.swap_remove(at);
        let is_over = state.is_drained(service) || event == MasterEvent::Completed(service);
        if state.is_stopping() || is_over {
            return;
        }
        let restart_in = state.restart_in(service, Instant::now()).unwrap_or_default();
        let role = format!("service {}", self.services[service].name);
        self.log.restart(&role, ended.pid, &Outcome::new(ended.how, None), restart_in);
    }
}
