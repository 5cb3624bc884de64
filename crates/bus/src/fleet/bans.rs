//! What is known of bans: a map from block to record, of which the one that was ordered last counts
//! (a last-writer-wins map), and what of it the bucket does not have yet. No system call here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Bound;

use tine::cli::{BanRecord, BanState, Prefix};

use super::clock::Clock;

/// Records, at most.
pub(super) const MOST: usize = 131_072;

/// The time, in milliseconds, for which an ended ban and a lift are kept: so that a node that was
/// away for less has no older record that would seem to be news.
const KEPT: u64 = 86_400_000;
/// How far the time of a record may be ahead of this node's clock.
pub(super) const AHEAD: u64 = 3_600_000;
/// The time in which the reason of a refused put has to come.
const REASON_WITHIN: u64 = 3_000;

/// Records that are looked at in one sweep, those of them that are purged, and puts that mend what
/// others have broken, at most.
const SWEPT: usize = 4_096;
const PURGED: usize = 100;
const MENDED: usize = 200;

/// A record that is to be put into the bucket, over the one with this revision; 0: over none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) record: BanRecord,
    pub(super) revision: u64,
}

/// A record that nobody needs any more, with its revision in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purge {
    pub(super) block: Prefix,
    pub(super) revision: u64,
}

/// What comes of a record of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    Nothing,
    /// It is new, and the service is to know it.
    News(BanRecord),
    Over(Purge),
    /// There are too many.
    NoRoom,
    /// It is of a time that has not come.
    Ahead,
}

/// How far the bucket has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has it.
    Shared,
    Pending,
    /// A put of it, or of an earlier one of the block, is under way.
    Putting,
    /// The put was refused at this time: the bucket has another one, which has not come yet.
    Refused(u64),
}

#[derive(Clone, Copy, Debug)]
struct Known {
    record: BanRecord,
    /// The revision in the bucket; 0 for none.
    revision: u64,
    stage: Stage,
    /// Whether the bucket has any record of the block, as far as it was read.
    is_seen: bool,
}

/// What is known of bans.
#[derive(Debug, Default)]
pub(super) struct Bans {
    known: BTreeMap<Prefix, Known>,
    /// Blocks that may be pending; the last one is put first.
    queue: Vec<Prefix>,
    /// Blocks for which others have put something older, or nothing.
    broken: BTreeSet<Prefix>,
    /// Where the last sweep has ended.
    swept: Option<Prefix>,
    /// Nodes that have the same records put them in different orders: each puts some, and sees that
    /// others have put the rest.
    order: RandomState,
}

/// Whether a record counts, and another one of the block does not.
fn is_newer(one: &BanRecord, other: &BanRecord) -> bool {
    let text = |state: BanState| match state {
        BanState::Until(seconds) => seconds.to_string(),
        BanState::Forever => "forever".to_owned(),
        BanState::Lifted => "lifted".to_owned(),
    };
    one.at > other.at || one.at == other.at && text(one.state) < text(other.state)
}

/// Whether nobody needs a record any more.
fn is_over(record: &BanRecord, clock: Clock) -> bool {
    let end = match record.state {
        BanState::Forever => return false,
        BanState::Until(seconds) => seconds.saturating_mul(1_000),
        BanState::Lifted => record.at,
    };
    end.saturating_add(KEPT) < clock.day
}

impl Bans {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Those that the bucket does not have yet, as far as it was read.
    pub(super) fn pending(&self) -> usize {
        self.known.values().filter(|known| known.stage != Stage::Shared).count()
    }

    /// A ban was given or lifted here. Returns whether there is room for it.
    pub(super) fn order(&mut self, record: BanRecord, clock: Clock) -> bool {
        if is_over(&record, clock) {
            return true;
        }
        let has_room = self.known.len() < MOST;
        match self.known.get_mut(&record.block) {
            None if !has_room => return false,
            None => {
                let known = Known { record, revision: 0, stage: Stage::Pending, is_seen: false };
                self.known.insert(record.block, known);
            }
            Some(known) if is_newer(&record, &known.record) => {
                known.record = record;
                match known.stage {
                    // It follows when that has an answer, or its reason.
                    Stage::Putting | Stage::Refused(_) => return true,
                    Stage::Shared | Stage::Pending => known.stage = Stage::Pending,
                }
            }
            Some(_) => return true,
        }
        self.queue.push(record.block);
        true
    }

    /// Whether this is what is known of its block.
    pub(super) fn holds(&self, record: &BanRecord) -> bool {
        self.known.get(&record.block).is_some_and(|known| known.record == *record)
    }

    /// Another node says that it has ordered this, and that it puts it into the bucket. Returns
    /// whether it is new, and the service is to know it.
    pub(super) fn hear(&mut self, record: BanRecord, clock: Clock) -> bool {
        let is_ahead = record.at > clock.day.saturating_add(AHEAD);
        let has_room = self.known.len() < MOST || self.known.contains_key(&record.block);
        if is_ahead || !has_room || is_over(&record, clock) {
            return false;
        }
        let unknown = Known { record, revision: 0, stage: Stage::Shared, is_seen: false };
        let mut is_new = false;
        let known = self.known.entry(record.block).or_insert_with(|| {
            is_new = true;
            unknown
        });
        if is_newer(&record, &known.record) {
            // If the node does not put it, the next reading of the bucket misses it.
            known.record = record;
            is_new = true;
        }
        is_new
    }

    /// The bucket has a record of a block, or, with `None`, one that says nothing.
    pub(super) fn learn(
        &mut self,
        block: Prefix,
        found: Option<BanRecord>,
        revision: u64,
        clock: Clock,
    ) -> Learned {
        let is_ahead = found.is_some_and(|found| found.at > clock.day.saturating_add(AHEAD));
        let found = found.filter(|_| !is_ahead);
        let learned = match self.known.get(&block).copied() {
            None => self.learn_of_new(block, found, revision, clock),
            Some(known) => self.compare(known, found, revision, clock),
        };
        if is_ahead { Learned::Ahead } else { learned }
    }

    fn learn_of_new(
        &mut self,
        block: Prefix,
        found: Option<BanRecord>,
        revision: u64,
        clock: Clock,
    ) -> Learned {
        let Some(record) = found else { return Learned::Nothing };
        if is_over(&record, clock) {
            return Learned::Over(Purge { block, revision });
        }
        if self.known.len() >= MOST {
            return Learned::NoRoom;
        }
        self.known.insert(block, Known { record, revision, stage: Stage::Shared, is_seen: true });
        Learned::News(record)
    }

    fn compare(
        &mut self,
        mut known: Known,
        found: Option<BanRecord>,
        revision: u64,
        clock: Clock,
    ) -> Learned {
        let block = known.record.block;
        let was_putting = known.stage == Stage::Putting;
        (known.revision, known.is_seen) = (revision, true);
        let mut learned = Learned::Nothing;
        match found {
            Some(found) if found == known.record => known.stage = Stage::Shared,
            Some(found) if is_newer(&found, &known.record) => {
                (known.record, known.stage) = (found, Stage::Shared);
                learned = Learned::News(found);
            }
            _ if is_over(&known.record, clock) => {
                self.known.remove(&block);
                return found.map_or(Learned::Nothing, |_| Learned::Over(Purge { block, revision }));
            }
            // The put has its answer yet to come: it is refused, or is the next that is read.
            _ if was_putting => {}
            _ => {
                known.stage = Stage::Pending;
                self.broken.insert(block);
            }
        }
        self.known.insert(block, known);
        learned
    }

    /// The bucket is read from the start.
    pub(super) fn begin_reading(&mut self) {
        self.queue.clear();
        self.broken.clear();
        for known in self.known.values_mut() {
            (known.revision, known.is_seen, known.stage) = (0, false, Stage::Shared);
        }
    }

    /// The bucket was read to its end: what it does not have is pending.
    pub(super) fn end_reading(&mut self, clock: Clock) {
        self.known.retain(|_, known| known.is_seen || !is_over(&known.record, clock));
        let mut missing = Vec::new();
        for (block, known) in self.known.iter_mut().filter(|(_, known)| !known.is_seen) {
            known.stage = Stage::Pending;
            missing.push(*block);
        }
        missing.extend(std::mem::take(&mut self.broken));
        missing.sort_by_cached_key(|block| self.order.hash_one(block));
        // What was ordered meanwhile is first.
        missing.append(&mut self.queue);
        self.queue = missing;
    }

    /// The next record to put, which then is under way.
    pub(super) fn next_put(&mut self) -> Option<Put> {
        while let Some(block) = self.queue.pop() {
            if let Some(known) = self.known.get_mut(&block)
                && known.stage == Stage::Pending
            {
                known.stage = Stage::Putting;
                return Some(Put { record: known.record, revision: known.revision });
            }
        }
        None
    }

    /// A put has succeeded, with this revision.
    pub(super) fn put_done(&mut self, put: &Put, revision: u64) {
        let Some(known) = self.known.get_mut(&put.record.block) else { return };
        known.revision = known.revision.max(revision);
        if known.stage == Stage::Putting {
            let is_current = known.record == put.record;
            known.stage = if is_current { Stage::Shared } else { Stage::Pending };
            if !is_current {
                self.queue.push(put.record.block);
            }
        }
    }

    /// A put was refused: the bucket has another revision than was expected.
    pub(super) fn put_refused(&mut self, put: &Put, now: u64) {
        let block = put.record.block;
        let Some(known) = self.known.get_mut(&block).filter(|known| known.stage == Stage::Putting) else {
            return;
        };
        if known.revision == put.revision {
            known.stage = Stage::Refused(now);
        } else {
            known.stage = Stage::Pending;
            self.broken.insert(block);
        }
    }

    /// Whether the reason of a refused put has not come in time: what is read is not the bucket.
    pub(super) fn misses_a_reason(&self, now: u64) -> bool {
        let is_late = |since: u64| now.saturating_sub(since) > REASON_WITHIN;
        self.known.values().any(|known| matches!(known.stage, Stage::Refused(since) if is_late(since)))
    }

    /// Has a bounded number of broken records put again. To be called each second: so one that
    /// breaks them without end makes little work.
    pub(super) fn mend(&mut self) {
        for _ in 0..MENDED {
            let Some(block) = self.broken.pop_first() else { return };
            self.queue.push(block);
        }
    }

    /// Forgets what nobody needs any more, of a part of what is known.
    pub(super) fn sweep(&mut self, clock: Clock) -> Vec<Purge> {
        let from = self.swept.map_or(Bound::Unbounded, Bound::Excluded);
        let mut purges = Vec::new();
        let mut end = None;
        for (at, (block, known)) in self.known.range((from, Bound::Unbounded)).enumerate() {
            if at == SWEPT || purges.len() == PURGED {
                break;
            }
            end = Some(*block);
            if is_over(&known.record, clock) {
                purges.push(Purge { block: *block, revision: known.revision });
            }
        }
        self.swept = end;
        purges.iter().for_each(|purge| _ = self.known.remove(&purge.block));
        purges
    }
}

#[cfg(test)]
mod tests;
