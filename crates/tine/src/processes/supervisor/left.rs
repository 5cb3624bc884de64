//! Processes that the supervisor cannot end: one line for each, and an account of them at the stop.

use std::collections::BTreeSet;

use super::Supervisor;
use crate::connection::handler::Handler;
use crate::error::{Error, reason};
use crate::processes::handover::generations::Generations;
use crate::system::descendants;
use crate::system::procfs::Stat;
use crate::system::signal::{NotSignalled, processes_are_left};

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Logs the processes that could not be signalled, each once.
    pub(super) fn log_not_signalled(&mut self, failed: impl IntoIterator<Item = NotSignalled>) {
        for NotSignalled { pid, why } in failed {
            if self.children.not_signalled.insert(pid, why).is_none() {
                let next = "it runs as another user (set-user-ID?): end it as that user or as root";
                self.log.error(&format!("cannot end pid {pid}"), &reason(&why.into()), next);
            }
        }
    }

    /// Kills what connections have left behind, at the end of a stop.
    ///
    /// # Errors
    /// Processes are left that could not be ended.
    pub(super) fn end_what_is_left(&mut self) -> Result<(), Error> {
        self.handovers.generations.iter_mut().for_each(Generations::learn_newer);
        let failed = descendants::kill(|| self.orphans());
        let in_slots = self.children.table.in_slots().map(|(pid, _)| pid);
        let left: BTreeSet<i32> =
            in_slots.filter(|pid| runs(*pid)).chain(failed.iter().map(|failed| failed.pid)).collect();
        self.log_not_signalled(failed);
        if left.is_empty() {
            return Ok(());
        }
        let why = left.iter().find_map(|pid| self.children.not_signalled.get(pid)).copied();
        Err(processes_are_left(&left, why))
    }
}

/// Whether a process has not exited.
fn runs(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.has_ended())
}
