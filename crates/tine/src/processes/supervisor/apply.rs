//! Doing what the state decided.

use std::time::Instant;

use rustix::process::Signal;

use super::run::Supervisor;
use super::state::{Action, Event, Helper, State};
use crate::connection::Connection;
use crate::error::HandlerError;
use crate::lifecycle::outcome::Outcome;
use crate::processes::delayer;
use crate::system::signal::{signal_group, signal_one};

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Writes what there is to say about an event, now that it is answered.
    pub(super) fn note(&mut self, event: Event, state: &State) {
        let Event::HelperEnded { helper, .. } = event else { return };
        let Some(at) = self.helper_ends.iter().position(|(ended, _)| *ended == helper) else { return };
        let (_, ended) = self.helper_ends.swap_remove(at);
        if state.is_stopping() {
            return;
        }
        let role = match helper {
            Helper::Forker(index) => format!("forker {}", index + 1),
            Helper::Rejector => "rejector".to_owned(),
            Helper::Delayer => "delayer".to_owned(),
            Helper::StderrLogger => "stderr logger".to_owned(),
            Helper::CgroupCleaner => "cgroup cleaner".to_owned(),
        };
        let again_in = state.restart_in(helper, Instant::now()).unwrap_or_default();
        self.log.helper_ended(&role, ended.pid, &Outcome::new(ended.how, None), again_in);
    }

    pub(super) fn apply(&mut self, action: Action, state: &mut State) {
        match action {
            Action::Start(helper) => {
                if let Err(why) = self.start(helper) {
                    let why = crate::error::reason(&why);
                    self.log.trouble(
                        "cannot start a forker",
                        &why,
                        "it is tried again; raise the limit on processes",
                    );
                    // It counts as one that died at once, so that the next try waits.
                    let failed = Event::HelperEnded { helper, done: false };
                    state.on(failed, Instant::now());
                } else if let Helper::Forker(index) = helper {
                    self.ring(index);
                }
            }
            Action::Drain => self.drain(),
            Action::CloseListeners => self.listeners.clear(),
            Action::EndAll => self.end_all(),
            Action::KillAll => self.kill_all(),
        }
    }

    fn drain(&mut self) {
        self.ready.stopping();
        self.drain_notices();
        let waiting = self.listeners.iter().map(|listener| listener.queued().unwrap_or(u64::from(u32::MAX)));
        let waiting: u64 = waiting.sum();
        self.board.set_drain_quota(match self.settings.leaves_connections {
            true => {
                waiting.min(self.settings.max_connections.saturating_sub(self.people.connections()) as u64)
            }
            false => waiting,
        });
        self.board.order_drain();
        // Not before: whoever reads it can count on it.
        self.log.drain(self.people.connections(), self.settings.drain_timeout);
        // Never read, so that every spare sees it, also one that is just being made.
        let _ = rustix::io::write(&self.retire, &1u64.to_ne_bytes());
        (0..self.controls.len()).for_each(|forker| self.ring(forker));
        if let Some(delays) = &mut self.delays {
            // When the delayer has let everyone go, the forkers see the end.
            delays.back.0 = None;
            delayer::ring(&delays.bell);
        }
    }

    /// Nobody new from now on; who is served is asked to end. A stopped process cannot: it is woken.
    fn end_all(&mut self) {
        for (pid, helper) in self.people.helpers().collect::<Vec<_>>() {
            if helper.admits() {
                signal_one(pid, Signal::KILL);
            }
        }
        self.drain_notices();
        for (pid, _) in self.people.in_slots() {
            signal_group(pid, Signal::TERM);
            signal_group(pid, Signal::CONT);
        }
    }

    pub(super) fn kill_all(&mut self) {
        self.drain_notices();
        // The warden is the one who ends what is left, and then itself.
        for (pid, _) in self.people.helpers().filter(|(_, helper)| *helper != Helper::CgroupCleaner) {
            signal_one(pid, Signal::KILL);
        }
        for (pid, _) in self.people.in_slots() {
            signal_group(pid, Signal::KILL);
        }
    }
}
