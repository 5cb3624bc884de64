//! Applies what the state decided.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::role::Role;
use super::spawn::NewRole;
use super::state::{ServerAction, ServerEvent, ServerState};
use super::{DRAIN, Supervisor};
use crate::connection::handler::Handler;
use crate::error::{next_move, reason};
use crate::ipc::board::SlotPhase;
use crate::lifecycle::outcome::Outcome;
use crate::net::listener::Listener;
use crate::system::signal::{signal_group, signal_one};

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Logs the exit of a process with a role, once it is known when it is restarted.
    pub(super) fn log_role_end(&mut self, event: ServerEvent, state: &ServerState) {
        let ServerEvent::RoleEnded { role, done } = event else { return };
        let ended_roles = &mut self.children.ended_roles;
        let Some(at) = ended_roles.iter().position(|(ended, _)| *ended == role) else { return };
        let (_, ended) = ended_roles.swap_remove(at);
        if state.is_stopping() && done {
            self.end_channel_of(role);
        }
        if !state.restarts(done) {
            return;
        }
        let restart_in = state.restart_in(role, Instant::now()).unwrap_or_default();
        *self.children.restarts.entry(role).or_default() += 1;
        let outcome = Outcome::new(ended.how, None);
        self.log.restart(&role.log_name(), ended.pid, &outcome, restart_in);
    }

    /// Applies an action. In a process that it forked, returns its role.
    pub(super) fn apply(&mut self, action: ServerAction, state: &mut ServerState) -> Option<NewRole> {
        match action {
            ServerAction::Start(role) => return self.restart(role, state),
            ServerAction::Announce(delay) => self.announce_drain(delay),
            ServerAction::Drain => self.drain(state.time_to_finish()),
            ServerAction::Replace => self.be_replaced(),
            ServerAction::CloseListeners => self.close_listeners(),
            ServerAction::EndAll => self.end_all(),
            ServerAction::KillAll => self.kill_all(),
        }
        None
    }

    /// Closes the channel on which a helper has passed back its last client in a drain: when no
    /// process has the sending end any more, the forkers see the end of the channel.
    fn end_channel_of(&mut self, helper: Role) {
        match (helper, &mut self.channels.proxy_reader, &mut self.channels.delayer) {
            (Role::ProxyReader, Some(reader), _) => reader.identified_sender = None,
            (Role::Delayer, _, Some(delayer)) => delayer.released_sender = None,
            _ => {}
        }
    }

    fn restart(&mut self, role: Role, state: &mut ServerState) -> Option<NewRole> {
        match self.start(role, &mut None) {
            Ok(None) => {
                if let Role::Forker(index) = role {
                    self.wake_forker(index);
                }
                None
            }
            Ok(started) => started,
            Err(why) => {
                let what = format!("cannot start the {}", role.log_name());
                let next = format!("it is tried again; {}", next_move::of_call(&why));
                self.log.error(&what, &reason(&why), &next);
                // This counts as an exit right after the start, so that the next attempt waits.
                state.on(ServerEvent::RoleEnded { role, done: false }, Instant::now());
                None
            }
        }
    }

    /// Tells load balancers that a drain begins after a time: who asks for the phase learns it.
    fn announce_drain(&mut self, delay: Duration) {
        self.is_announced = true;
        self.log.announce(self.connections(), delay);
    }

    /// Begins to drain. Without a timeout, no service manager hears of it: it would set one.
    fn drain(&mut self, timeout: Option<Duration>) {
        if timeout.is_some() {
            self.ready.stopping();
            self.older.drain();
        }
        self.stop_handovers();
        let quota = if self.serves_backlog { self.clients_to_drain() } else { 0 };
        self.begin_drain(quota);
        // Not before: a reader of the line can rely on it.
        self.log.drain(self.connections(), timeout);
    }

    /// Has every process that accepts stop after these many clients.
    pub(super) fn begin_drain(&mut self, quota: u64) {
        self.drain_notices();
        self.memory.board.set_drain_quota(quota);
        self.memory.flags.set(DRAIN, 1);
        // Never cleared, so that every spare sees it, also one that is just being forked.
        let _ = rustix::io::write(&self.channels.retire, &1u64.to_ne_bytes());
        self.channels.wake_forkers();
        if quota == 0 {
            self.close_listeners();
        }
        if let Some(delayer) = &mut self.channels.delayer {
            delayer.wakeup.wake();
        }
    }

    /// The number of clients in the backlog that are still served.
    pub(super) fn clients_to_drain(&self) -> u64 {
        if self.memory.board.are_places_used() {
            return 0;
        }
        let backlog: u64 = self.listeners.iter().map(Listener::queued).fold(0, u64::saturating_add);
        let free = self.settings.max_connections.saturating_sub(self.connections());
        match self.settings.leaves_connections {
            true => backlog.min(free as u64),
            false => backlog,
        }
    }

    /// The connections that are served now.
    pub(super) fn connections(&self) -> usize {
        match self.settings.reuse > 1 {
            // Workers log their connections themselves.
            true => self.memory.board.count(SlotPhase::Serving, None),
            false => self.children.table.connections(),
        }
    }

    /// Replaces a proxy reader that takes no more proxies, as a stopped one does. The next one
    /// reads the headers of the proxies in the channel.
    pub(super) fn check_proxy_reader(&mut self) {
        if self.channels.proxy_reader.is_none() || !self.memory.board.take_proxy_reader_behind() {
            return;
        }
        let reader = self.children.table.roles().find(|(_, role)| *role == Role::ProxyReader);
        let Some((pid, _)) = reader else { return };
        // What other forkers note from now on is about one that is killed already.
        self.memory.board.number_proxy_reader();
        self.log.warning("the proxy reader has taken no proxy for a second: it is killed and restarted");
        self.log_not_signalled(signal_one(pid, Signal::KILL));
    }

    /// Closes the listeners here; the forkers close theirs when they see the same drain quota.
    pub(super) fn close_listeners(&mut self) {
        let in_workers = self.settings.reuse > 1 && self.settings.master.is_none();
        if in_workers && self.memory.board.are_places_used() {
            // Workers that serve a client close theirs when it ends, which can take any time.
            self.listeners.iter().for_each(Listener::shut_down);
        }
        if !self.listeners.is_empty() {
            self.listeners.clear();
            self.channels.wake_forkers();
        }
    }

    /// Stops accepting and asks the connections to end. A stopped process cannot handle TERM: CONT
    /// wakes it.
    fn end_all(&mut self) {
        self.ends_connections = true;
        let bringers = self.children.table.roles().filter(|(_, role)| role.brings_clients());
        let mut failed: Vec<_> = bringers.filter_map(|(pid, _)| signal_one(pid, Signal::KILL)).collect();
        self.drain_notices();
        for (pid, _) in self.children.table.in_slots() {
            failed.extend(signal_group(pid, Signal::TERM));
            failed.extend(signal_group(pid, Signal::CONT));
        }
        self.log_not_signalled(failed);
    }

    pub(super) fn kill_all(&mut self) {
        self.ends_connections = true;
        self.drain_notices();
        // Not the cgroup cleaner: it kills what is left in the cgroups, and then exits.
        let roles = self.children.table.roles().filter(|(_, role)| *role != Role::CgroupCleaner);
        let mut failed: Vec<_> = roles.filter_map(|(pid, _)| signal_one(pid, Signal::KILL)).collect();
        let in_slots = self.children.table.in_slots();
        failed.extend(in_slots.filter_map(|(pid, _)| signal_group(pid, Signal::KILL)));
        self.log_not_signalled(failed);
    }

    pub(super) fn wake_forker(&self, forker: usize) {
        if let Some(control) = self.channels.controls.get(forker) {
            control.wake();
        }
    }
}
