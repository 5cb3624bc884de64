//! Registers the processes that forkers create, and reaps every child.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tine_sys::process::{Ended, How, reap};

use super::Supervisor;
use super::children::ChildKind;
use super::held_ends::ConnectionEnd;
use super::role::Role;
use super::state::ServerEvent;
use crate::admission::penalty::Fault;
use crate::connection::handler::Handler;
use crate::ipc::board::SlotPhase;
use crate::ipc::board::places::PlaceHolder;
use crate::lifecycle::outcome::Outcome;
use crate::lifecycle::timing::REAP_BATCH;
use crate::log::{ByteCounts, Times, Usage};
use crate::system::cgroup::Cgroup;
use crate::system::clock::now;
use crate::system::{descendants, orphans};
use crate::watch::history::EndedConnection;

/// Exits of orphans are collected for this long before they are reaped.
const ORPHAN_BATCH: Duration = Duration::from_millis(50);

/// When orphans are looked for after the exit of a program, whose SIGCHLD hides theirs if it is
/// still pending. Rare enough to cost nothing where thousands of programs exit each second.
const COALESCED_ORPHANS: Duration = Duration::from_secs(1);

/// After a SIGCHLD that may stand for several exits, children are checked within this time.
const COALESCED: Duration = Duration::from_millis(50);

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Handles the notices that forkers and spares left on the board.
    pub(super) fn drain_notices(&mut self) {
        self.channels.supervisor.clear();
        let board = &self.memory.board;
        board.wakeup_handled();
        let mut changed = std::mem::take(&mut self.children.changed);
        board.take_changed(&mut changed);
        // The ids are read once: other processes write them, also during the sort.
        changed.sort_by_cached_key(|slot| board.entry(*slot).id);
        for slot in &changed {
            self.register_slot(*slot);
        }
        self.take_ends(&changed);
        self.children.changed = changed;
    }

    /// Records the connections that the workers in these slots have served.
    fn take_ends(&mut self, slots: &[usize]) {
        let board = &self.memory.board;
        if !board.has_ended() {
            return;
        }
        let mut ends = Vec::new();
        let mut crashes = Vec::new();
        for slot in slots {
            let before = ends.len();
            let lost = board.take_ends(*slot, &mut ends);
            self.history.count_unrecorded(lost.ends, lost.failures);
            // A worker that has panicked exits: its slot still has the note.
            let note = |end: &EndedConnection| Some((end.clone(), self.crash_note(*slot, &end.outcome)?));
            crashes.extend(ends[before..].iter().filter_map(note));
        }
        self.history.record_count(board.served_most());
        ends.iter().for_each(|end| self.handovers.note_end(end.id, None, Some(end.clone())));
        ends.sort_by_key(|end| (end.start + end.usage.duration.as_nanos() as u64, end.id));
        ends.into_iter().for_each(|end| self.history.record_end(end));
        crashes.iter().for_each(|(end, note)| self.report_crash(end, note));
    }

    /// Adds the process in a slot to the children, and logs the accept line if it serves a
    /// connection.
    fn register_slot(&mut self, slot: usize) {
        let board = &self.memory.board;
        match (board.pid(slot), board.owner(slot)) {
            // Released already.
            (_, None) => {}
            // Not forked yet: checked again later.
            (0, Some(_)) => board.mark_changed(slot),
            (pid, Some(_)) => {
                if self.children.table.add(pid, ChildKind::Slot(slot)) {
                    self.watch_exit(pid);
                }
                if self.memory.board.phase(slot) == SlotPhase::Serving {
                    self.log_accept(slot, pid);
                }
            }
        }
    }

    fn log_accept(&mut self, slot: usize, pid: i32) {
        // Workers log their connections themselves.
        if self.settings.reuse > 1 {
            return;
        }
        let entry = self.memory.board.entry(slot);
        let Some(count) = self.children.table.count_accept(slot, entry.id) else { return };
        self.tell_begin(slot, pid);
        let count = count + self.older.connections();
        self.history.record_count(count);
        if self.log.logs_connections() && !self.memory.admission.is_log_excluded(entry.peer) {
            let proxied = self.memory.board.proxied(slot);
            let limit = self.settings.max_connections;
            self.log.accept(entry.id, &entry.peer, proxied.as_ref(), pid, count, limit);
        }
    }

    /// Reaps the children that have exited, and starts the next batch.
    pub(super) fn reap_children(&mut self, events: &mut Vec<ServerEvent>) {
        let mut reaped = false;
        while let Some(signal) = self.fds.exits.take() {
            reaped = true;
            if let Some(pid) = signal.pid {
                self.reap_child(pid, events);
            }
        }
        for pid in self.fds.pidfds.take() {
            reaped = true;
            self.reap_child(pid, events);
        }
        self.timers.reap_at = reaped.then(|| Instant::now() + REAP_BATCH);
    }

    /// Watches for the exit of a process that executes a program: its signal will be SIGCHLD
    /// (execve(2)), and several of those are coalesced into one.
    fn watch_exit(&mut self, pid: i32) {
        if self.settings.program.is_some() {
            self.fds.pidfds.watch(pid);
        }
    }

    /// Handles SIGCHLD: an orphan has exited, or a program, whose exit is noticed by its
    /// descriptor. If some have none, every child is checked soon: signals are coalesced.
    pub(super) fn on_sigchld(&mut self, pid: Option<i32>, events: &mut Vec<ServerEvent>) {
        if self.fds.pidfds.has_unwatched() {
            pid.into_iter().for_each(|pid| self.reap_child(pid, events));
            self.timers.sweep_within(COALESCED);
        }
        // Orphans can wait, so that many are reaped together. The signal of a program may stand for
        // those of its descendants, too, which were coalesced with it.
        let is_orphan = pid.is_none_or(|pid| self.children.table.kind(pid).is_none());
        self.timers.orphans_within(if is_orphan { ORPHAN_BATCH } else { COALESCED_ORPHANS });
    }

    /// Reaps the orphans that have exited.
    pub(super) fn reap_orphans(&mut self) {
        self.timers.orphans_at = None;
        let orphans = self.orphans();
        if self.has_warm_program() && self.memory.board.awaits_copy() {
            // One of them may be the process of a connection that has ended at once.
            self.timers.orphans_within(ORPHAN_BATCH);
            return;
        }
        let reaped = orphans::reap(&orphans, |pid| self.is_own(pid));
        self.note_ended_templates(&reaped);
        for pid in reaped {
            self.children.not_signalled.remove(&pid);
        }
        self.children.populated_cgroups.retain(|cgroup| !cgroup.remove());
    }

    /// The cgroup of the connection in this slot.
    pub(super) fn cgroup(&self, slot: usize) -> Option<Cgroup> {
        let generation = self.memory.board.cgroup(slot);
        self.cgroups.as_ref().map(|cgroups| cgroups.of(slot, generation))
    }

    /// The processes that connections left behind: children that are in no slot and have no role.
    pub(super) fn orphans(&mut self) -> Vec<i32> {
        let mut children = self.children.preexisting.children();
        // Afterwards, every child that serves a connection is in the table.
        self.drain_notices();
        children.retain(|pid| !self.is_own(*pid));
        children
    }

    /// Whether a child was forked by the server.
    fn is_own(&self, pid: i32) -> bool {
        self.children.table.kind(pid).is_some()
            || self.log_writer.as_ref().is_some_and(|writer| writer.companion.is(pid))
            || self.observer.as_ref().is_some_and(|observer| observer.companion.is(pid))
            || self.fleet.link.as_ref().is_some_and(|link| link.companion.is(pid))
            || self.handovers.has_process(pid)
    }

    /// The orphans and their descendants.
    pub(super) fn orphans_and_descendants(&mut self) -> BTreeSet<i32> {
        descendants::orphans_and_descendants(|| self.orphans())
    }

    /// Checks every child, for exits whose signal was lost (`RLIMIT_SIGPENDING`, signal(7)).
    pub(super) fn sweep(&mut self, events: &mut Vec<ServerEvent>) {
        self.timers.sweep_done();
        let pids: Vec<i32> = self.children.table.pids().collect();
        for pid in pids {
            self.reap_child(pid, events);
        }
        self.reap_orphans();
    }

    pub(super) fn reap_child(&mut self, pid: i32, events: &mut Vec<ServerEvent>) {
        if self.children.table.kind(pid).is_none() {
            self.drain_notices();
        }
        if self.has_to_linger(pid) {
            return;
        }
        // Not a child, or reaped already: nothing to do.
        let Ok(Some(ended)) = reap(pid) else { return };
        self.fds.pidfds.forget(pid);
        self.children.not_signalled.remove(&pid);
        match self.children.table.remove(pid) {
            Some(ChildKind::Slot(slot)) => self.slot_ended(slot, &ended),
            Some(ChildKind::Role(Role::Control)) => self.control_ended(&ended),
            Some(ChildKind::Role(role)) => events.push(self.role_ended(role, &ended)),
            None => {}
        }
    }

    fn role_ended(&mut self, role: Role, ended: &Ended) -> ServerEvent {
        if let Role::Forker(index) = role {
            // The connections of its last notices are registered before its slots are released.
            self.drain_notices();
            let left: Vec<usize> = self.memory.board.unforked(index).collect();
            left.into_iter().for_each(|slot| _ = self.release_slot(slot));
            self.memory.board.return_place(PlaceHolder::Forker(index));
            self.memory.board.set_wants_slot(index, false);
            self.memory.board.forget_backlog_done(index);
            // Another forker may wait for one of these slots.
            self.channels.wake_forkers();
        }
        if let Role::JobWorker(index) = role {
            self.memory.members.end(self.settings.slots() + index);
        }
        self.children.ended_roles.push((role, *ended));
        ServerEvent::RoleEnded { role, done: ended.how == How::Exited(0) }
    }

    /// Frees the slot of a process that has exited, and logs the end of its connection. The line is
    /// composed before the slot is free and written after: a reader of the line finds a free slot.
    fn slot_ended(&mut self, slot: usize, ended: &Ended) {
        self.memory.members.end(slot);
        let served = self.memory.board.phase(slot) == SlotPhase::Serving;
        if served {
            self.log_accept(slot, ended.pid);
            if self.memory.board.has_ended() {
                self.memory.board.count_unserved();
            }
        }
        self.take_ends(&[slot]);
        let id = self.memory.board.entry(slot).id;
        self.note_copy_crash(slot, ended.how);
        let mut end = self.describe_end(slot, ended, served);
        if let Some(end) = &mut end {
            end.penalty = self.charge(end, ended.how);
        }
        if served || self.settings.reuse > 1 {
            let is_program = self.settings.program.is_some();
            let fault = end.as_ref().and_then(|end| Fault::of(ended.how, &end.outcome, is_program));
            self.handovers.note_end(id, fault, None);
        }
        self.free_slot(slot);
        self.wake_delayer();
        if served {
            self.children.table.count_end();
        }
        let end = end.and_then(|end| self.held_ends.complete_or_hold(end, Instant::now()));
        end.into_iter().for_each(|end| self.log_and_record(end));
    }

    /// Logs and records the ends that were held back and are complete by now; with `all`, each of
    /// them.
    pub(super) fn check_held_ends(&mut self, all: bool) {
        for end in self.held_ends.take(Instant::now(), all) {
            self.log_and_record(end);
        }
    }

    fn log_and_record(&mut self, end: ConnectionEnd) {
        self.note_fleet_end(end.entry.peer);
        self.log_end(&end);
        self.record(end);
    }

    /// Keeps what operators may ask for.
    fn record(&mut self, end: ConnectionEnd) {
        // A worker that was killed right after its connection has left the end of that.
        let is_left = self.memory.board.has_ended() && self.history.has_record(end.entry.id);
        // Also once the control socket is closed: the next generation has the record, too.
        if let Some(note) = end.crash.as_ref().filter(|_| !is_left) {
            self.report_crash(&end.record(), note);
        }
        if self.settings.keeps_records && !is_left {
            let record = end.record();
            self.handovers.note_end(record.id, None, Some(record.clone()));
            self.history.record_end(record);
        }
    }

    /// A control process has ended.
    fn control_ended(&mut self, ended: &Ended) {
        self.controllers.remove(ended.pid);
        self.killings.forget(ended.pid);
        self.log.control_ended(ended);
    }

    /// How a connection ended; `None` if that is neither logged nor charged.
    fn describe_end(&mut self, slot: usize, ended: &Ended, served: bool) -> Option<ConnectionEnd> {
        let entry = self.memory.board.entry(slot);
        let observed = self.watcher.forget(slot, entry.id);
        let killed = self.killings.take(slot, entry.id);
        let is_used = self.log.logs_connections()
            || self.memory.admission.has_penalties()
            || self.controllers.are_possible()
            || self.crash_reports.is_some();
        if !served || !is_used {
            return None;
        }
        let stats = self.memory.stats;
        let proxied = self.memory.board.proxied(slot);
        let outcome = match observed.and_then(|observed| observed.reason()).or(killed) {
            Some(reason) => Outcome::Ended(reason),
            None => Outcome::new(ended.how, stats.reported(slot)),
        };
        let cgroup = self.cgroup(slot).map(|cgroup| (cgroup, self.memory.board.cgroup(slot)));
        let outcome = self.reached.explain(outcome, ended, slot, cgroup);
        let now = now();
        let (bytes, first_byte) = match self.settings.program {
            None => {
                let counted = stats.bytes(slot).map(ByteCounts::of_process);
                (counted, stats.first_byte(slot, entry.start, now))
            }
            // Programs count nothing: what the kernel said at the last look.
            Some(_) => {
                let sample = observed.and_then(|observed| observed.sample()).map(ByteCounts::of_sample);
                (sample, observed.and_then(|observed| observed.first_byte()))
            }
        };
        let usage = Usage {
            duration: Duration::from_nanos(now.saturating_sub(entry.start)),
            bytes,
            cpu: ended.cpu,
            peak_kib: ended.peak_kib,
            times: Times { first_byte, waited: self.memory.board.waited(slot) },
            start_kind: self.start_kind(slot),
        };
        let crash = self.crash_note(slot, &outcome);
        Some(ConnectionEnd { entry, proxied, pid: ended.pid, outcome, usage, penalty: None, crash })
    }

    /// Charges the source of a connection for a fault. Returns the fault and the time of the
    /// penalty, if that is new.
    fn charge(&self, end: &ConnectionEnd, how: How) -> Option<(Fault, Duration)> {
        let fault = Fault::of(how, &end.outcome, self.settings.program.is_some())?;
        Some((fault, self.memory.admission.charge(end.entry.peer, fault)?))
    }

    fn log_end(&mut self, end: &ConnectionEnd) {
        let ConnectionEnd { entry, proxied, pid, outcome, usage, penalty, .. } = end;
        let board = &self.memory.board;
        let source = entry.peer.block(self.memory.admission.limits().aggregations.source);
        let left = || source.map_or(0, |source| board.slots_in(source).count());
        let is_logged = outcome.is_failure() || !self.memory.admission.is_log_excluded(entry.peer);
        if !self.log.end_of_peer(&entry.peer, *pid, outcome.wait_status(), left) && is_logged {
            self.log.end(entry.id, &entry.peer, proxied.as_ref(), *pid, outcome, usage);
        }
        let count = || board.count(SlotPhase::Serving, None);
        self.log.status(count, self.settings.max_connections);
        if let Some((fault, time)) = penalty {
            self.log.penalty(&entry.peer, fault.name(), *time);
            let (peer, time) = (entry.peer, *time);
            self.tell_penalty(peer, time);
        }
    }
}
