//! The state that a supervisor hands to the next one, and takes from the one before.

use serde_json::{Value, json};

use super::Supervisor;
use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::shared::handover::lineage::Lineage;

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// The state, while no process accepts.
    pub(super) fn compose_state(&mut self) -> String {
        json!({ "last_id": self.memory.board.connections(), "paused": self.capacity.is_paused }).to_string()
    }

    /// The lineages to the generations whose connections are in the state.
    pub(super) fn older_lineages(&self) -> Vec<&Lineage> {
        Vec::new()
    }

    /// Takes a state over, before any process accepts.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn restore_state(
        &mut self,
        state: &[u8],
        _lineage: Lineage,
        _older: Vec<Lineage>,
    ) -> Result<(), Error> {
        let state: Value = serde_json::from_slice(state)
            .map_err(|why| Error::usage(format_args!("the state is none: {why}"), "restart the server"))?;
        let _ = state;
        Ok(())
    }
}
