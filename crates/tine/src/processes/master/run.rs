//! The loop of the top: waits for signals, applies what the state decides.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use tine_sys::process::{Alone, Ended, reap, reap_ordinary};
use tine_sys::signal::Set;
use tine_sys::wait;

use super::state::{MasterAction, MasterEvent, MasterState};
use crate::error::Error;
use crate::lifecycle::outcome::Outcome;
use crate::lifecycle::ready::Ready;
use crate::lifecycle::signals::{self, Command};
use crate::lifecycle::timing::{KILL_WAIT, STOP_WITHIN};
use crate::log::Log;
use crate::services::{Service, Services};
use crate::system::descendants;
use crate::system::orphans::PreexistingChildren;
use crate::system::signal::signal_one;

/// What only the top has, none of its children.
pub(super) struct MasterFds {
    /// Readable while a signal is pending.
    commands: OwnedFd,
    pub(super) log: Log,
    pub(super) ready: Ready,
    /// From each service that is being started with the others: its word that it is ready.
    pub(super) starting: Vec<OwnedFd>,
}

pub(super) struct Master<'a> {
    pub(super) services: Vec<Service>,
    pub(super) own: Option<MasterFds>,
    pub(super) alone: &'a Alone,
    pub(super) pids: HashMap<i32, usize>,
    signals: Set,
    original_mask: Set,
    strangers: PreexistingChildren,
    /// Supervisors that have ended and have not been told of.
    ends: Vec<(usize, Ended)>,
}

/// Serves until stopped.
pub(crate) fn run(tree: Services, alone: &Alone) -> Result<(), Error> {
    let services = tree.services.len();
    let slowest = tree.services.iter().map(|service| service.server.settings.drain_timeout).max();
    let mut master = Master::set_up(tree, alone)?;
    if let Err(error) = master.start_all() {
        master.kill_all();
        master.wait_for_the_killed();
        return Err(error);
    }
    let patience = slowest.unwrap_or_default().saturating_add(STOP_WITHIN);
    let mut state = MasterState::new(services, patience, Instant::now());
    while !state.is_over() {
        master.wait(&state);
        for event in master.events() {
            let actions = state.on(event, Instant::now());
            master.note(event, &state);
            for action in actions {
                master.apply(action, &mut state);
            }
        }
    }
    master.finish(services);
    Ok(())
}

pub(super) fn cannot_start(what: &str, why: &std::io::Error) -> Error {
    Error::system(
        format_args!("cannot start the services: {what}"),
        why,
        "raise the limits on processes, open files or memory (`ulimit -a`)",
    )
}

impl<'a> Master<'a> {
    fn set_up(tree: Services, alone: &'a Alone) -> Result<Master<'a>, Error> {
        let Services { services, format, level, mut ready, .. } = tree;
        ready.prepare(3)?;
        let signals = Set::of(&signals::numbers());
        let failed = |why: std::io::Error| cannot_start("signals", &why);
        tine_sys::signal::default(Signal::CHILD.as_raw());
        tine_sys::signal::ignore(Signal::PIPE.as_raw());
        let original_mask = signals.block().map_err(failed)?;
        let own = MasterFds {
            commands: signals.descriptor().map_err(failed)?,
            log: Log::new(format, level, None),
            ready,
            starting: Vec::new(),
        };
        Ok(Master {
            services,
            own: Some(own),
            alone,
            pids: HashMap::new(),
            signals,
            original_mask,
            strangers: PreexistingChildren::record_and_become_subreaper(),
            ends: Vec::new(),
        })
    }

    /// Waits for a signal, or the next deadline.
    fn wait(&self, state: &MasterState) {
        let Some(own) = &self.own else { return };
        let mut ask = [PollFd::new(&own.commands, PollFlags::IN)];
        // Interrupted: everything is looked at in any case.
        let _ = wait::until(&mut ask, state.deadline());
    }

    /// What has happened since the last time.
    fn events(&mut self) -> Vec<MasterEvent> {
        let mut events = vec![MasterEvent::Tick];
        while let Some(signal) = self.signals.take() {
            match signals::command(signal.number) {
                Some(Command::Stop) => events.push(MasterEvent::StopRequested),
                Some(Command::Reload) => {
                    self.warn("SIGHUP: the configuration cannot be read again yet; nothing is changed")
                }
                Some(Command::Unsupported) => self.warn(&signals::warning(signal.number)),
                Some(Command::Reap) => self.reap_children(&mut events),
                None => {}
            }
        }
        events
    }

    fn warn(&mut self, text: &str) {
        if let Some(own) = &mut self.own {
            own.log.warning(text);
        }
    }

    /// Reaps supervisors that have ended, and whom the dead left behind.
    fn reap_children(&mut self, events: &mut Vec<MasterEvent>) {
        for (pid, service) in self.pids.clone() {
            if let Ok(Some(ended)) = reap(pid) {
                self.pids.remove(&pid);
                self.ends.push((service, ended));
                events.push(MasterEvent::Ended(service));
            }
        }
        for pid in self.orphans() {
            // Still alive, or gone: either is fine.
            let _ = reap_ordinary(pid);
        }
    }

    /// What supervisors that have ended left behind.
    fn orphans(&self) -> Vec<i32> {
        let children = self.strangers.children();
        children.into_iter().filter(|pid| !self.pids.contains_key(pid)).collect()
    }

    /// Writes what there is to say about an event, now that it is answered.
    fn note(&mut self, event: MasterEvent, state: &MasterState) {
        let MasterEvent::Ended(service) = event else { return };
        // The kernel kills what the supervisor started, but not what that started.
        descendants::kill(|| self.orphans());
        let Some(at) = self.ends.iter().position(|(ended, _)| *ended == service) else { return };
        let (_, ended) = self.ends.swap_remove(at);
        let Some(own) = self.own.as_mut().filter(|_| !state.is_stopping()) else { return };
        let again_in = state.restart_in(service, Instant::now()).unwrap_or_default();
        let role = format!("service {}", self.services[service].name);
        own.log.restart(&role, ended.pid, &Outcome::new(ended.how, None), again_in);
    }

    fn apply(&mut self, action: MasterAction, state: &mut MasterState) {
        match action {
            MasterAction::Start(service) => {
                if let Err(why) = self.start(service, None) {
                    let error = cannot_start(&self.services[service].name, &why);
                    if let Some(own) = &mut self.own {
                        own.log.fatal(&error);
                    }
                    // It counts as one that died at once, so that the next try waits.
                    state.on(MasterEvent::Ended(service), Instant::now());
                }
            }
            MasterAction::CloseListeners => {
                self.services.iter_mut().for_each(|service| service.server.listeners.clear());
                if let Some(own) = &self.own {
                    own.ready.stopping();
                }
            }
            MasterAction::Ask => self.pids.keys().for_each(|pid| signal_one(*pid, Signal::TERM)),
            MasterAction::Kill => self.kill_all(),
        }
    }

    fn kill_all(&self) {
        self.pids.keys().for_each(|pid| signal_one(*pid, Signal::KILL));
    }

    /// After a start that failed: nothing of it is left when the error is told.
    fn wait_for_the_killed(&mut self) {
        let deadline = Instant::now() + KILL_WAIT;
        while !self.pids.is_empty() && Instant::now() < deadline {
            let Some(own) = &self.own else { return };
            let _ = wait::until(&mut [PollFd::new(&own.commands, PollFlags::IN)], Some(deadline));
            self.events();
        }
        descendants::kill(|| self.orphans());
    }

    fn finish(&mut self, services: usize) {
        descendants::kill(|| self.orphans());
        if let Some(own) = &mut self.own {
            own.log.stop_all(services);
        }
        // The program goes on as it was before. It was a valid mask, so this cannot fail.
        let _ = self.original_mask.make_mask();
    }
}
