//! The board as a process sees it that must not change it.

use std::io;

use super::ended_table::EndedTable;
use super::warm::TemplateStatus;
use super::{Board, Entry, SlotPhase};
use crate::admission::limits::LimitsMode;
use crate::admission::reason::Reason;
use crate::log::Waited;
use crate::net::proxied::Proxied;
use crate::watch::histogram::Histogram;

/// A board that this process can read, and no longer write.
#[derive(Debug)]
pub(crate) struct BoardReader(Board);

/// A connection on the board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoardConnection {
    pub(crate) slot: usize,
    pub(crate) pid: i32,
    pub(crate) entry: Entry,
    pub(crate) proxied: Option<Proxied>,
    /// Its time in the delay queue.
    pub(crate) waited: Option<Waited>,
    /// The inode of its socket; 0 if that was not noted.
    pub(crate) socket: u64,
    /// An older generation of the server serves it.
    pub(crate) is_older: bool,
    /// Its process is a copy of a template.
    pub(crate) is_copy: bool,
}

impl Board {
    /// Gives up the right to write, for good.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn into_reader(self) -> io::Result<BoardReader> {
        self.tables.make_read_only()?;
        self.ended.as_ref().map_or(Ok(()), EndedTable::make_read_only)?;
        Ok(BoardReader(self))
    }
}

impl BoardReader {
    /// The connections that are served now.
    pub(crate) fn connections(&self) -> impl Iterator<Item = BoardConnection> + '_ {
        (0..self.0.slot_count()).filter_map(|slot| self.connection(slot))
    }

    /// The connection in a slot, if it serves one.
    pub(crate) fn connection(&self, slot: usize) -> Option<BoardConnection> {
        let board = &self.0;
        if board.phase(slot) != SlotPhase::Serving {
            return None;
        }
        let (pid, entry) = (board.pid(slot), board.entry(slot));
        let (proxied, waited, socket) = (board.proxied(slot), board.waited(slot), board.socket(slot));
        let (is_older, is_copy) = (board.is_older(slot), board.is_warm(slot));
        let connection = BoardConnection { slot, pid, entry, proxied, waited, socket, is_older, is_copy };
        // The slot can have got its next connection meanwhile.
        let is_same = board.phase(slot) == SlotPhase::Serving && board.entry(slot).id == entry.id;
        (is_same && pid != 0).then_some(connection)
    }

    /// As [`Board::is_draining`].
    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// The number of slots in a phase.
    pub(crate) fn count(&self, phase: SlotPhase) -> usize {
        self.0.count(phase, None)
    }

    /// The number of clients rejected for a reason.
    pub(crate) fn rejected(&self, reason: Reason) -> u64 {
        self.0.rejected(reason)
    }

    /// The number of rejected clients.
    pub(crate) fn rejected_total(&self) -> u64 {
        self.0.rejected_total()
    }

    /// The number of clients reported for a reason.
    pub(crate) fn reported(&self, reason: Reason) -> u64 {
        self.0.reported(reason)
    }

    /// Whether limits are enforced or reported.
    pub(crate) fn limits_mode(&self) -> LimitsMode {
        self.0.limits_mode()
    }

    /// The number of clients that were delayed for a reason.
    pub(crate) fn delayed(&self, reason: Reason) -> u64 {
        self.0.delayed(reason)
    }

    /// As [`Board::starts`].
    pub(crate) fn starts(&self) -> Histogram {
        self.0.starts()
    }

    /// As [`Board::fork_failures`].
    pub(crate) fn fork_failures(&self) -> u64 {
        self.0.fork_failures()
    }

    /// As [`Board::slot_waits`].
    pub(crate) fn slot_waits(&self) -> u64 {
        self.0.slot_waits()
    }

    /// As [`Board::template`].
    pub(crate) fn template(&self, forker: usize) -> TemplateStatus {
        self.0.template(forker)
    }

    /// As [`Board::templates`].
    pub(crate) fn templates(&self) -> u64 {
        self.0.templates()
    }

    /// As [`Board::copies`].
    pub(crate) fn copies(&self) -> u64 {
        self.0.copies()
    }

    /// As [`Board::copy_crashes`].
    pub(crate) fn copy_crashes(&self) -> u64 {
        self.0.copy_crashes()
    }

    /// The number of clients in the delay queue.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.waiting()
    }

    /// The number of connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.0.connections()
    }
}
