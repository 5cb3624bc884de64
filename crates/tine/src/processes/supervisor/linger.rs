//! Programs that have exited while processes that they started live on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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

/// A process that begins to execute a program for longer than this is no descendant: it hides.
const UNDECIDED_FOR: Duration = Duration::from_secs(1);

/// A program that has exited while descendants live, or may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lingering {
    /// It is decided until this time whether a process is a descendant.
    Undecided(Instant),
    /// The descendants got TERM, and are killed at this time.
    Terminating(Instant),
}

/// What is found of a program that has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A process that may be a descendant.
    Undecided,
    Descendants,
}

/// What to do about a program that has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LingerAction {
    /// Reap it.
    Release,
    Wait,
    Terminate,
    Kill,
}

impl Lingering {
    /// The next state of a program, and what to do.
    fn next(before: Option<Lingering>, found: Found, now: Instant) -> (Option<Lingering>, LingerAction) {
        use Lingering::{Terminating, Undecided};
        match (before, found) {
            (_, Found::Nothing) => (None, LingerAction::Release),
            (None, Found::Undecided) => (Some(Undecided(now + UNDECIDED_FOR)), LingerAction::Wait),
            (Some(Undecided(until)), Found::Undecided) if until <= now => (None, LingerAction::Release),
            (Some(Terminating(kill_at)), Found::Undecided) if kill_at + UNDECIDED_FOR <= now => {
                (None, LingerAction::Release)
            }
            (None | Some(Undecided(_)), Found::Descendants) => {
                (Some(Terminating(now + KILL_AFTER)), LingerAction::Terminate)
            }
            (Some(Terminating(kill_at)), Found::Descendants) if kill_at <= now => {
                (before, LingerAction::Kill)
            }
            _ => (before, LingerAction::Wait),
        }
    }
}

/// What remains of a program that has exited.
struct Remains {
    members: BTreeSet<i32>,
    /// Whether other processes may be members.
    are_any_undecided: bool,
    cgroup: Option<Cgroup>,
}

impl Remains {
    fn found(&self) -> Found {
        match (self.members.is_empty(), self.are_any_undecided) {
            (false, _) => Found::Descendants,
            (true, true) => Found::Undecided,
            (true, false) => Found::Nothing,
        }
    }
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
                let failed = descendants::signal(&remains.members, &[Signal::TERM, Signal::CONT]);
                self.log_not_signalled(failed);
            }
            LingerAction::Kill => match &remains.cgroup {
                Some(cgroup) => cgroup.kill(),
                None => {
                    let failed = descendants::signal(&remains.members, &[Signal::KILL]);
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
        let Some(ChildKind::Slot(slot)) = self.children.table.kind(pid) else { return None };
        let kill_mode = self.settings.program.as_ref()?.kill_mode;
        let mode = match self.watcher.reason(slot, self.memory.board.entry(slot).id) {
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
            return Remains { members, are_any_undecided: false, cgroup: Some(cgroup) };
        }
        let remaining = descendants::remaining(pid, all.then_some(id), &self.orphans_and_descendants());
        Remains { members: remaining.members, are_any_undecided: remaining.are_any_undecided, cgroup: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_get_term_then_kill_and_what_is_undecided_is_waited_for() {
        use Found::{Descendants, Nothing, Undecided};
        use LingerAction::{Kill, Release, Terminate, Wait};

        let start = Instant::now();
        for script in [
            &[(0, Nothing, Release)][..],
            &[
                (0, Descendants, Terminate),
                (1, Descendants, Wait),
                (2000, Descendants, Kill),
                (2025, Nothing, Release),
            ],
            &[
                (0, Undecided, Wait),
                (25, Descendants, Terminate),
                (2000, Descendants, Wait),
                (2025, Descendants, Kill),
            ],
            &[(0, Undecided, Wait), (25, Nothing, Release)],
            &[(0, Undecided, Wait), (999, Undecided, Wait), (1000, Undecided, Release)],
            &[(0, Descendants, Terminate), (2000, Undecided, Wait), (3000, Undecided, Release)],
        ] {
            let mut state = None;
            for (at, found, action) in script {
                let (next, taken) = Lingering::next(state, *found, start + Duration::from_millis(*at));
                assert_eq!(taken, *action, "{script:?} at {at}");
                assert_eq!(next.is_none(), taken == Release);
                state = next;
            }
        }
    }
}
