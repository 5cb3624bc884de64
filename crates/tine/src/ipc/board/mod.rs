//! The board: shared memory that decides. It says which slots are taken, by which process, and
//! carries notices between the processes that have it.
//!
//! Supervisor, forkers, and spares that have not read a client's byte have the board; the delayer
//! has a part of it (`for_delayer.rs`). With `--reuse`, workers keep it, which is why a pool
//! isolates less. Connection processes do not have it: they have the [stats](super::stats) only, by
//! which nothing is decided.
//!
//! A slot is the right to serve one connection. There are as many as connections are allowed, so
//! the limit is not a counter that could drift: when a process dies, its slot still names its
//! owner.

mod bans;
pub(crate) mod blocks;
mod counts;
pub(crate) mod ended;
mod ended_table;
pub(crate) mod for_delayer;
mod limits;
mod notices;
pub(crate) mod places;
pub(crate) mod proxy_reader;
mod punished;
pub(crate) mod reader;
mod slots;
mod timings;
mod waited;
pub(crate) mod warm;

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tine_sys::memory::{FlagReader, Record, SharedTables};

use crate::admission::access::bans::BAN_WORDS;
use crate::admission::limits::SOURCE_LIMITS_WORDS;
use crate::admission::reason::Reason;
use crate::net::peer::Peer;
use crate::net::proxied::PROXIED_WORDS;
use crate::watch::histogram::SECONDS;
use ended_table::EndedTable;

/// The most forkers that a server can have.
pub(crate) const MAX_FORKERS: usize = 64;

// Words of a slot.
const OWNER: usize = 0;
const PHASE: usize = 1;
const ID: usize = 2;
const START: usize = 3;
const PEER: usize = 4;
const SOCKET: usize = 7;
const CGROUP: usize = 8;
const WAITED: usize = 9;
const WARM: usize = 10;
const SLOT_WORDS: usize = 11;

// Words of the head, before the words of each forker and the two bitmaps.
const LAST_ID: usize = 0;
const WAKEUP_PENDING: usize = 1;
const DRAIN_QUOTA: usize = 2;
const FAILURE: usize = 3;
const NOTICE_REQUESTED: usize = 4;
const DELAYER_WANTS_SLOT: usize = 5;
const PASSING: usize = 6;
const BACKLOG_DONE: usize = 7;
const SLOT_OFFERED: usize = 8;
const PROXY_READER: usize = 9;
const PROXY_READER_BEHIND: usize = 10;
const PROXY_READER_GIVEN_UP: usize = 11;
const PAUSED: usize = 12;
/// A bit each: limits are reported, and the limits per source and prefix are those of the board.
const LIMITS_CHANGED: usize = 13;
const BANNED: usize = 14;
const BANS_NUMBER: usize = 15;
const WAITING: usize = 16;
const SERVED_NOW: usize = 17;
const SERVED_MOST: usize = 18;
const WARM_COPIES: usize = 19;
const WARM_TEMPLATES: usize = 20;
const WARM_CRASHES: usize = 21;
const WARM_RESETS: usize = 22;
const FLEET_NODES: usize = 23;
const PUNISHED_NUMBER: usize = 24;
/// A word for each reason.
const REJECTED: usize = 25;
/// A word for each reason.
const REPORTED: usize = REJECTED + Reason::ALL.len();
/// A word for each reason.
const DELAYED: usize = REPORTED + Reason::ALL.len();
const SOURCE_LIMITS: usize = DELAYED + Reason::ALL.len();
const PUNISHED: usize = SOURCE_LIMITS + SOURCE_LIMITS_WORDS;
/// The penalties that are kept, and the words of each.
const PUNISHED_KEPT: u64 = 64;
const PUNISHED_WORDS: usize = 5;
const HEAD: usize = PUNISHED + PUNISHED_KEPT as usize * PUNISHED_WORDS;
// Words of each forker.
const WANTS_SLOT: usize = 0;
const IDLE: usize = 1;
const PAUSE_SEEN: usize = 2;
const TEMPLATE: usize = 3;
const FORKER_WORDS: usize = 4;
/// Words of what forkers count for monitoring: a distribution, its sum, and two counts.
const TIMING_WORDS: usize = SECONDS.len() + 1 + 3;
// Words of places, before one for each forker and slot.
const PLACES_LEFT: usize = 0;
const PLACES_USED: usize = 1;
const PLACE_HOLDERS: usize = 2;

/// The slots, and the words beside them.
#[derive(Debug)]
pub(crate) struct Board {
    /// The words and the slots, in this order: the pages of the first slots are beside the words,
    /// so that few pages are in use.
    tables: SharedTables<AtomicU64, Record<SLOT_WORDS>>,
    drain: FlagReader,
    /// Slots have room for what is known of a proxied client, after the bitmaps.
    has_proxied: bool,
    /// The connections that the server serves in all; `None` for any number.
    places: Option<u64>,
    /// Where workers leave the ends of their connections for the supervisor.
    ended: Option<EndedTable>,
}

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotPhase {
    /// Free, or claimed and nothing known yet.
    Claimed = 0,
    /// A spare or worker waits for a client.
    Idle = 1,
    /// The process serves a connection.
    Serving = 2,
    /// A client is being admitted: it counts for the limits of its source and prefix, and may still
    /// be delayed or rejected.
    Deciding = 3,
}

/// A connection, as the process that accepted it entered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// When it was admitted: monotonic clock, nanoseconds. Its process or turn begins then. It was
    /// accepted then, too, unless it waited in the delay queue.
    pub(crate) start: u64,
}

impl Board {
    /// Maps a board of this many slots. `drain` is set when the server begins to drain.
    /// `has_proxied`: proxies may speak for clients. `places`: the connections that the server
    /// serves in all.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(
        slots: usize,
        drain: FlagReader,
        has_proxied: bool,
        places: Option<u64>,
    ) -> io::Result<Board> {
        let proxied = if has_proxied { slots * PROXIED_WORDS } else { 0 };
        let of_places = places.map_or(0, |_| PLACE_HOLDERS + MAX_FORKERS + slots);
        let words = HEAD + MAX_FORKERS * FORKER_WORDS + 2 * slots.div_ceil(64) + proxied + of_places;
        let words = words + TIMING_WORDS + BAN_WORDS;
        let tables = SharedTables::new(words, slots)?;
        let board = Board { tables, drain, has_proxied, places, ended: None };
        places.into_iter().for_each(|places| board.set_places(places));
        for slot in 0..slots {
            board.free_word(slot).fetch_or(bit(slot), Relaxed);
        }
        Ok(board)
    }

    /// The same board, on which workers leave the ends of their connections.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn with_ended(self) -> io::Result<Board> {
        let ended = Some(EndedTable::new(self.slot_count())?);
        Ok(Board { ended, ..self })
    }

    /// Leaves the board out of processes forked from now on.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.tables.exclude_from_fork()?;
        self.ended.as_ref().map_or(Ok(()), EndedTable::exclude_from_fork)
    }

    /// Takes the board away from this process.
    #[inline]
    pub(crate) fn unmap(self) -> io::Result<()> {
        self.ended.map_or(Ok(()), EndedTable::unmap)?;
        self.tables.unmap()
    }

    /// Whether the server drains: forkers accept the clients in the backlog, spares leave.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.get() != 0
    }

    #[inline]
    fn record(&self, slot: usize) -> &Record<SLOT_WORDS> {
        &self.tables.second()[slot]
    }

    fn slot_count(&self) -> usize {
        self.tables.second().len()
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.tables.first()[at]
    }

    /// Index of the bitmap of free slots.
    fn free_at(&self) -> usize {
        HEAD + MAX_FORKERS * FORKER_WORDS
    }

    /// Index of the bitmap of slots with a notice.
    fn changed_at(&self) -> usize {
        self.free_at() + self.slot_count().div_ceil(64)
    }

    /// Index of what is known of a slot's proxied client; `None` where no client is proxied.
    fn proxied_at(&self, slot: usize) -> Option<usize> {
        if !self.has_proxied {
            return None;
        }
        let first = self.changed_at() + self.slot_count().div_ceil(64);
        Some(first + slot * PROXIED_WORDS)
    }

    /// Index of the words of the bans: the last ones.
    fn bans_at(&self) -> usize {
        self.tables.first().len() - BAN_WORDS
    }

    /// Index of the words of times: before the bans.
    fn timings_at(&self) -> usize {
        self.bans_at() - TIMING_WORDS
    }

    /// Index of the words of places, after what is known of proxied clients.
    fn places_at(&self) -> usize {
        let proxied = if self.has_proxied { self.slot_count() * PROXIED_WORDS } else { 0 };
        self.changed_at() + self.slot_count().div_ceil(64) + proxied
    }

    fn free_word(&self, slot: usize) -> &AtomicU64 {
        self.word(self.free_at() + slot / 64)
    }

    fn changed_word(&self, slot: usize) -> &AtomicU64 {
        self.word(self.changed_at() + slot / 64)
    }

    fn forker_word(&self, forker: usize, which: usize) -> &AtomicU64 {
        self.word(HEAD + forker * FORKER_WORDS + which)
    }
}

fn bit(slot: usize) -> u64 {
    1 << (slot % 64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A board whose server does not drain.
    pub(super) fn board(slots: usize) -> Board {
        let (_, [drain]) = tine_sys::memory::flags().expect("memory");
        Board::new(slots, drain, true, None).expect("memory")
    }
}
