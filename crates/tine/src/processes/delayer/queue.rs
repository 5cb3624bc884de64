//! Clients that wait until they may come: a line for each source, served in turn. No system call here.

use std::collections::{HashMap, VecDeque};

use crate::admission::block::Block;
use crate::net::peer::Peer;
use crate::processes::rejector::Reason;

/// Times are looked at together for so long, in nanoseconds: where thousands wait, they are over a few at a time, and each time
/// everybody is looked at.
const GRAIN: u64 = 20_000_000;

/// A client that waits.
#[derive(Debug)]
pub(super) struct Waiting<C> {
    pub(super) client: C,
    pub(super) peer: Peer,
    /// Of whom others come behind it: its source, and its prefix where that is limited.
    pub(super) blocks: [Option<Block>; 2],
    /// Why it has to.
    pub(super) reason: Reason,
    /// Until when it does, at most: monotonic clock, nanoseconds.
    pub(super) until: u64,
}

/// What a line is for; those without an address share one.
type Source = Option<Block>;

impl<C> Waiting<C> {
    fn source(&self) -> Source {
        self.blocks[0]
    }
}

/// All who wait.
#[derive(Debug)]
pub(super) struct Queue<C> {
    lines: HashMap<Source, VecDeque<Waiting<C>>>,
    /// Sources with a line, the next one first.
    turn: VecDeque<Source>,
    length: usize,
    most: usize,
    /// How many wait of each block; and of which somebody does by now, or nobody any more.
    of_block: HashMap<Block, usize>,
    changes: Vec<(Block, bool)>,
    /// When to look at deadlines: not before the first is over.
    soonest: u64,
    /// Lines that have begun, and whose first has not been asked yet.
    news: Vec<Source>,
}

impl<C> Queue<C> {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Queue<C> {
        Queue {
            lines: HashMap::new(),
            turn: VecDeque::new(),
            length: 0,
            most,
            of_block: HashMap::new(),
            changes: Vec::new(),
            soonest: u64::MAX,
            news: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// When the next one has waited long enough, a little before or after.
    pub(super) fn soonest(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.soonest)
    }

    /// Of which blocks somebody waits since the last time that this was asked (true), or nobody any more, in order.
    pub(super) fn take_changes(&mut self) -> Vec<(Block, bool)> {
        std::mem::take(&mut self.changes)
    }

    /// One more. Where there is no room, the last of the longest line has to leave, so that a source alone cannot fill
    /// the queue: that one is returned. Who has waited before, and has found no place after all, has its old one in the line: those
    /// come first who may wait until sooner.
    pub(super) fn put(&mut self, waiting: Waiting<C>) -> Option<Waiting<C>> {
        let source = waiting.source();
        let mut leaves = None;
        if self.length >= self.most {
            let own = self.lines.get(&source).map_or(0, VecDeque::len);
            let longest = self.lines.iter().max_by_key(|(_, line)| line.len());
            match longest.map(|(source, line)| (*source, line.len())) {
                Some((longest, length)) if length > own + 1 => {
                    leaves = self.lines.get_mut(&longest).and_then(VecDeque::pop_back);
                    leaves.iter().for_each(|last| self.count_out(last.blocks));
                }
                _ => {
                    // Who sent it has marked these; where nobody else waits, nobody does.
                    let blocks = waiting.blocks.into_iter().flatten();
                    let of_nobody = blocks.filter(|block| !self.of_block.contains_key(block));
                    self.changes.extend(of_nobody.map(|block| (block, false)));
                    return Some(waiting);
                }
            }
        }
        self.count_in(waiting.blocks);
        self.soonest = self.soonest.min(look_at(waiting.until));
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turn.push_back(source);
            self.news.push(source);
        }
        let place = line.partition_point(|other| other.until <= waiting.until);
        line.insert(place, waiting);
        leaves
    }

    /// Asks the first of each line, source by source, whether it goes, until none does.
    pub(super) fn go(&mut self, mut goes: impl FnMut(&Waiting<C>) -> bool) {
        self.news.clear();
        let mut in_vain = 0;
        while in_vain < self.turn.len() {
            let Some(source) = self.turn.pop_front() else { return };
            let Some(line) = self.lines.get_mut(&source) else { continue };
            let gone = if line.front().is_some_and(&mut goes) { line.pop_front() } else { None };
            match line.is_empty() {
                true => drop(self.lines.remove(&source)),
                false => self.turn.push_back(source),
            }
            match gone {
                Some(gone) => {
                    self.count_out(gone.blocks);
                    in_vain = 0;
                }
                None => in_vain += 1,
            }
        }
    }

    /// Asks in the lines that have begun since somebody was asked; the others have said no.
    pub(super) fn go_of_new(&mut self, mut goes: impl FnMut(&Waiting<C>) -> bool) {
        for source in std::mem::take(&mut self.news) {
            let Some(line) = self.lines.get_mut(&source) else { continue };
            let mut gone = Vec::new();
            while line.front().is_some_and(&mut goes) {
                gone.extend(line.pop_front());
            }
            if line.is_empty() {
                self.lines.remove(&source);
                self.turn.retain(|other| *other != source);
            }
            gone.iter().for_each(|gone| self.count_out(gone.blocks));
        }
    }

    /// Takes out those who have waited long enough by now.
    pub(super) fn take_late(&mut self, now: u64) -> Vec<Waiting<C>> {
        if now < self.soonest {
            return Vec::new();
        }
        let late = self.take_out(|waiting| waiting.until <= now);
        let deadlines = self.lines.values().flatten().map(|waiting| look_at(waiting.until));
        self.soonest = deadlines.min().unwrap_or(u64::MAX);
        late
    }

    /// Takes out those of whom this is true.
    pub(super) fn take_out(&mut self, mut leaves: impl FnMut(&Waiting<C>) -> bool) -> Vec<Waiting<C>> {
        let mut out = Vec::new();
        for line in self.lines.values_mut() {
            let all = std::mem::take(line);
            for waiting in all {
                if leaves(&waiting) { out.push(waiting) } else { line.push_back(waiting) }
            }
        }
        out.iter().for_each(|waiting| self.count_out(waiting.blocks));
        self.lines.retain(|_, line| !line.is_empty());
        self.turn.retain(|source| self.lines.contains_key(source));
        out
    }

    fn count_in(&mut self, blocks: [Option<Block>; 2]) {
        self.length += 1;
        for block in blocks.into_iter().flatten() {
            let count = self.of_block.entry(block).or_default();
            *count += 1;
            if *count == 1 {
                self.changes.push((block, true));
            }
        }
    }

    fn count_out(&mut self, blocks: [Option<Block>; 2]) {
        self.length -= 1;
        for block in blocks.into_iter().flatten() {
            let left = self.of_block.get(&block).map_or(0, |count| count - 1);
            if left > 0 {
                self.of_block.insert(block, left);
            } else {
                self.of_block.remove(&block);
                self.changes.push((block, false));
            }
        }
    }
}

/// When to look at somebody's deadline.
fn look_at(until: u64) -> u64 {
    until.checked_next_multiple_of(GRAIN).unwrap_or(until)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::admission::block::Aggregations;

    fn waiting(source: u8, client: u32) -> Waiting<u32> {
        let peer = Peer::Tcp(([127, 0, 0, source], 1).into());
        let block = peer.block(Aggregations::default().source);
        Waiting { client, peer, blocks: [block, None], reason: Reason::Rate, until: u64::from(client) }
    }

    fn put(queue: &mut Queue<u32>, source: u8, client: u32) -> Option<u32> {
        queue.put(waiting(source, client)).map(|waiting| waiting.client)
    }

    fn go(queue: &mut Queue<u32>, mut most: usize) -> Vec<u32> {
        let mut gone = Vec::new();
        queue.go(|waiting| {
            let goes = most > 0;
            most = most.saturating_sub(1);
            gone.extend(goes.then_some(waiting.client));
            goes
        });
        gone
    }

    #[test]
    fn sources_have_turns_and_each_line_its_order() {
        let mut queue = Queue::new(100);
        for client in 0..5 {
            assert_eq!(put(&mut queue, 1, client), None);
        }
        for client in 10..12 {
            assert_eq!(put(&mut queue, 2, client), None);
        }
        assert_eq!(put(&mut queue, 3, 20), None);
        assert_eq!(go(&mut queue, 4), [0, 10, 20, 1]);
        assert_eq!(go(&mut queue, 100), [11, 2, 3, 4]);
        assert!(queue.is_empty());
        assert!(go(&mut queue, 100).is_empty());
    }

    #[test]
    fn who_may_not_go_holds_up_its_own_line_only() {
        let mut queue = Queue::new(100);
        for (source, client) in [(1, 0), (2, 10), (1, 1), (2, 11)] {
            assert_eq!(put(&mut queue, source, client), None);
        }
        let mut gone = Vec::new();
        queue.go(|waiting| {
            let goes = waiting.client >= 10;
            gone.extend(goes.then_some(waiting.client));
            goes
        });
        assert_eq!(gone, [10, 11]);
        assert_eq!(queue.lines.values().flatten().map(|waiting| waiting.client).min(), Some(0));
    }

    #[test]
    fn a_flood_fills_what_others_do_not_need() {
        let mut queue = Queue::new(4);
        let left: Vec<Option<u32>> = (0..6).map(|client| put(&mut queue, 1, client)).collect();
        assert_eq!(left, [None, None, None, None, Some(4), Some(5)]);
        // Others come in, at the cost of the flood's last.
        assert_eq!(put(&mut queue, 2, 10), Some(3));
        assert_eq!(put(&mut queue, 3, 20), Some(2));
        // As many as anybody: no reason to send somebody else away.
        assert_eq!(put(&mut queue, 2, 11), Some(11));
        assert_eq!(put(&mut queue, 4, 30), Some(1));
        assert_eq!(put(&mut queue, 5, 40), Some(40));
        assert_eq!(go(&mut queue, 100), [0, 10, 20, 30]);
    }

    #[test]
    fn who_leaves_is_counted_out() {
        let mut queue = Queue::new(3);
        for (source, client) in [(1, 0), (1, 1), (2, 10)] {
            assert_eq!(put(&mut queue, source, client), None);
        }
        let out = queue.take_out(|waiting| waiting.until == 0 || waiting.client == 10);
        let mut out: Vec<u32> = out.iter().map(|waiting| waiting.client).collect();
        out.sort_unstable();
        assert_eq!(out, [0, 10]);
        assert_eq!((put(&mut queue, 2, 11), put(&mut queue, 2, 12)), (None, None));
        assert_eq!(go(&mut queue, 100), [1, 11, 12]);
    }

    #[test]
    fn whatever_comes_and_goes_the_length_is_right() {
        let mut state = 11u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut queue = Queue::new(20);
        let mut marked = HashSet::new();
        let (mut inside, mut number) = (0_usize, 0);
        for _ in 0..20_000 {
            match random(8) {
                0..5 => {
                    number += 1;
                    // Of few sources the longest line gives up a place, of many nobody has two.
                    let sources = if number / 1000 % 2 == 0 { 8 } else { 250 };
                    let comes = waiting(random(sources) as u8, number);
                    // By the forker, before it sends.
                    marked.extend(comes.blocks.into_iter().flatten());
                    inside += usize::from(queue.put(comes).is_none());
                }
                5 | 6 => inside -= go(&mut queue, random(5) as usize).len(),
                _ => {
                    let which = random(7) as u32;
                    inside -= queue.take_out(|waiting| waiting.client % 7 == which).len();
                }
            }
            assert_eq!((queue.lines.values().flatten().count(), queue.length), (inside, inside));
            assert_eq!(queue.turn.len(), queue.lines.len());
            assert!(inside <= 20);
            for (block, waits) in queue.take_changes() {
                let _ = if waits { marked.insert(block) } else { marked.remove(&block) };
            }
            let blocks = queue.lines.values().flatten().flat_map(|waiting| waiting.blocks);
            assert_eq!(marked, blocks.flatten().collect(), "who is marked, and who waits");
        }
    }

    #[test]
    fn of_whom_somebody_waits_is_told_once() {
        let block =
            |number: u8| Peer::Tcp(([127, 0, 0, number], 1).into()).block(Aggregations::default().source);
        let mut queue = Queue::new(10);
        let (one, two) = (block(1).expect("an address"), block(2).expect("an address"));
        for (source, client) in [(1, 0), (1, 1), (2, 10)] {
            put(&mut queue, source, client);
        }
        assert_eq!(queue.take_changes(), [(one, true), (two, true)]);
        let asked = |queue: &mut Queue<u32>| {
            let mut asked = Vec::new();
            queue.go_of_new(|waiting| {
                asked.push(waiting.client);
                false
            });
            asked
        };
        assert_eq!((asked(&mut queue), asked(&mut queue)), (vec![0, 10], vec![]));
        put(&mut queue, 1, 2);
        assert_eq!(asked(&mut queue), [0; 0], "who joins a line is not asked");
        assert_eq!(go(&mut queue, 2), [0, 10]);
        assert_eq!(queue.take_changes(), [(two, false)]);
        queue.take_out(|_| true);
        assert_eq!(queue.take_changes(), [(one, false)]);
        assert_eq!(queue.soonest(), None);
        // A line that begins and goes at once has no turn left.
        put(&mut queue, 1, 3);
        queue.go_of_new(|_| true);
        assert_eq!((queue.is_empty(), queue.turn.len()), (true, 0));
    }

    #[test]
    fn deadlines_are_kept_in_any_order() {
        const UNIT: u32 = GRAIN as u32;
        let mut queue = Queue::new(10);
        for (source, until) in [(1, 5), (2, 2), (1, 3)] {
            put(&mut queue, source, until * UNIT);
        }
        assert_eq!(queue.soonest(), Some(2 * GRAIN));
        let late = |queue: &mut Queue<u32>, now: u64| {
            let mut late: Vec<u32> =
                queue.take_late(now).iter().map(|waiting| waiting.client / UNIT).collect();
            late.sort_unstable();
            late
        };
        assert_eq!(late(&mut queue, 2 * GRAIN - 1), [0; 0]);
        assert_eq!(late(&mut queue, 3 * GRAIN), [2, 3]);
        assert_eq!(queue.soonest(), Some(5 * GRAIN));
        assert_eq!(late(&mut queue, 5 * GRAIN), [5]);
        // They are looked at together.
        put(&mut queue, 1, 6 * UNIT + 1);
        assert_eq!(queue.soonest(), Some(7 * GRAIN));
    }

    #[test]
    fn who_comes_back_has_its_old_place() {
        let mut queue = Queue::new(10);
        for client in [1, 2, 4, 5, 3, 0] {
            put(&mut queue, 1, client);
        }
        assert_eq!(go(&mut queue, 10), [0, 1, 2, 3, 4, 5]);
    }
}
