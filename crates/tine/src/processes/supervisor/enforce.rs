//! Monitors connections from outside, and ends those whose client has disconnected or whose time is
//! over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Supervisor;
use crate::connection::handler::Handler;
use crate::ipc::board::SlotPhase;
use crate::net::peer::Peer;
use crate::system::clock::now;
use crate::system::descendants;
use crate::system::signal::signal_group;
use crate::watch::state::Escalation;
use crate::watch::watcher::ConnectionSnapshot;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Checks the connections, if that is due, and signals those that have to end.
    pub(super) fn check_connections(&mut self) {
        let clock = Instant::now();
        if self
            .watcher
            .deadline(!self.children.table.are_slots_empty())
            .is_none_or(|deadline| deadline > clock)
        {
            return;
        }
        self.drain_notices();
        let snapshots = self.snapshots(clock);
        let due = self.watcher.look(&snapshots, clock);
        let others = if due.is_empty() { BTreeSet::new() } else { self.others_of_programs() };
        for (at, escalation) in due {
            let signals: &[Signal] = match escalation {
                // A stopped process cannot handle TERM: CONT wakes it.
                Escalation::Term => &[Signal::TERM, Signal::CONT],
                Escalation::Kill => &[Signal::KILL],
            };
            self.signal_descendants(&snapshots[at], signals, &others);
        }
    }

    pub(super) fn snapshots(&self, clock: Instant) -> Vec<ConnectionSnapshot> {
        let monotonic = now();
        let serving = self
            .children
            .table
            .in_slots()
            .filter(|(_, slot)| self.memory.board.phase(*slot) == SlotPhase::Serving);
        serving
            .map(|(pid, slot)| {
                let entry = self.memory.board.entry(slot);
                let age = Duration::from_nanos(monotonic.saturating_sub(entry.start));
                let proxied = self.memory.board.proxied(slot);
                // The other end of the socket: a TCP client can have a proxy over a Unix socket.
                let peer = proxied.map_or(entry.peer, |proxied| proxied.proxy);
                let has_note = self.settings.notes_sockets && matches!(peer, Peer::Tcp(_));
                let socket = has_note.then(|| self.memory.board.socket(slot));
                ConnectionSnapshot {
                    pid,
                    slot,
                    id: entry.id,
                    started: clock.checked_sub(age).unwrap_or(clock),
                    peer,
                    socket,
                    header: proxied.map_or(0, |proxied| proxied.header),
                }
            })
            .collect()
    }

    /// The processes among which a program's descendants are looked for, beside its own children;
    /// none where cgroups tell them. One search for all connections that get a signal at a time: it
    /// reads the entries of every child.
    pub(super) fn others_of_programs(&mut self) -> BTreeSet<i32> {
        match (&self.cgroups, &self.settings.program) {
            (None, Some(_)) => self.orphans_and_descendants(),
            _ => BTreeSet::new(),
        }
    }

    /// Signals a connection's process, its group, and its descendants in other groups, also those
    /// among `others`.
    pub(super) fn signal_descendants(
        &mut self,
        of: &ConnectionSnapshot,
        signals: &[Signal],
        others: &BTreeSet<i32>,
    ) {
        let cgroup = self.cgroup(of.slot);
        // Searched before the first signal: a process whose parent has exited is harder to find.
        let outside = match (&cgroup, &self.settings.program) {
            (Some(cgroup), _) => descendants::outside_group_in(of.pid, cgroup.members()),
            (None, Some(_)) => descendants::outside(of.pid, of.id, others),
            (None, None) => Default::default(),
        };
        let mut failed: Vec<_> = signals.iter().filter_map(|signal| signal_group(of.pid, *signal)).collect();
        failed.extend(descendants::signal(&outside, signals));
        self.log_not_signalled(failed);
        if let Some(cgroup) = cgroup.filter(|_| signals == [Signal::KILL]) {
            // No process can fork out of this.
            cgroup.kill();
        }
    }
}
