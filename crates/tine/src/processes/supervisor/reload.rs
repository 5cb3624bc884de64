//! Reloads the access rules: after a change of their files, and at SIGHUP, which also has the log
//! file opened again.

use super::Supervisor;
use crate::connection::handler::Handler;
use crate::error::Error;
use crate::processes::log_writer::LogWriter;

/// The warning where SIGHUP has no effect.
const NOTHING: &str = "SIGHUP: there are no files of access rules to reload; nothing is changed";

impl<H> Supervisor<'_, H>
where
    H: Handler,
{
    /// Reads the rules again if a file has changed.
    pub(super) fn check_rules(&mut self) {
        let Some(rules) = &mut self.rule_files else { return };
        rules.read_events();
        if rules.have_changed() {
            // The log has the error.
            let _ = self.reload_rules();
        }
    }

    /// Handles SIGHUP: reads the rules again, and opens the log file again. Returns what was done.
    ///
    /// # Errors
    /// A rule is wrong: the old ones stay in force, and the log says so, too.
    pub(super) fn reload(&mut self) -> Result<String, Error> {
        self.ready.reloading();
        let reopens = self.log_writer.as_ref().is_some_and(LogWriter::reopen);
        let mut done = Vec::new();
        let reloaded = self.reload_rules();
        if self.rule_files.is_some() {
            done.push("the access rules are read again");
        }
        if reopens {
            done.push("the log file is opened again");
        }
        if self.has_warm_program() {
            self.memory.board.reset_templates();
            self.channels.wake_forkers();
            done.push("the program is started anew");
        }
        if done.is_empty() {
            if !self.handovers.is_replaced() {
                self.log.warning(NOTHING);
            }
            done.push("there is nothing to reload: neither a configuration nor access rules nor a log file");
        }
        let reloaded = reloaded.map(|()| done.join(", "));
        let failure = reloaded.as_ref().err().map(ToString::to_string);
        self.ready.ready_again(failure.as_deref());
        reloaded
    }

    /// Reads the rules again.
    ///
    /// # Errors
    /// As [`Supervisor::reload`].
    fn reload_rules(&mut self) -> Result<(), Error> {
        let Some(rules) = &self.rule_files else { return Ok(()) };
        let reloaded = self.memory.admission.reload(rules.source());
        match &reloaded {
            Ok(number) => self.log.reload(*number),
            Err(error) => self.log.error(
                "cannot reload the access rules, keeping the old ones",
                &error.what(),
                &error.next(),
            ),
        }
        // The memory of a long list is not to be copied by the next fork.
        tine_sys::memory::trim_heap();
        reloaded.map(drop)
    }
}
