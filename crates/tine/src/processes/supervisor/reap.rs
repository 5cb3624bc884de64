//! Getting to know the processes of connections, and taking note of their ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tine_sys::process::{Ended, How, has_ended, reap, reap_ordinary};

use super::children::Role;
use super::run::Supervisor;
use super::state::Event;
use crate::admission::penalty::Fault;
use crate::connection::Connection;
use crate::error::HandlerError;
use crate::lifecycle::outcome::{EndReason, Outcome};
use crate::lifecycle::timing::{KILL_AFTER, REAP_BATCH};
use crate::log::Usage;
use crate::net::peer::Peer;
use crate::processes::delayer;
use crate::program::KillMode;
use crate::shared::board::{Entry, Phase};
use crate::system::cgroup::Cgroup;
use crate::system::clock::now;
use crate::system::descendants;

/// Orphans are reaped together for so long.
const ORPHANS: Duration = Duration::from_millis(50);

/// How often children are looked at where their ends cannot be waited for.
const SWEEP_SOON: Duration = Duration::from_secs(1);

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Takes note of what forkers and spares wrote on the board.
    pub(super) fn drain_notices(&mut self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.board.wakeup_handled();
        let mut changed = std::mem::take(&mut self.changed);
        self.board.take_changed(&mut changed);
        // Each number is read once: others write them, also while this sorts.
        changed.sort_by_cached_key(|slot| self.board.entry(*slot).id);
        for slot in &changed {
            self.register_slot(*slot);
        }
        self.changed = changed;
    }

    /// Gets to know the process in a slot, and writes its accept line if it serves a connection.
    fn register_slot(&mut self, slot: usize) {
        match (self.board.pid(slot), self.board.owner(slot)) {
            // Given back already; or not forked yet, then it is looked at again.
            (_, None) => {}
            (0, Some(_)) => self.board.mark_changed(slot),
            (pid, Some(_)) => {
                if self.people.add(pid, Role::Slot(slot)) {
                    self.watch_exit(pid);
                }
                if self.board.phase(slot) == Phase::Serving {
                    self.log_accept_once(slot, pid);
                }
            }
        }
    }

    fn log_accept_once(&mut self, slot: usize, pid: i32) {
        // Processes that serve many write their lines themselves.
        if self.settings.reuse > 1 {
            return;
        }
        let entry = self.board.entry(slot);
        if let Some(count) = self.people.log_accept_once(slot, entry.id)
            && self.log.logs_connections()
        {
            self.log.accept(entry.id, &entry.peer, pid, count, self.settings.max_connections);
        }
    }

    // The ends of processes.

    pub(super) fn reap_children(&mut self, events: &mut Vec<Event>) {
        let mut some = false;
        while let Some(signal) = self.end_set.take() {
            some = true;
            if let Some(pid) = signal.pid {
                self.reap_child(pid, events);
            }
        }
        for pid in self.own.as_mut().map(|own| own.exits.take()).unwrap_or_default() {
            some = true;
            self.reap_child(pid, events);
        }
        self.gather_until = some.then(|| Instant::now() + REAP_BATCH);
    }

    /// Has the end of a process noticed that executes a program. Its signal will be SIGCHLD (execve(2)),
    /// of which the kernel keeps one for many.
    fn watch_exit(&mut self, pid: i32) {
        if self.settings.program.is_none() {
            return;
        }
        let watched = self.own.as_mut().is_none_or(|own| own.exits.watch(pid).is_ok());
        if !watched {
            // No descriptor to be had: its end is found when every child is looked at.
            self.sweep_every = SWEEP_SOON;
            self.sweep_at = self.sweep_at.min(Instant::now() + SWEEP_SOON);
        }
    }

    /// A child with an ordinary exit signal has ended: an orphan, or a program, whose end is noticed
    /// otherwise.
    pub(super) fn on_sigchld(&mut self, pid: Option<i32>) {
        if pid.is_none_or(|pid| self.people.role(pid).is_none()) {
            // Perhaps a program that has been reaped with others. Orphans can wait, and many do at a time.
            self.orphans_at.get_or_insert_with(|| Instant::now() + ORPHANS);
        }
    }

    /// Reaps the orphans that have ended.
    pub(super) fn reap_orphans(&mut self) {
        self.orphans_at = None;
        for pid in self.orphans() {
            // Still alive, or gone: either is fine.
            let _ = reap_ordinary(pid);
        }
        self.outlived.retain(|cgroup| !cgroup.remove());
    }

    /// The cgroup of the connection in this slot.
    pub(super) fn cgroup(&self, slot: usize) -> Option<Cgroup> {
        self.cgroups.as_ref().map(|cgroups| cgroups.of(slot, self.board.cgroup(slot)))
    }

    /// The processes that connections have left behind: children of this process that are nobody's.
    pub(super) fn orphans(&mut self) -> Vec<i32> {
        let mut children = self.strangers.children();
        // Who is a child by now and serves a connection is known after this.
        self.drain_notices();
        children.retain(|pid| self.people.role(*pid).is_none());
        children
    }

    /// The orphans and their descendants.
    pub(super) fn orphans_and_descendants(&mut self) -> BTreeSet<i32> {
        descendants::orphans_and_descendants(|| self.orphans())
    }

    /// Looks at every child, for ends whose signal was lost (`RLIMIT_SIGPENDING`, signal(7)).
    pub(super) fn sweep(&mut self, events: &mut Vec<Event>) {
        self.sweep_at = Instant::now() + self.sweep_every;
        let pids: Vec<i32> = self.people.pids().collect();
        for pid in pids {
            self.reap_child(pid, events);
        }
        self.reap_orphans();
    }

    fn reap_child(&mut self, pid: i32, events: &mut Vec<Event>) {
        if self.people.role(pid).is_none() {
            self.drain_notices();
        }
        if self.lingers(pid) {
            return;
        }
        // Not ours, or reaped already: nothing to be done.
        let Ok(Some(ended)) = reap(pid) else { return };
        if let Some(own) = &mut self.own {
            own.exits.forget(pid);
        }
        match self.people.remove(pid) {
            Some(Role::Slot(slot)) => self.slot_ended(slot, &ended),
            Some(Role::Helper(helper)) => {
                events.push(self.helper_ended(helper, &ended));
            }
            None => {}
        }
    }

    /// Whether a program has ended and descendants of it are still to end. Then it is not reaped: its
    /// number, and with it that of its group, stay its own, and so does its place.
    fn lingers(&mut self, pid: i32) -> bool {
        let Some((Role::Slot(slot), program)) = self.people.role(pid).zip(self.settings.program.as_ref())
        else {
            return false;
        };
        let id = self.board.entry(slot).id;
        let mode = match self.watcher.reason(slot, id) {
            Some(_) => KillMode::All,
            None => program.kill_mode,
        };
        if mode == KillMode::Process || !has_ended(pid) {
            return false;
        }
        let all = mode == KillMode::All;
        let cgroup = self.cgroup(slot).filter(|_| all);
        let left = match &cgroup {
            Some(cgroup) => cgroup.members(),
            None => descendants::remaining(pid, all.then_some(id), &self.orphans_and_descendants()),
        };
        if left.is_empty() {
            self.lingering.remove(&pid);
            return false;
        }
        let now = Instant::now();
        match self.lingering.get(&pid) {
            None => {
                descendants::signal(&left, &[Signal::TERM, Signal::CONT]);
                self.lingering.insert(pid, now + KILL_AFTER);
                if let Some(own) = &mut self.own {
                    own.exits.forget(pid);
                }
            }
            Some(kill_at) if *kill_at <= now => match &cgroup {
                Some(cgroup) => cgroup.kill(),
                None => descendants::signal(&left, &[Signal::KILL]),
            },
            Some(_) => {}
        }
        true
    }

    /// Looks again at programs whose descendants were told to end.
    pub(super) fn check_lingering(&mut self, events: &mut Vec<Event>) {
        for pid in self.lingering.keys().copied().collect::<Vec<_>>() {
            self.reap_child(pid, events);
        }
    }

    fn slot_ended(&mut self, slot: usize, ended: &Ended) {
        let phase = self.board.phase(slot);
        let served = phase == Phase::Serving;
        if served {
            self.log_accept_once(slot, ended.pid);
        }
        // The line is put together from the slot, and written when it is free: whoever reads that a
        // connection has ended finds room.
        let reason = self.watcher.forget(slot, self.board.entry(slot).id);
        let is_told = self.log.logs_connections() || self.door.charges();
        let line = (served && is_told).then(|| self.end_line(slot, ended, reason));
        let penalty =
            line.as_ref().and_then(|(entry, outcome, _)| self.charge(entry.peer, ended.how, outcome));
        let owner = self.board.owner(slot);
        if let Some(cgroup) = self.cgroup(slot).filter(Cgroup::is_populated) {
            // The next one in this slot is not to be taken for what lives on.
            self.board.change_cgroup(slot);
            self.outlived.push(cgroup);
        }
        self.board.release(slot);
        for forker in 0..self.controls.len() {
            let misses_a_spare = phase == Phase::Waiting && owner == Some(forker);
            if misses_a_spare || self.board.wants_slot(forker) {
                self.board.set_wants_slot(forker, false);
                self.ring(forker);
            }
        }
        if let Some(delays) = self.delays.as_ref().filter(|_| self.board.delayer_wants_slot()) {
            delayer::ring(&delays.bell);
        }
        if served {
            self.people.log_end();
        }
        if let Some((entry, outcome, spent)) = line {
            self.log.end(entry.id, &entry.peer, ended.pid, &outcome, &spent);
            self.log.status(|| self.board.count(Phase::Serving, None), self.settings.max_connections);
            if let Some((fault, time)) = penalty {
                self.log.penalty(&entry.peer, fault.word(), time);
            }
        }
    }

    /// Charges the source of a connection that ended badly. Says what for, and how long it may not come, if that is new.
    fn charge(&self, peer: Peer, how: How, outcome: &Outcome) -> Option<(Fault, Duration)> {
        // What a program received is not known; the reports of handlers are not its.
        let is_known = |fault: &Fault| *fault != Fault::NoAuth || self.settings.program.is_none();
        let fault = Fault::of(how, outcome).filter(is_known)?;
        Some((fault, self.door.charge(peer, fault)?))
    }

    fn end_line(&self, slot: usize, ended: &Ended, reason: Option<EndReason>) -> (Entry, Outcome, Usage) {
        let entry = self.board.entry(slot);
        let display = self.board.display();
        let outcome = match reason {
            Some(reason) => Outcome::Ended(reason),
            None => Outcome::new(ended.how, display.reported(slot)),
        };
        let spent = Usage {
            duration: Duration::from_nanos(now().saturating_sub(entry.start)),
            bytes: display.bytes(slot).filter(|_| self.settings.program.is_none()),
            cpu: ended.cpu,
            peak_kib: ended.peak_kib,
        };
        (entry, outcome, spent)
    }
}
