//! Headers of the PROXY protocol: sent on a new connection, before its first byte.

use super::Worker;
use crate::plan::script::Cut;

impl Worker<'_> {
    /// Sends the header of a new connection, if the load has headers. False if that fails, which
    /// ends the connection. The header counts neither as a message nor among the bytes sent.
    pub(super) fn send_header(&mut self, at: usize) -> bool {
        let Some(headers) = &self.work.load.proxy else { return true };
        let Some(socket) = &self.slots[at].socket else { return false };
        let number = self.slots[at].number;
        match headers.send(socket, self.endpoint(at), number, self.sends_at_once(at)) {
            Ok(()) => true,
            Err(errno) => {
                self.failed(at, errno);
                false
            }
        }
    }

    /// Whether a message follows the header without a pause.
    fn sends_at_once(&self, at: usize) -> bool {
        let script = self.script(at);
        let is_cut = self.is_cut_at(at, Cut::Connected);
        let waits = !script.from_connect && self.schedule.is_some();
        script.exchanges != Some(0) && !script.has_empty_message() && !waits && !is_cut
    }
}
