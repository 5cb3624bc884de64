//! What this node says to the others: the use of sources, bans and penalties here, or a sign of
//! life.
//!
//! Changes are sent at once. Each two seconds everything is said again, in parts: each has all
//! sources of a span, so what was lost on the way, or was not heard from the start, is known then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use tine::cli::{BanRecord, Prefix};

use super::clock::Clock;
use super::messages::{LONGEST, LONGEST_PENALTY, MOST, NodeMessage, SOURCE, Source, Span};
use super::penalties::Penalties;
use crate::names::Name;

/// Sources, at most.
const SOURCES: usize = 20_000;

/// Entries of a message, at most: of whichever length they are, it is short enough.
const ENTRIES: usize = if MOST < (LONGEST - 1_024) / SOURCE { MOST } else { (LONGEST - 1_024) / SOURCE };

/// Messages with changes at a time, at most. With those of a whole, 30 come about in a second.
const CHANGES: usize = 2;

/// Orders about bans that are said again to a node that has not heard them, at most, and for how
/// many milliseconds an order is news.
const ORDERS: usize = 1_000;
const FRESH: u64 = 10_000;

/// Times in milliseconds: between two signs of life, and between two wholes, if nothing asks for
/// one earlier.
const HEARTBEAT: u64 = 500;
const WHOLE: u64 = 2_000;
const EARLY_WHOLE: u64 = 500;

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    held: u32,
    /// Those that the others do not know of yet.
    taken: u32,
}

/// How far everything was said again.
#[derive(Clone, Copy, Debug)]
struct Whole {
    begun: u64,
    /// The part after this source is next; at the end, none is.
    next: Option<Option<Prefix>>,
    /// Whether another one is to begin as soon as it may.
    again: bool,
}

/// What this node says.
#[derive(Debug)]
pub(super) struct Own {
    node: Name,
    incarnation: Name,
    shares_use: bool,
    seq: u64,
    sent: u64,
    used: BTreeMap<Prefix, Use>,
    changed: BTreeSet<Prefix>,
    /// Penalties with their ends, and those that the others do not know of yet.
    penalties: Penalties,
    given: BTreeSet<Prefix>,
    /// The last orders here about bans, and those that the others have not been told yet.
    orders: VecDeque<BanRecord>,
    bans: VecDeque<BanRecord>,
    whole: Whole,
    /// Whether the next message is to say that the others have not been heard.
    is_anew: bool,
}

impl Own {
    pub(super) fn new(node: Name, incarnation: Name, shares_use: bool) -> Own {
        Own {
            node,
            incarnation,
            shares_use,
            seq: 0,
            sent: 0,
            used: BTreeMap::new(),
            changed: BTreeSet::new(),
            penalties: Penalties::default(),
            given: BTreeSet::new(),
            orders: VecDeque::new(),
            bans: VecDeque::new(),
            whole: Whole { begun: 0, next: None, again: true },
            is_anew: true,
        }
    }

    /// The bus is there, anew.
    pub(super) fn begin_anew(&mut self) {
        self.is_anew = true;
    }

    pub(super) fn incarnation(&self) -> &Name {
        &self.incarnation
    }

    /// The use of a source has changed. Returns whether there is room for it.
    pub(super) fn on_used(&mut self, source: Prefix, held: u32, taken: u32) -> bool {
        if self.used.len() >= SOURCES && !self.used.contains_key(&source) {
            return false;
        }
        let used = self.used.entry(source).or_default();
        (used.held, used.taken) = (held, used.taken.saturating_add(taken));
        self.changed.insert(source);
        true
    }

    /// A source has got a penalty. Returns whether there is room for it.
    pub(super) fn on_penalty(&mut self, source: Prefix, milliseconds: u64, now: u64) -> bool {
        let has_room = self.penalties.note(source, now + milliseconds.min(LONGEST_PENALTY), now);
        if has_room {
            self.given.insert(source);
        }
        has_room
    }

    /// A ban was given or lifted here. The bucket tells the others of it, too: what is too much
    /// here, and what is not of this moment, they learn from that.
    pub(super) fn on_ban(&mut self, ban: BanRecord, clock: Clock) {
        if ban.at.saturating_add(FRESH) < clock.day {
            return;
        }
        if self.bans.len() < ORDERS {
            self.bans.push_back(ban);
        }
        if self.orders.len() == ORDERS {
            self.orders.pop_front();
        }
        self.orders.push_back(ban);
    }

    /// Somebody does not know what was said before. The bucket of a cluster that was in parts takes
    /// many seconds to be one again: of the bans that were ordered here, the others are told those
    /// that hold.
    pub(super) fn say_again(&mut self, holds: impl Fn(&BanRecord) -> bool) {
        self.whole.again = true;
        self.given = self.penalties.sources().collect();
        self.orders.retain(holds);
        self.bans = self.orders.clone();
    }

    /// What to say now. To be called each 100 ms while the bus is there.
    pub(super) fn say(&mut self, now: u64) -> Vec<NodeMessage> {
        let mut messages = Vec::new();
        let is_quiet = |own: &Own| own.changed.is_empty() && own.given.is_empty() && own.bans.is_empty();
        while messages.len() < CHANGES && !is_quiet(self) {
            let message = self.changes(now);
            messages.push(message);
        }
        messages.extend(self.part(now));
        if messages.is_empty() && now.saturating_sub(self.sent) >= HEARTBEAT {
            messages.push(self.message());
        }
        if !messages.is_empty() {
            self.sent = now;
        }
        messages
    }

    /// The last message.
    pub(super) fn bye(&mut self) -> NodeMessage {
        let mut message = self.message();
        message.bye = true;
        message
    }

    fn message(&mut self) -> NodeMessage {
        self.seq += 1;
        let mut message = NodeMessage::new(self.node.clone(), self.incarnation.clone(), self.seq);
        message.anew = std::mem::take(&mut self.is_anew);
        message
    }

    /// As many changes as a message may have.
    fn changes(&mut self, now: u64) -> NodeMessage {
        let mut message = self.message();
        let bans = self.bans.drain(..self.bans.len().min(ENTRIES));
        message.bans = bans.map(|ban| (Source(ban.block), ban.state.into(), ban.at)).collect();
        while message.bans.len() + message.used.len() < ENTRIES
            && let Some(source) = self.changed.pop_first()
        {
            let Some(used) = self.used.get_mut(&source) else { continue };
            message.used.push((Source(source), used.held, std::mem::take(&mut used.taken)));
            if used.held == 0 {
                self.used.remove(&source);
            }
        }
        while message.bans.len() + message.used.len() + message.penalties.len() < ENTRIES
            && let Some(source) = self.given.pop_first()
        {
            match self.penalties.until(&source) {
                Some(until) if now < until => message.penalties.push((Source(source), until - now)),
                _ => self.penalties.forget(&source),
            }
        }
        message
    }

    /// The next part of a whole, if one is due.
    fn part(&mut self, now: u64) -> Option<NodeMessage> {
        if !self.shares_use {
            return None;
        }
        let since = now.saturating_sub(self.whole.begun);
        let is_due = since >= if self.whole.again { EARLY_WHOLE } else { WHOLE };
        if self.whole.next.is_none() && (is_due || self.whole.begun == 0) {
            self.whole = Whole { begun: now.max(1), next: Some(None), again: false };
        }
        let after = self.whole.next?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let part: Vec<(Source, u32, u32)> = self
            .used
            .range((from, Bound::Unbounded))
            .filter(|(_, used)| used.held > 0)
            .take(ENTRIES)
            .map(|(source, used)| (Source(*source), used.held, 0))
            .collect();
        let to = part.last().filter(|_| part.len() == ENTRIES).map(|(Source(source), ..)| *source);
        self.whole.next = to.map(Some);
        let span = Span { after: after.map(Source), to: to.map(Source) };
        let mut message = self.message();
        (message.whole, message.used) = (Some(span), part);
        Some(message)
    }
}

#[cfg(test)]
mod tests;
