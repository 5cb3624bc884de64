//! The part of the board that the delayer has: it counts connections, and leaves a note that it
//! waits for the end of one.

use std::io;

use super::Board;
use crate::admission::block::{Aggregation, Block};
use crate::admission::limits::{LimitsMode, SourceLimits};
use crate::admission::reason::Reason;

/// The board, whose slots the delayer has no permission to write, as far as they share no page with
/// the notes.
#[derive(Debug)]
pub(crate) struct DelayerBoard(Board);

impl Board {
    /// Takes away from this process, the delayer, what it does not need.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn for_delayer(self) -> io::Result<DelayerBoard> {
        self.tables.make_second_read_only()?;
        Ok(DelayerBoard(self))
    }
}

impl DelayerBoard {
    /// As [`Board::is_draining`].
    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// As [`Board::is_passing`].
    pub(crate) fn is_passing(&self) -> bool {
        self.0.is_passing()
    }

    /// As [`Board::set_delayer_wants_slot`].
    pub(crate) fn set_delayer_wants_slot(&self, wants: bool) {
        self.0.set_delayer_wants_slot(wants);
    }

    /// As [`Board::count_rejected`].
    pub(crate) fn count_rejected(&self, reason: Reason) {
        self.0.count_rejected(reason);
    }

    /// As [`Board::set_waiting`].
    pub(crate) fn set_waiting(&self, clients: usize) {
        self.0.set_waiting(clients);
    }

    /// As [`Board::limits_mode`].
    pub(crate) fn limits_mode(&self) -> LimitsMode {
        self.0.limits_mode()
    }

    /// As [`Board::changed_limits`].
    pub(crate) fn changed_limits(&self) -> Option<SourceLimits> {
        self.0.changed_limits()
    }

    /// As [`Board::slots_in`].
    pub(crate) fn slots_in(&self, block: Block) -> impl Iterator<Item = usize> + '_ {
        self.0.slots_in(block)
    }

    /// As [`Board::blocks`].
    pub(crate) fn blocks(&self, aggregation: Aggregation) -> impl Iterator<Item = Block> + '_ {
        self.0.blocks(aggregation)
    }
}
