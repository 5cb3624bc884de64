//! What the service is told, in batches: a message at a time, of bounded length. Of what has
//! changed several times meanwhile, it is told the last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tine::cli::{BanRecord, LinkRecord, Prefix};

use super::penalties::Penalties;
use super::sums::{Sums, Told};

/// Bytes of a message, at most. The channel takes a few more.
const LONGEST: usize = 120 * 1024;
/// Sums in a message, and the time between two with some, in milliseconds.
const SUMS: usize = 2_000;
const SUMS_AFTER: u64 = 100;
/// Warnings, at most.
const WARNINGS: usize = 100;
/// The time by which a penalty has to be longer to be told again, in milliseconds.
const LONGER: u64 = 1_000;

/// What the service is to be told.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    news: VecDeque<LinkRecord>,
    /// Blocks in the order in which they were banned or lifted first.
    blocks: VecDeque<Prefix>,
    bans: BTreeMap<Prefix, BanRecord>,
    /// Sources with penalties that are to be told.
    penalties: BTreeSet<Prefix>,
    /// Until when sources have penalties.
    known_penalties: Penalties,
    sums_due: u64,
    /// Records that the channel has not taken.
    unsent: Vec<LinkRecord>,
}

impl Outbox {
    /// What is neither a ban, nor a penalty, nor a sum.
    pub(super) fn tell(&mut self, record: LinkRecord) {
        let kind = std::mem::discriminant(&record);
        let is_same = |other: &LinkRecord| std::mem::discriminant(other) == kind;
        if !matches!(record, LinkRecord::Warning(_)) {
            self.news.retain(|other| !is_same(other));
        } else if self.news.iter().filter(|other| is_same(other)).count() >= WARNINGS {
            return;
        }
        self.news.push_back(record);
    }

    /// A ban was given or lifted elsewhere.
    pub(super) fn ban(&mut self, record: BanRecord) {
        if self.bans.insert(record.block, record).is_none() {
            self.blocks.push_back(record.block);
        }
    }

    /// A source has got a penalty elsewhere. Others say so again, which is not told.
    pub(super) fn penalty(&mut self, source: Prefix, milliseconds: u64, now: u64) {
        let until = now + milliseconds;
        let is_news = self.known_penalties.until(&source).is_none_or(|known| until > known + LONGER);
        if is_news && self.known_penalties.note(source, until, now) {
            self.penalties.insert(source);
        }
    }

    /// The records of the next message, as long as the last ones were taken.
    pub(super) fn next(&mut self, sums: &mut Sums, now: u64) -> &[LinkRecord] {
        if self.unsent.is_empty() {
            self.unsent = self.batch(sums, now);
        }
        &self.unsent
    }

    /// The channel has taken the message.
    pub(super) fn sent(&mut self) {
        self.unsent.clear();
    }

    fn batch(&mut self, sums: &mut Sums, now: u64) -> Vec<LinkRecord> {
        let mut batch = Batch::default();
        while batch.has_room()
            && let Some(record) = self.news.pop_front()
        {
            batch.add(record);
        }
        while batch.has_room()
            && let Some(block) = self.blocks.pop_front()
        {
            self.bans.remove(&block).into_iter().for_each(|ban| batch.add(LinkRecord::Ban(ban)));
        }
        while batch.has_room()
            && let Some(source) = self.penalties.pop_first()
        {
            let until = self.known_penalties.until(&source).unwrap_or(0);
            let milliseconds = until.saturating_sub(now);
            if milliseconds > 0 {
                batch.add(LinkRecord::Penalty { source, milliseconds });
            }
        }
        if now >= self.sums_due {
            let most = SUMS.min(batch.room() / Batch::LONGEST_SUM);
            for Told { source, held, taken } in sums.take(most) {
                self.sums_due = now + SUMS_AFTER;
                batch.add(LinkRecord::Used { source, held, taken });
            }
        }
        batch.records
    }
}

/// A message that is made.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<LinkRecord>,
    bytes: usize,
}

impl Batch {
    /// Bytes of the longest record: a warning.
    const LONGEST_RECORD: usize = 2 * 1024;
    /// Bytes of the longest sum.
    const LONGEST_SUM: usize = 80;

    fn room(&self) -> usize {
        LONGEST.saturating_sub(self.bytes)
    }

    fn has_room(&self) -> bool {
        self.room() >= Batch::LONGEST_RECORD
    }

    fn add(&mut self, record: LinkRecord) {
        self.bytes += record.to_string().len() + 1;
        self.records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tine::cli::BanState;

    use super::*;

    fn source(number: u32) -> Prefix {
        Ipv4Addr::from_bits(number).to_string().parse().expect("an address")
    }

    fn ban(number: u32, at: u64) -> BanRecord {
        BanRecord { block: source(number), state: BanState::Forever, at }
    }

    fn next(outbox: &mut Outbox, now: u64) -> Vec<LinkRecord> {
        let records = outbox.next(&mut Sums::default(), now).to_vec();
        outbox.sent();
        records
    }

    #[test]
    fn of_what_has_changed_twice_the_last_is_told() {
        let mut outbox = Outbox::default();
        outbox.tell(LinkRecord::Ready);
        [true, false].into_iter().for_each(|is_there| outbox.tell(LinkRecord::Bus(is_there)));
        [1, 2].into_iter().for_each(|_| outbox.tell(LinkRecord::Warning("w".into())));
        [ban(1, 1), ban(2, 1), ban(1, 2)].into_iter().for_each(|ban| outbox.ban(ban));
        let expected = [
            LinkRecord::Ready,
            LinkRecord::Bus(false),
            LinkRecord::Warning("w".into()),
            LinkRecord::Warning("w".into()),
            LinkRecord::Ban(ban(1, 2)),
            LinkRecord::Ban(ban(2, 1)),
        ];
        assert_eq!(next(&mut outbox, 0), expected);
        assert_eq!(next(&mut outbox, 0), []);
    }

    #[test]
    fn what_the_channel_does_not_take_is_told_again() {
        let mut outbox = Outbox::default();
        outbox.ban(ban(1, 1));
        assert_eq!(outbox.next(&mut Sums::default(), 0), [LinkRecord::Ban(ban(1, 1))]);
        outbox.ban(ban(1, 2));
        assert_eq!(next(&mut outbox, 0), [LinkRecord::Ban(ban(1, 1))]);
        assert_eq!(next(&mut outbox, 0), [LinkRecord::Ban(ban(1, 2))]);
    }

    #[test]
    fn messages_are_bounded() {
        let mut outbox = Outbox::default();
        (0..200).for_each(|_| outbox.tell(LinkRecord::Warning("\u{10000}".repeat(1_000))));
        (0..100_000).for_each(|number| outbox.ban(ban(number, u64::MAX)));
        let mut sums = Sums::default();
        assert!((0..10_000).all(|number| sums.change(source(number), 0, u32::MAX, u32::MAX)));
        let (mut bans, mut used, mut now) = (0, 0, 0);
        while bans + used < 110_000 {
            let records = outbox.next(&mut sums, now).to_vec();
            outbox.sent();
            assert!(!records.is_empty());
            let bytes: usize = records.iter().map(|record| record.to_string().len() + 1).sum();
            assert!(bytes <= 128 * 1024, "{bytes}");
            bans += records.iter().filter(|record| matches!(record, LinkRecord::Ban(_))).count();
            let sums = records.iter().filter(|record| matches!(record, LinkRecord::Used { .. })).count();
            assert!(sums <= SUMS);
            used += sums;
            now += SUMS_AFTER;
        }
    }

    #[test]
    fn a_penalty_is_told_once_unless_it_is_longer() {
        let mut outbox = Outbox::default();
        let penalty = |number, milliseconds| LinkRecord::Penalty { source: source(number), milliseconds };
        outbox.penalty(source(1), 15_000, 0);
        assert_eq!(next(&mut outbox, 5), [penalty(1, 14_995)]);
        outbox.penalty(source(1), 10_500, 5_000);
        assert_eq!(next(&mut outbox, 5_000), []);
        outbox.penalty(source(1), 15_000, 5_000);
        assert_eq!(next(&mut outbox, 5_000), [penalty(1, 15_000)]);
        // One that has ended before it could be told.
        outbox.penalty(source(2), 10, 5_000);
        assert_eq!(next(&mut outbox, 5_010), []);
        let most = super::super::penalties::MOST;
        (0..2 * most as u32).for_each(|number| outbox.penalty(source(number), 1_000_000, 0));
        assert_eq!((outbox.penalties.len(), outbox.known_penalties.sources().count()), (most, most));
    }
}
