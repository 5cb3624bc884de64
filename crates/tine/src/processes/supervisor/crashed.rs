//! Has the crashes of connections reported.

use super::Supervisor;
use crate::connection::handler::Handler;
use crate::lifecycle::crash::CrashNote;
use crate::lifecycle::outcome::Outcome;
use crate::watch::crash::is_crash;
use crate::watch::history::EndedConnection;

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// What the process of a slot has noted about its crash; `None` if there is to be no report.
    pub(super) fn crash_note(&self, slot: usize, outcome: &Outcome) -> Option<CrashNote> {
        // The signals with which the server ends its connections are no crashes.
        let is_reported = self.crash_reports.is_some() && !self.ends_connections && is_crash(outcome);
        let signal = match outcome {
            Outcome::Signal(number) => Some(*number),
            _ => None,
        };
        is_reported.then(|| self.memory.stats.crash_note(slot, signal))
    }

    /// Has the crash of a connection reported.
    pub(super) fn report_crash(&mut self, end: &EndedConnection, note: &CrashNote) {
        if let (Some(reports), Some(channel)) = (&mut self.crash_reports, &self.channels.crashes) {
            reports.send(end, note, &channel.sender);
        }
    }
}
