use super::*;

#[test]
fn a_ban_that_another_node_says_holds_before_the_bucket_has_it() {
    let clock = Clock { now: 0, day: 1_000_000_000 };
    let ban = |state, at| BanRecord { block: "192.0.2.1".parse().expect("a block"), state, at };
    let mut bans = Bans::default();
    let first = ban(BanState::Forever, clock.day);
    assert!(bans.hear(first, clock) && !bans.hear(first, clock));
    assert!(!bans.hear(ban(BanState::Lifted, clock.day - 1), clock), "an older one");
    assert!(bans.hear(ban(BanState::Lifted, clock.day + 1), clock));
    assert!(!bans.hear(ban(BanState::Forever, clock.day + AHEAD + 1), clock), "of a time to come");
    assert!(bans.next_put().is_none(), "the other node puts it");
    // The bucket has the older one, and then nobody puts the newer one: this node does.
    bans.begin_reading();
    let block = first.block;
    assert_eq!(bans.learn(block, Some(first), 7, clock), Learned::Nothing);
    bans.end_reading(clock);
    let put = bans.next_put().expect("a put");
    assert_eq!((put.record, put.revision), (ban(BanState::Lifted, clock.day + 1), 7));
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// The time of day at the start.
const TODAY: u64 = 1_000 * DAY;

fn clock(now: u64) -> Clock {
    Clock { now, day: TODAY + now }
}

fn block(number: u32) -> Prefix {
    std::net::Ipv4Addr::from_bits(number).to_string().parse().expect("an address")
}

fn record(number: u32, state: BanState, at: u64) -> BanRecord {
    BanRecord { block: block(number), state, at }
}

fn ban(number: u32, at: u64) -> BanRecord {
    record(number, BanState::Forever, at)
}

/// Bans that were read from a bucket with these records, which have revisions from 1 on.
fn read(records: &[BanRecord]) -> Bans {
    let mut bans = Bans::default();
    bans.begin_reading();
    for (record, revision) in records.iter().zip(1..) {
        bans.learn(record.block, Some(*record), revision, clock(0));
    }
    bans.end_reading(clock(0));
    bans
}

#[test]
fn of_two_records_the_later_counts_and_of_equal_times_the_smaller_text() {
    use BanState::{Forever, Lifted, Until};
    let at = TODAY;
    for (one, other, is_first) in [
        (record(1, Lifted, at + 1), record(1, Forever, at), true),
        (record(1, Lifted, at - 1), record(1, Forever, at), false),
        (record(1, Forever, at), record(1, Lifted, at), true),
        (record(1, Until(9), at), record(1, Forever, at), true),
        (record(1, Until(10), at), record(1, Until(9), at), true),
    ] {
        assert_eq!((is_newer(&one, &other), is_newer(&other, &one)), (is_first, !is_first));
    }
    assert!(!is_newer(&ban(1, at), &ban(1, at)));
}

#[test]
fn what_the_bucket_lacks_is_put_and_what_is_new_there_is_told() {
    let at = TODAY;
    let mut bans = Bans::default();
    for record in [ban(1, at), ban(2, at), ban(3, at), ban(4, at)] {
        assert!(bans.order(record, clock(0)));
    }
    bans.begin_reading();
    let learn = |bans: &mut Bans, record: BanRecord, revision| {
        bans.learn(record.block, Some(record), revision, clock(0))
    };
    assert_eq!(learn(&mut bans, ban(1, at), 10), Learned::Nothing);
    let lift = record(2, BanState::Lifted, at + 1);
    assert_eq!(learn(&mut bans, lift, 11), Learned::News(lift));
    assert_eq!(learn(&mut bans, record(3, BanState::Lifted, at - 1), 12), Learned::Nothing);
    assert_eq!(learn(&mut bans, ban(5, at), 13), Learned::News(ban(5, at)));
    bans.end_reading(clock(0));
    assert_eq!(bans.pending(), 2);
    let mut puts = [bans.next_put(), bans.next_put()].map(|put| put.expect("one"));
    puts.sort_by_key(|put| put.revision);
    let expected = [Put { record: ban(4, at), revision: 0 }, Put { record: ban(3, at), revision: 12 }];
    assert_eq!((puts, bans.next_put()), (expected, None));
    bans.put_done(&puts[0], 14);
    bans.put_done(&puts[1], 15);
    assert_eq!(bans.pending(), 0);
    // Its own puts are read, too.
    assert_eq!(learn(&mut bans, ban(4, at), 14), Learned::Nothing);
    assert_eq!((bans.pending(), bans.next_put()), (0, None));
}

#[test]
fn an_order_while_a_put_is_under_way_follows_it() {
    let at = TODAY;
    let mut bans = read(&[]);
    bans.order(ban(1, at), clock(0));
    let put = bans.next_put().expect("one");
    let lift = record(1, BanState::Lifted, at + 1);
    bans.order(lift, clock(0));
    // An older one changes nothing.
    bans.order(ban(1, at - 1), clock(0));
    assert_eq!(bans.next_put(), None);
    bans.put_done(&put, 7);
    assert_eq!(bans.next_put(), Some(Put { record: lift, revision: 7 }));
}

#[test]
fn a_refused_put_waits_for_its_reason() {
    let at = TODAY;
    // The reason comes before the answer, or after it.
    for comes_before in [true, false] {
        let mut bans = read(&[]);
        bans.order(ban(1, at), clock(0));
        let put = bans.next_put().expect("one");
        let older = record(1, BanState::Lifted, at - 1);
        if comes_before {
            bans.learn(block(1), Some(older), 5, clock(0));
        }
        bans.put_refused(&put, 0);
        if !comes_before {
            assert_eq!((bans.next_put(), bans.misses_a_reason(REASON_WITHIN)), (None, false));
            assert!(bans.misses_a_reason(REASON_WITHIN + 1));
            bans.learn(block(1), Some(older), 5, clock(0));
        }
        assert!(!bans.misses_a_reason(DAY) && bans.next_put().is_none());
        bans.mend();
        assert_eq!(bans.next_put(), Some(Put { record: ban(1, at), revision: 5 }));
        // A newer reason takes its place.
        let newer = record(1, BanState::Lifted, at + 1);
        assert_eq!(bans.learn(block(1), Some(newer), 6, clock(0)), Learned::News(newer));
        bans.put_refused(&Put { record: ban(1, at), revision: 5 }, 0);
        bans.mend();
        assert_eq!((bans.next_put(), bans.pending()), (None, 0));
    }
}

#[test]
fn what_others_break_is_put_again_a_few_times_a_second() {
    let at = TODAY;
    let all: Vec<BanRecord> = (0..1_000).map(|number| ban(number, at)).collect();
    let mut bans = read(&all);
    for number in 0..1_000 {
        let found = if number % 2 == 0 { None } else { Some(ban(number, at - 1)) };
        assert_eq!(bans.learn(block(number), found, 2_000, clock(0)), Learned::Nothing);
    }
    assert_eq!((bans.next_put(), bans.pending()), (None, 1_000));
    bans.mend();
    assert_eq!(std::iter::from_fn(|| bans.next_put()).count(), MENDED);
    // A new order does not wait.
    bans.order(ban(5_000, at), clock(0));
    assert_eq!(bans.next_put(), Some(Put { record: ban(5_000, at), revision: 0 }));
}

#[test]
fn records_of_a_time_that_has_not_come_are_left_out() {
    let far = ban(1, TODAY + HOUR + 1);
    let mut bans = read(&[]);
    assert_eq!(bans.learn(block(1), Some(far), 1, clock(0)), Learned::Ahead);
    assert_eq!(bans.len(), 0);
    let near = ban(1, TODAY + HOUR);
    assert_eq!(bans.learn(block(1), Some(near), 2, clock(0)), Learned::News(near));
    // It cannot take the place of one that has come: that is put again.
    assert_eq!(bans.learn(block(1), Some(ban(1, u64::MAX)), 3, clock(0)), Learned::Ahead);
    bans.mend();
    assert_eq!(bans.next_put(), Some(Put { record: near, revision: 3 }));
}

#[test]
fn what_has_ended_a_day_ago_is_forgotten_everywhere() {
    use BanState::{Forever, Lifted, Until};
    let second = |milliseconds: u64| milliseconds / 1_000;
    for (state, at, is_over) in [
        (Forever, 0, false),
        (Lifted, TODAY - DAY, false),
        (Lifted, TODAY - DAY - 1, true),
        (Until(second(TODAY - DAY)), 1, false),
        (Until(second(TODAY - DAY) - 1), 1, true),
        (Until(u64::MAX), 1, false),
    ] {
        assert_eq!(super::is_over(&record(1, state, at), clock(0)), is_over, "{state:?} {at}");
    }
    let old = record(1, Lifted, TODAY - DAY - 1);
    let mut bans = read(&[ban(2, TODAY), record(3, Lifted, TODAY)]);
    assert!(bans.order(old, clock(0)));
    assert_eq!(bans.len(), 2);
    let purge = Purge { block: block(1), revision: 9 };
    assert_eq!(bans.learn(block(1), Some(old), 9, clock(0)), Learned::Over(purge));
    let tomorrow = clock(DAY + 1);
    assert_eq!(bans.sweep(clock(DAY)), []);
    let purge = Purge { block: block(3), revision: 2 };
    assert_eq!((bans.sweep(tomorrow), bans.sweep(tomorrow)), (vec![], vec![purge]));
    assert_eq!(bans.len(), 1);
}

#[test]
fn a_sweep_looks_at_all_in_parts_and_purges_few_at_a_time() {
    let mut bans = Bans::default();
    let all = 3 * SWEPT as u32;
    for number in 0..all {
        let state = if number < 500 { BanState::Lifted } else { BanState::Forever };
        assert!(bans.order(record(number, state, TODAY), clock(0)));
    }
    let later = clock(2 * DAY);
    let purged: Vec<usize> = (0..10).map(|_| bans.sweep(later).len()).collect();
    assert_eq!(purged, [100, 100, 100, 100, 100, 0, 0, 0, 0, 0]);
    assert_eq!(bans.len(), all as usize - 500);
}

#[test]
fn there_are_as_many_as_have_room() {
    let mut bans = Bans::default();
    for number in 0..MOST as u32 {
        assert!(bans.order(ban(number, TODAY), clock(0)));
    }
    assert!(!bans.order(ban(u32::MAX, TODAY), clock(0)));
    assert_eq!(bans.learn(block(u32::MAX), Some(ban(u32::MAX, TODAY)), 1, clock(0)), Learned::NoRoom);
    // Those that have room change.
    assert!(bans.order(record(1, BanState::Lifted, TODAY + 1), clock(0)));
    assert_eq!(bans.len(), MOST);
}

/// A bucket, and random numbers that are the same each time.
struct Simulated {
    records: BTreeMap<Prefix, (Option<BanRecord>, u64)>,
    revision: u64,
    seed: u64,
}

impl Simulated {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn write(&mut self, block: Prefix, record: Option<BanRecord>) -> u64 {
        self.revision += 1;
        self.records.insert(block, (record, self.revision));
        self.revision
    }

    fn put(&mut self, put: &Put) -> Option<u64> {
        let block = put.record.block;
        let current = self.records.get(&block).map_or(0, |(_, revision)| *revision);
        (current == put.revision).then(|| self.write(block, Some(put.record)))
    }
}

/// A node: what it knows, and the last revision that it has read, unless the bus is away.
struct TestNode {
    bans: Bans,
    read_to: Option<u64>,
}

impl TestNode {
    fn read(&mut self, bucket: &Simulated) {
        let Some(read_to) = self.read_to else { return };
        let mut news: Vec<_> =
            bucket.records.iter().filter(|(_, (_, revision))| *revision > read_to).collect();
        news.sort_by_key(|(_, (_, revision))| *revision);
        for (block, (record, revision)) in news {
            self.bans.learn(*block, *record, *revision, clock(0));
            self.read_to = Some(*revision);
        }
    }

    fn connect(&mut self, bucket: &Simulated) {
        self.bans.begin_reading();
        self.read_to = Some(0);
        self.read(bucket);
        self.bans.end_reading(clock(0));
    }

    /// Puts one record, of which the answer comes before or after what was put meanwhile.
    fn put(&mut self, bucket: &mut Simulated) {
        if self.read_to.is_none() {
            return;
        }
        let Some(put) = self.bans.next_put() else { return self.bans.mend() };
        let answer = bucket.put(&put);
        if bucket.random(2) == 0 {
            self.read(bucket);
        }
        match answer {
            Some(revision) => self.bans.put_done(&put, revision),
            None => self.bans.put_refused(&put, 0),
        }
    }
}

#[test]
fn nodes_agree_on_the_latest_orders_whatever_happens_on_the_way() {
    for seed in 0..300 {
        let mut bucket = Simulated { records: BTreeMap::new(), revision: 0, seed };
        let mut nodes = [(); 3].map(|()| TestNode { bans: Bans::default(), read_to: None });
        let mut latest: BTreeMap<Prefix, BanRecord> = BTreeMap::new();
        for step in 0..400 {
            let at = bucket.random(3) as usize;
            match bucket.random(14) {
                0..4 => {
                    let number = bucket.random(8) as u32;
                    let states = [BanState::Forever, BanState::Lifted, BanState::Until(TODAY / 1_000 + step)];
                    let state = states[bucket.random(3) as usize];
                    // Times are close, and sometimes equal.
                    let order = record(number, state, TODAY + step / 4);
                    nodes[at].bans.order(order, clock(0));
                    let latest = latest.entry(order.block).or_insert(order);
                    if is_newer(&order, latest) {
                        *latest = order;
                    }
                }
                4..8 => nodes[at].put(&mut bucket),
                8..11 => nodes[at].read(&bucket),
                11 => nodes[at].read_to = None,
                12 => nodes[at].connect(&bucket),
                _ => match bucket.random(8) {
                    // Somebody deletes a record, writes an old one or one that is none, or deletes
                    // the bucket, which all nodes notice.
                    0 => {
                        bucket = Simulated { records: BTreeMap::new(), revision: 0, seed: bucket.seed };
                        nodes.iter_mut().for_each(|node| node.read_to = None);
                    }
                    1..3 => _ = bucket.write(block(1), Some(record(1, BanState::Lifted, TODAY - 1))),
                    _ => _ = bucket.write(block(2), None),
                },
            }
        }
        nodes.iter_mut().for_each(|node| node.connect(&bucket));
        assert_agreed(seed, &mut bucket, &mut nodes, &latest);
    }
}

/// After a while, all nodes and the bucket have the latest orders.
fn assert_agreed(
    seed: u64,
    bucket: &mut Simulated,
    nodes: &mut [TestNode],
    latest: &BTreeMap<Prefix, BanRecord>,
) {
    for _ in 0..100 {
        nodes.iter_mut().for_each(|node| node.put(bucket));
        nodes.iter_mut().for_each(|node| node.read(bucket));
    }
    let expected: Vec<BanRecord> = latest.values().copied().collect();
    for node in nodes.iter() {
        let known: Vec<BanRecord> = node.bans.known.values().map(|known| known.record).collect();
        // The one that somebody else has written may be all that there is of its block.
        let of_all = |records: &[BanRecord]| {
            records.iter().filter(|record| latest.contains_key(&record.block)).copied().collect::<Vec<_>>()
        };
        assert_eq!(of_all(&known), expected, "seed {seed}");
        assert_eq!(node.bans.pending(), 0, "seed {seed}");
    }
    for (block, record) in latest {
        assert_eq!(bucket.records.get(block).and_then(|(record, _)| *record), Some(*record), "seed {seed}");
    }
}
