//! What the supervisor notes of a program that is started warm.

use tine_sys::process::How;

use super::Supervisor;
use crate::admission::penalty::is_crash_signal;
use crate::connection::handler::Handler;
use crate::log::StartKind;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Whether a program is started warm.
    pub(super) fn has_warm_program(&self) -> bool {
        self.settings.program.as_ref().is_some_and(|program| program.warm.is_some())
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
}
