//! Reports the steps of a hand-over: to the log, to the service manager, and to the control process
//! that waits for the end.

use super::state::Failure;
use crate::lifecycle::ready::Ready;
use crate::log::Log;
use crate::processes::control::controllers::Controllers;

/// What an operator is told whose reload has nothing to change.
const UNCHANGED: &str = "nothing has changed";

/// Where the first process of a server reports to.
pub(crate) struct HandoverReport<'a> {
    pub(crate) log: &'a mut Log,
    pub(crate) ready: &'a mut Ready,
    pub(crate) controllers: &'a mut Controllers,
}

impl HandoverReport<'_> {
    /// Reports that a hand-over begins, with the id of the new process, or why it cannot.
    pub(crate) fn begun(&mut self, begun: Result<i32, Failure>, is_reload: bool, asked_by: Option<i32>) {
        match begun {
            Ok(pid) => {
                self.ready.reloading();
                self.log.handover_begins(is_reload, pid);
            }
            Err(failure) => {
                self.ready.not_begun(asked_by, &failure.text);
                self.failed(&failure, asked_by);
            }
        }
    }

    /// Reports that a reload has nothing to change.
    pub(crate) fn unchanged(&mut self, asked_by: Option<i32>) {
        self.ready.ready_again(None);
        self.controllers.answer_handover(asked_by, 0, UNCHANGED);
    }

    /// Reports that this generation goes on.
    pub(crate) fn cancelled(&mut self, failure: &Failure, asked_by: Option<i32>) {
        self.ready.ready_again(Some(&failure.text));
        self.failed(failure, asked_by);
    }

    /// Reports that another process serves. `connections` are left in this one, where it knows
    /// them; `stays` if it ends after the other one.
    pub(crate) fn replaced(
        &mut self,
        (pid, build): (i32, &str),
        connections: Option<usize>,
        stays: bool,
        asked_by: Option<i32>,
    ) {
        self.log.handed_over(pid, build, connections);
        self.ready.replaced(pid, stays);
        let text = format!("pid {pid} serves now, version {build}");
        self.controllers.answer_handover(asked_by, 0, &text);
    }

    fn failed(&mut self, failure: &Failure, asked_by: Option<i32>) {
        self.log.handover_failed(&failure.text);
        self.controllers.answer_handover(asked_by, failure.code, &failure.text);
    }
}
