//! Looking at the connections from time to time, and ending those whose client or whose time has gone.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::run::Supervisor;
use crate::connection::Connection;
use crate::error::HandlerError;
use crate::net::peer::Peer;
use crate::shared::board::Phase;
use crate::system::clock::now;
use crate::system::descendants;
use crate::system::signal::signal_group;
use crate::watch::state::Escalation;
use crate::watch::watcher::ConnectionSnapshot;

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Looks, if it is time to, and ends what has to end.
    pub(super) fn check_connections(&mut self) {
        let clock = Instant::now();
        if self.watcher.deadline(!self.people.no_connections()).is_none_or(|deadline| deadline > clock) {
            return;
        }
        self.drain_notices();
        let known = self.known(clock);
        for (at, verdict) in self.watcher.look(&known, clock) {
            let signals: &[Signal] = match verdict {
                // A stopped process cannot end by itself: it is woken.
                Escalation::Term => &[Signal::TERM, Signal::CONT],
                Escalation::Kill => &[Signal::KILL],
            };
            self.signal_family(&known[at], signals);
        }
    }

    fn known(&self, clock: Instant) -> Vec<ConnectionSnapshot> {
        let monotonic = now();
        let serving = self.people.in_slots().filter(|(_, slot)| self.board.phase(*slot) == Phase::Serving);
        serving
            .map(|(pid, slot)| {
                let entry = self.board.entry(slot);
                let age = Duration::from_nanos(monotonic.saturating_sub(entry.start));
                let socket = matches!(entry.peer, Peer::Tcp(_)).then(|| self.board.socket(slot));
                ConnectionSnapshot {
                    pid,
                    slot,
                    id: entry.id,
                    started: clock.checked_sub(age).unwrap_or(clock),
                    socket,
                }
            })
            .collect()
    }

    /// Signals a connection's process, its group, and its descendants elsewhere.
    fn signal_family(&mut self, of: &ConnectionSnapshot, signals: &[Signal]) {
        let cgroup = self.cgroup(of.slot);
        // Before the first signal: whose parent ends is harder to find.
        let outside = match (&cgroup, &self.settings.program) {
            (Some(cgroup), _) => descendants::outside_group_in(of.pid, cgroup.members()),
            (None, Some(_)) => descendants::outside(of.pid, of.id, &self.orphans_and_descendants()),
            (None, None) => Default::default(),
        };
        signals.iter().for_each(|signal| signal_group(of.pid, *signal));
        descendants::signal(&outside, signals);
        if let Some(cgroup) = cgroup.filter(|_| signals == [Signal::KILL]) {
            // Nobody forks out of this.
            cgroup.kill();
        }
    }
}
