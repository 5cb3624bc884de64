//! The other nodes of a fleet: which of them are there, and what they use. No system call here.

use std::collections::BTreeMap;
use std::ops::Bound;

use tine::cli::Prefix;

use super::clock::Allowance;
use super::messages::{NodeMessage, Source, Span};
use super::sums::Sums;
use crate::names::Name;

/// Nodes, at most.
const NODES: usize = 256;
/// Sources of a node, at most.
const SOURCES: usize = 20_000;

/// Messages and bytes of a node in a second, at most. It sends up to 30, of 64 KiB.
const MESSAGES: u64 = 40;
const BYTES: u64 = 2_000_000;

/// The time, in milliseconds, after which a node that is not heard is lost, and then forgotten.
const LOST_AFTER: u64 = 2_000;
const FORGOTTEN_AFTER: u64 = 60_000;

/// A node.
#[derive(Debug)]
struct Node {
    incarnation: Name,
    seq: u64,
    heard: u64,
    is_present: bool,
    /// How much of all that it uses was heard since the bus is there.
    whole: HeardWhole,
    used: BTreeMap<Prefix, u32>,
    messages: Allowance,
    bytes: Allowance,
}

/// How much was heard of a whole: its parts come in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeardWhole {
    #[default]
    Nothing,
    Begin,
    All,
}

/// What comes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It is an old one.
    Stale,
    Heard,
    /// The node was not known, or lost, or has started anew: it does not know what was said before.
    Appeared,
    /// It has more sources than are kept.
    NoRoom,
}

/// Whether a message may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Read,
    /// The node sends too much.
    TooMuch,
    /// There are too many nodes.
    TooMany,
}

/// The other nodes.
#[derive(Debug)]
pub(super) struct Roster {
    nodes: BTreeMap<Name, Node>,
    shares_use: bool,
}

impl Roster {
    /// With `shares_use`, the use of sources is kept.
    pub(super) fn new(shares_use: bool) -> Roster {
        Roster { nodes: BTreeMap::new(), shares_use }
    }

    /// The nodes that are heard, and those that are lost.
    pub(super) fn count(&self) -> (u32, u32) {
        let present = self.nodes.values().filter(|node| node.is_present).count();
        (present as u32, (self.nodes.len() - present) as u32)
    }

    /// Whether a message of so many bytes may be read. To be asked before it is.
    pub(super) fn admit(&mut self, name: &Name, bytes: usize, now: u64) -> Admission {
        let is_full = self.nodes.values().filter(|node| node.is_present).count() >= NODES;
        match self.nodes.get_mut(name) {
            None if is_full => Admission::TooMany,
            None => Admission::Read,
            Some(node) => {
                let is_within =
                    node.messages.take(1, MESSAGES, now) && node.bytes.take(bytes as u64, BYTES, now);
                if is_within { Admission::Read } else { Admission::TooMuch }
            }
        }
    }

    /// Takes note of a message.
    pub(super) fn hear(&mut self, message: &NodeMessage, sums: &mut Sums, now: u64) -> Hearing {
        let name = &message.node;
        if message.bye {
            let is_current = self.nodes.get(name).is_some_and(|node| node.incarnation == message.incarnation);
            if is_current && let Some(mut node) = self.nodes.remove(name) {
                node.forget_use(sums);
            }
            return Hearing::Heard;
        }
        if !self.nodes.contains_key(name) {
            self.make_room(sums);
        }
        let node = self.nodes.entry(name.clone()).or_insert_with(|| Node::new(message, now));
        let is_restarted = node.incarnation != message.incarnation;
        if is_restarted {
            node.forget_use(sums);
            (node.incarnation, node.seq) = (message.incarnation.clone(), 0);
        }
        if message.seq <= node.seq {
            return Hearing::Stale;
        }
        let has_appeared = is_restarted || !node.is_present;
        (node.seq, node.heard, node.is_present) = (message.seq, now, true);
        let has_room = !self.shares_use || node.use_now(message, sums);
        match (has_appeared, has_room) {
            (true, _) => Hearing::Appeared,
            (false, true) => Hearing::Heard,
            (false, false) => Hearing::NoRoom,
        }
    }

    /// Forgets a lost node where there are too many.
    fn make_room(&mut self, sums: &mut Sums) {
        if self.nodes.len() < NODES {
            return;
        }
        let lost = self.nodes.iter().filter(|(_, node)| !node.is_present);
        let oldest = lost.min_by_key(|(_, node)| node.heard).map(|(name, _)| name.clone());
        if let Some(mut node) = oldest.and_then(|name| self.nodes.remove(&name)) {
            node.forget_use(sums);
        }
    }

    /// The bus is there, anew: what nodes have said meanwhile was not heard.
    pub(super) fn hear_anew(&mut self) {
        self.nodes.values_mut().for_each(|node| node.whole = HeardWhole::Nothing);
    }

    /// Whether each node that is there has said all that it uses, since the bus is there. Without
    /// interest in that, nobody is waited for.
    pub(super) fn has_heard_all(&self) -> bool {
        let is_known = |node: &Node| !node.is_present || node.whole == HeardWhole::All;
        !self.shares_use || self.nodes.values().all(is_known)
    }

    /// Nothing could be heard until now.
    pub(super) fn excuse(&mut self, now: u64) {
        self.nodes.values_mut().for_each(|node| node.heard = now);
    }

    /// Time passes, and the bus is there.
    pub(super) fn on_tick(&mut self, sums: &mut Sums, now: u64) {
        self.nodes.retain(|_, node| {
            let silent = now.saturating_sub(node.heard);
            if node.is_present && silent > LOST_AFTER {
                node.is_present = false;
                node.forget_use(sums);
            }
            node.is_present || silent <= LOST_AFTER + FORGOTTEN_AFTER
        });
    }
}

impl Node {
    /// A node that was not heard before.
    fn new(message: &NodeMessage, now: u64) -> Node {
        Node {
            incarnation: message.incarnation.clone(),
            seq: 0,
            heard: now,
            is_present: false,
            whole: HeardWhole::default(),
            used: BTreeMap::new(),
            messages: Allowance::default(),
            bytes: Allowance::default(),
        }
    }

    fn forget_use(&mut self, sums: &mut Sums) {
        for (source, held) in std::mem::take(&mut self.used) {
            sums.change(source, held, 0, 0);
        }
    }

    /// Notes what it uses. Returns whether there was room for all.
    fn use_now(&mut self, message: &NodeMessage, sums: &mut Sums) -> bool {
        if let Some(span) = &message.whole {
            self.whole = match (self.whole, span.after, span.to) {
                (HeardWhole::All, ..) | (HeardWhole::Begin, _, None) | (_, None, None) => HeardWhole::All,
                (_, None, Some(_)) => HeardWhole::Begin,
                (whole, Some(_), _) => whole,
            };
            self.leave_out(span, message, sums);
        }
        let mut has_room = true;
        for (Source(source), held, taken) in &message.used {
            let before = self.used.get(source).copied().unwrap_or(0);
            let is_kept = *held == 0 || before > 0 || self.used.len() < SOURCES;
            if !is_kept || !sums.change(*source, before, *held, *taken) {
                has_room = false;
            } else if *held == 0 {
                self.used.remove(source);
            } else {
                self.used.insert(*source, *held);
            }
        }
        has_room
    }

    /// What it does not name in a span has no connections any more.
    fn leave_out(&mut self, span: &Span, message: &NodeMessage, sums: &mut Sums) {
        let after = span.after.map_or(Bound::Unbounded, |Source(after)| Bound::Excluded(after));
        let to = span.to.map_or(Bound::Unbounded, |Source(to)| Bound::Included(to));
        let named: std::collections::BTreeSet<Prefix> =
            message.used.iter().map(|(Source(source), ..)| *source).collect();
        let gone: Vec<(Prefix, u32)> = self
            .used
            .range((after, to))
            .filter(|(source, _)| !named.contains(source))
            .map(|(source, held)| (*source, *held))
            .collect();
        for (source, held) in gone {
            self.used.remove(&source);
            sums.change(source, held, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests;
