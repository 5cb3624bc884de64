//! Reloads the access rules: after a change of their files, and at SIGHUP.

use super::run::Supervisor;
use crate::connection::Connection;
use crate::error::HandlerError;

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Reads the rules again if a file has changed.
    pub(super) fn check_rules(&mut self) {
        let Some(rules) = &mut self.rules else { return };
        rules.read_events();
        if rules.have_changed() {
            self.read_rules_again();
        }
    }

    /// What SIGHUP asks for.
    pub(super) fn reload(&mut self) {
        match self.rules {
            Some(_) => self.read_rules_again(),
            None => {
                self.log.warning("SIGHUP: there is no configuration to reload yet; nothing is changed");
            }
        }
    }

    /// Reads the rules again. A fault leaves the old ones in force.
    fn read_rules_again(&mut self) {
        let Some(rules) = &self.rules else { return };
        match self.door.read_again(rules.source()) {
            Ok(number) => self.log.reload(number),
            Err(error) => self.log.trouble(
                "the rules are not read again, the old ones stay in force",
                &error.to_string(),
                "mend the file",
            ),
        }
        // What a great list took is not copied at the next fork of a helper.
        tine_sys::memory::trim_heap();
    }
}
