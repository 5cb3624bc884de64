//! Programs that have exited while processes that they started live on.

use std::collections::BTreeSet;
use std::time::Instant;

use rustix::process::Signal;
use tine_sys::process::has_ended;

use super::Supervisor;
use super::children::ChildKind;
use super::state::ServerEvent;
use crate::connection::Connection;
use crate::error::HandlerError;
use crate::lifecycle::timing::KILL_AFTER;
use crate::program::KillMode;
use crate::system::cgroup::Cgroup;
use crate::system::descendants;

/// What remains of a program that has exited.
struct Remains {
    members: BTreeSet<i32>,
    cgroup: Option<Cgroup>,
}

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Checks the programs whose descendants got a signal.
    pub(super) fn check_lingering(&mut self, events: &mut Vec<ServerEvent>) {
        for pid in self.children.lingering.keys().copied().collect::<Vec<_>>() {
            self.reap_child(pid, events);
        }
    }

    /// Whether a program has exited and descendants of it still have to: these get TERM first, KILL
    /// later. Until then the program is not reaped, so that its id and that of its group stay its
    /// own, and it keeps its slot.
    pub(super) fn has_to_linger(&mut self, pid: i32) -> bool {
        let Some(remains) = self.remains_of(pid) else { return false };
        if remains.members.is_empty() {
            self.children.lingering.remove(&pid);
            return false;
        }
        let now = Instant::now();
        match self.children.lingering.get(&pid) {
            None => {
                let failed = descendants::signal(&remains.members, &[Signal::TERM, Signal::CONT]);
                self.log_not_signalled(failed);
                self.children.lingering.insert(pid, now + KILL_AFTER);
                self.fds.pidfds.forget(pid);
            }
            Some(kill_at) if *kill_at <= now => match &remains.cgroup {
                Some(cgroup) => cgroup.kill(),
                None => {
                    let failed = descendants::signal(&remains.members, &[Signal::KILL]);
                    self.log_not_signalled(failed);
                }
            },
            Some(_) => {}
        }
        true
    }

    /// The descendants of a program that has exited, as far as its kill mode concerns them; `None`
    /// if it has not exited, or none are to be killed.
    fn remains_of(&mut self, pid: i32) -> Option<Remains> {
        let Some(ChildKind::Slot(slot)) = self.children.table.kind(pid) else { return None };
        let kill_mode = self.settings.program.as_ref()?.kill_mode;
        let id = self.memory.board.entry(slot).id;
        let mode = match self.watcher.reason(slot, id) {
            Some(_) => KillMode::All,
            None => kill_mode,
        };
        if mode == KillMode::Process || !has_ended(pid) {
            return None;
        }
        let all = mode == KillMode::All;
        let cgroup = self.cgroup(slot).filter(|_| all);
        let members = match &cgroup {
            Some(cgroup) => cgroup.members(),
            None => descendants::remaining(pid, all.then_some(id), &self.orphans_and_descendants()),
        };
        Some(Remains { members, cgroup })
    }
}
