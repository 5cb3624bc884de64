//! Programs that have exited while processes that they started live on.

use std::collections::BTreeSet;
use std::time::Instant;

use rustix::process::Signal;
use tine_sys::process::has_ended;

use super::Supervisor;
use super::lingering::{Found, LingerAction, Lingering};
use super::state::ServerEvent;
use crate::connection::handler::Handler;
use crate::program::KillMode;
use crate::system::cgroup::Cgroup;
use crate::system::descendants;

/// What remains of a program that has exited.
struct Remains {
    members: BTreeSet<i32>,
    /// Whether there may be other members.
    may_have_more: bool,
    cgroup: Option<Cgroup>,
}

impl Remains {
    fn found(&self) -> Found {
        match (self.members.is_empty(), self.may_have_more) {
            (false, _) => Found::Descendants,
            (true, true) => Found::Undecided,
            (true, false) => Found::Nothing,
        }
    }
}

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Checks the programs whose descendants got a signal.
    pub(super) fn check_lingering(&mut self, events: &mut Vec<ServerEvent>) {
        for pid in self.children.lingering.keys().copied().collect::<Vec<_>>() {
            self.reap_child(pid, events);
        }
    }

    /// Whether a program, or descendants of it, still have to exit: the latter get TERM first, KILL
    /// later. Until then the program is not reaped, so that its id and that of its group stay its
    /// own, and it keeps its slot.
    pub(super) fn has_to_linger(&mut self, pid: i32) -> bool {
        let Some((mode, slot)) = self.kill_mode_of(pid) else { return false };
        if !has_ended(pid) {
            // If it ends a moment later, it must not be reaped without a look at its descendants.
            return true;
        }
        let remains = self.remains_of(pid, mode, slot);
        let before = self.children.lingering.get(&pid).copied();
        let (next, action) = Lingering::next(before, remains.found(), Instant::now());
        match action {
            LingerAction::Release | LingerAction::Wait => {}
            LingerAction::Terminate => {
                let signals = [Signal::TERM, Signal::CONT];
                let others = || self.remains_of(pid, mode, slot).members;
                let failed = descendants::signal_all(remains.members, &signals, others);
                self.log_not_signalled(failed);
            }
            LingerAction::Kill => match &remains.cgroup {
                Some(cgroup) => cgroup.kill(),
                None => {
                    let others = || self.remains_of(pid, mode, slot).members;
                    let failed = descendants::signal_all(remains.members, &[Signal::KILL], others);
                    self.log_not_signalled(failed);
                }
            },
        }
        match next {
            Some(next) => {
                self.children.lingering.insert(pid, next);
                // It is looked at in intervals from now on.
                self.fds.pidfds.forget(pid);
            }
            None => {
                self.children.lingering.remove(&pid);
            }
        }
        action != LingerAction::Release
    }

    /// The kill mode of a program and its slot; `None` where its descendants are left alone, or for
    /// another process.
    fn kill_mode_of(&self, pid: i32) -> Option<(KillMode, usize)> {
        let slot = self.children.table.slot(pid)?;
        let kill_mode = self.settings.program.as_ref()?.kill_mode;
        let id = self.memory.board.entry(slot).id;
        let mode = match self.watcher.reason(slot, id).or(self.killings.reason(slot, id)) {
            Some(_) => KillMode::All,
            None => kill_mode,
        };
        (mode != KillMode::Process).then_some((mode, slot))
    }

    /// The descendants of a program that has exited, as far as its kill mode concerns them.
    fn remains_of(&mut self, pid: i32, mode: KillMode, slot: usize) -> Remains {
        let id = self.memory.board.entry(slot).id;
        let all = mode == KillMode::All;
        let cgroup = self.cgroup(slot).filter(|_| all);
        if let Some(cgroup) = cgroup {
            let members = cgroup.members();
            return Remains { members, may_have_more: false, cgroup: Some(cgroup) };
        }
        let connection = all.then_some(id);
        let remaining = descendants::remaining(pid, connection, || self.orphans_and_descendants());
        Remains { members: remaining.members, may_have_more: remaining.may_have_more, cgroup: None }
    }
}
