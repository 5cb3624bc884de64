//! What the supervisor notes and tells of a program that is started warm.

use tine_sys::process::How;

use super::Supervisor;
use crate::admission::penalty::is_crash_signal;
use crate::connection::handler::Handler;
use crate::ipc::board::warm::TemplateStatus;
use crate::log::StartKind;
use crate::processes::control::view::ProcessView;
use crate::system::procfs::ProcessUsage;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Whether a program is started warm.
    pub(super) fn has_warm_program(&self) -> bool {
        self.settings.warm().is_some()
    }

    /// How the process in a slot got its program; `None` if that is not started warm.
    pub(super) fn start_kind(&self, slot: usize) -> Option<StartKind> {
        self.has_warm_program().then(|| StartKind::of(self.memory.board.is_warm(slot)))
    }

    /// Has the forkers make new templates where a copy has died of a signal by its own fault: it
    /// may have told its client something of the template.
    pub(super) fn note_copy_crash(&self, slot: usize, how: How) {
        let board = &self.memory.board;
        let is_crash = matches!(how, How::Signaled(number) if is_crash_signal(number));
        if is_crash && board.is_warm(slot) {
            board.note_copy_crash();
            self.channels.wake_forkers();
        }
    }

    /// Notes which of these processes, which have exited, were templates: their forkers find that
    /// out at their next clients.
    pub(super) fn note_ended_templates(&self, reaped: &[i32]) {
        if self.has_warm_program() {
            reaped.iter().for_each(|pid| self.memory.board.note_ended_template(*pid));
        }
    }

    /// The templates that are ready, with the number of their forker.
    pub(super) fn templates(&self) -> impl Iterator<Item = ProcessView> + '_ {
        let forkers = if self.has_warm_program() { self.settings.forkers } else { 0 };
        (0..forkers).filter_map(|forker| match self.memory.board.template(forker) {
            TemplateStatus::Ready(pid) => {
                let (role, usage) = (format!("template {}", forker + 1), ProcessUsage::of(pid));
                Some(ProcessView { role, pid, restarts: 0, usage })
            }
            _ => None,
        })
    }
}
