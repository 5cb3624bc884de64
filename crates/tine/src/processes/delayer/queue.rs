//! The delay queue: clients over a limit, one queue for each source, served in turn. No system call
//! here.

use std::collections::{HashMap, VecDeque};

use crate::admission::block::Block;
use crate::admission::reason::Reason;
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;

/// Deadlines are rounded up to this, in nanoseconds: with thousands of clients, a few expire at a
/// time, and each pass over them visits all.
const GRAIN: u64 = 20_000_000;

/// A client in the delay queue.
#[derive(Debug)]
pub(super) struct QueuedClient<C> {
    pub(super) client: C,
    pub(super) peer: Peer,
    /// The blocks whose later clients queue behind it: its source, and its prefix where that has a
    /// limit.
    pub(super) blocks: [Option<Block>; 2],
    /// Why it was not admitted.
    pub(super) reason: Reason,
    /// When it was accepted: monotonic clock, nanoseconds.
    pub(super) since: u64,
    /// Until when it may wait, on the same clock.
    pub(super) deadline: u64,
    pub(super) proxied: Option<Proxied>,
}

/// The key of a source's queue; clients without an address share one.
type QueueKey = Option<Block>;

impl<C> QueuedClient<C> {
    fn key(&self) -> QueueKey {
        self.blocks[0]
    }
}

/// All queued clients.
#[derive(Debug)]
pub(super) struct DelayQueue<C> {
    queues: HashMap<QueueKey, VecDeque<QueuedClient<C>>>,
    /// Sources with a queue; the next one to be served is first.
    rotation: VecDeque<QueueKey>,
    length: usize,
    max: usize,
    /// Queued clients of each block, and the blocks that gained their first or lost their last one.
    of_block: HashMap<Block, usize>,
    changes: Vec<(Block, bool)>,
    /// No deadline is over before this.
    next_deadline: u64,
    /// Queues that were created since the last pass: their heads have not been offered a release
    /// yet.
    new_queues: Vec<QueueKey>,
}

impl<C> DelayQueue<C> {
    /// An empty queue for this many clients.
    pub(super) fn new(max: usize) -> DelayQueue<C> {
        DelayQueue {
            queues: HashMap::new(),
            rotation: VecDeque::new(),
            length: 0,
            max,
            of_block: HashMap::new(),
            changes: Vec::new(),
            next_deadline: u64::MAX,
            new_queues: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// When the next deadline is over, rounded up.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.next_deadline)
    }

    /// The blocks that gained their first queued client (true) or lost their last one since the
    /// last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<(Block, bool)> {
        std::mem::take(&mut self.changes)
    }

    /// Queues a client. If the queue is full, the last client of the longest queue is displaced and
    /// returned, so that one source cannot fill the queue; it is the new client unless that queue
    /// is longer by two. A client that was released before and rejected by its limits again has its
    /// old position: queues are ordered by deadline.
    pub(super) fn push(&mut self, client: QueuedClient<C>) -> Option<QueuedClient<C>> {
        let mut displaced = None;
        if self.length >= self.max {
            match self.longest_queue_beyond(client.key()) {
                Some(longest) => {
                    displaced = self.queues.get_mut(&longest).and_then(VecDeque::pop_back);
                    displaced.iter().for_each(|last| self.count_out(last.blocks));
                }
                None => {
                    // Its sender has marked these blocks; those without a queued client are
                    // unmarked.
                    let blocks = client.blocks.into_iter().flatten();
                    let empty = blocks.filter(|block| !self.of_block.contains_key(block));
                    self.changes.extend(empty.map(|block| (block, false)));
                    return Some(client);
                }
            }
        }
        self.insert(client);
        displaced
    }

    /// The longest queue, if a client of it may be displaced for one more client of `key`.
    fn longest_queue_beyond(&self, key: QueueKey) -> Option<QueueKey> {
        let own = self.queues.get(&key).map_or(0, VecDeque::len);
        let (longest, queue) = self.queues.iter().max_by_key(|(_, queue)| queue.len())?;
        (queue.len() > own + 1).then_some(*longest)
    }

    fn insert(&mut self, client: QueuedClient<C>) {
        let key = client.key();
        self.count_in(client.blocks);
        self.next_deadline = self.next_deadline.min(rounded(client.deadline));
        let queue = self.queues.entry(key).or_default();
        if queue.is_empty() {
            self.rotation.push_back(key);
            self.new_queues.push(key);
        }
        let position = queue.partition_point(|other| other.deadline <= client.deadline);
        queue.insert(position, client);
    }

    /// Offers a release to the head of each queue, source by source, until every head declines.
    pub(super) fn release_ready(&mut self, mut release: impl FnMut(&QueuedClient<C>) -> bool) {
        self.new_queues.clear();
        let mut declined = 0;
        while declined < self.rotation.len() {
            let Some(key) = self.rotation.pop_front() else { return };
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            let released = if queue.front().is_some_and(&mut release) { queue.pop_front() } else { None };
            match queue.is_empty() {
                true => drop(self.queues.remove(&key)),
                false => self.rotation.push_back(key),
            }
            match released {
                Some(client) => {
                    self.count_out(client.blocks);
                    declined = 0;
                }
                None => declined += 1,
            }
        }
    }

    /// Offers a release to the clients of the queues created since the last pass; the heads of all
    /// others have declined.
    pub(super) fn release_new(&mut self, mut release: impl FnMut(&QueuedClient<C>) -> bool) {
        for key in std::mem::take(&mut self.new_queues) {
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            let mut released = Vec::new();
            while queue.front().is_some_and(&mut release) {
                released.extend(queue.pop_front());
            }
            if queue.is_empty() {
                self.queues.remove(&key);
                self.rotation.retain(|other| *other != key);
            }
            released.iter().for_each(|client| self.count_out(client.blocks));
        }
    }

    /// Removes the clients whose deadline is over.
    pub(super) fn take_expired(&mut self, now: u64) -> Vec<QueuedClient<C>> {
        if now < self.next_deadline {
            return Vec::new();
        }
        let expired = self.remove_if(|client| client.deadline <= now);
        let deadlines = self.queues.values().flatten().map(|client| rounded(client.deadline));
        self.next_deadline = deadlines.min().unwrap_or(u64::MAX);
        expired
    }

    /// Removes the clients for which `remove` is true.
    pub(super) fn remove_if(
        &mut self,
        mut remove: impl FnMut(&QueuedClient<C>) -> bool,
    ) -> Vec<QueuedClient<C>> {
        let mut removed = Vec::new();
        for queue in self.queues.values_mut() {
            for client in std::mem::take(queue) {
                if remove(&client) { removed.push(client) } else { queue.push_back(client) }
            }
        }
        removed.iter().for_each(|client| self.count_out(client.blocks));
        self.queues.retain(|_, queue| !queue.is_empty());
        self.rotation.retain(|key| self.queues.contains_key(key));
        removed
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

/// A deadline, rounded up to the grain.
fn rounded(deadline: u64) -> u64 {
    deadline.checked_next_multiple_of(GRAIN).unwrap_or(deadline)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::admission::block::Aggregations;
    use crate::system::random::Random;

    fn queued(source: u8, client: u32) -> QueuedClient<u32> {
        let peer = Peer::Tcp(([127, 0, 0, source], 1).into());
        let block = peer.block(Aggregations::default().source);
        QueuedClient {
            client,
            peer,
            blocks: [block, None],
            reason: Reason::Rate,
            since: 0,
            deadline: u64::from(client),
            proxied: None,
        }
    }

    fn push(queue: &mut DelayQueue<u32>, source: u8, client: u32) -> Option<u32> {
        queue.push(queued(source, client)).map(|client| client.client)
    }

    fn release(queue: &mut DelayQueue<u32>, mut max: usize) -> Vec<u32> {
        let mut released = Vec::new();
        queue.release_ready(|client| {
            let release = max > 0;
            max = max.saturating_sub(1);
            released.extend(release.then_some(client.client));
            release
        });
        released
    }

    #[test]
    fn sources_take_turns_and_each_queue_keeps_its_order() {
        let mut queue = DelayQueue::new(100);
        for client in 0..5 {
            assert_eq!(push(&mut queue, 1, client), None);
        }
        for client in 10..12 {
            assert_eq!(push(&mut queue, 2, client), None);
        }
        assert_eq!(push(&mut queue, 3, 20), None);
        assert_eq!(release(&mut queue, 4), [0, 10, 20, 1]);
        assert_eq!(release(&mut queue, 100), [11, 2, 3, 4]);
        assert!(queue.is_empty());
        assert!(release(&mut queue, 100).is_empty());
    }

    #[test]
    fn a_client_that_declines_holds_up_its_own_queue_only() {
        let mut queue = DelayQueue::new(100);
        for (source, client) in [(1, 0), (2, 10), (1, 1), (2, 11)] {
            assert_eq!(push(&mut queue, source, client), None);
        }
        let mut released = Vec::new();
        queue.release_ready(|client| {
            let release = client.client >= 10;
            released.extend(release.then_some(client.client));
            release
        });
        assert_eq!(released, [10, 11]);
        assert_eq!(queue.queues.values().flatten().map(|client| client.client).min(), Some(0));
    }

    #[test]
    fn a_flood_is_displaced_by_other_sources() {
        let mut queue = DelayQueue::new(4);
        let displaced: Vec<Option<u32>> = (0..6).map(|client| push(&mut queue, 1, client)).collect();
        assert_eq!(displaced, [None, None, None, None, Some(4), Some(5)]);
        // Other sources displace the last clients of the flood.
        assert_eq!(push(&mut queue, 2, 10), Some(3));
        assert_eq!(push(&mut queue, 3, 20), Some(2));
        // A source with as many clients as any other displaces none.
        assert_eq!(push(&mut queue, 2, 11), Some(11));
        assert_eq!(push(&mut queue, 4, 30), Some(1));
        assert_eq!(push(&mut queue, 5, 40), Some(40));
        assert_eq!(release(&mut queue, 100), [0, 10, 20, 30]);
    }

    #[test]
    fn removed_clients_are_not_counted() {
        let mut queue = DelayQueue::new(3);
        for (source, client) in [(1, 0), (1, 1), (2, 10)] {
            assert_eq!(push(&mut queue, source, client), None);
        }
        let out = queue.remove_if(|client| client.deadline == 0 || client.client == 10);
        let mut out: Vec<u32> = out.iter().map(|client| client.client).collect();
        out.sort_unstable();
        assert_eq!(out, [0, 10]);
        assert_eq!((push(&mut queue, 2, 11), push(&mut queue, 2, 12)), (None, None));
        assert_eq!(release(&mut queue, 100), [1, 11, 12]);
    }

    #[test]
    fn lengths_and_marks_are_right_in_every_order() {
        let mut random = Random::new(11);
        let mut queue = DelayQueue::new(20);
        let mut marked = HashSet::new();
        let (mut inside, mut number) = (0_usize, 0);
        for _ in 0..20_000 {
            match random.below(8) {
                0..5 => {
                    number += 1;
                    // Few sources: the longest queue loses a client. Many: no source has two.
                    let sources = if number / 1000 % 2 == 0 { 8 } else { 250 };
                    let comes = queued(random.below(sources) as u8, number);
                    // Marked by the forker, before it sends.
                    marked.extend(comes.blocks.into_iter().flatten());
                    inside += usize::from(queue.push(comes).is_none());
                }
                5 | 6 => inside -= release(&mut queue, random.below(5)).len(),
                _ => {
                    let which = random.below(7) as u32;
                    inside -= queue.remove_if(|client| client.client % 7 == which).len();
                }
            }
            assert_eq!((queue.queues.values().flatten().count(), queue.length), (inside, inside));
            assert_eq!(queue.rotation.len(), queue.queues.len());
            assert!(inside <= 20);
            for (block, queued) in queue.take_changes() {
                let _ = if queued { marked.insert(block) } else { marked.remove(&block) };
            }
            let blocks = queue.queues.values().flatten().flat_map(|client| client.blocks);
            assert_eq!(marked, blocks.flatten().collect(), "marked blocks, and blocks with queued clients");
        }
    }

    #[test]
    fn a_block_with_queued_clients_is_reported_once() {
        let block =
            |number: u8| Peer::Tcp(([127, 0, 0, number], 1).into()).block(Aggregations::default().source);
        let mut queue = DelayQueue::new(10);
        let (one, two) = (block(1).expect("an address"), block(2).expect("an address"));
        for (source, client) in [(1, 0), (1, 1), (2, 10)] {
            push(&mut queue, source, client);
        }
        assert_eq!(queue.take_changes(), [(one, true), (two, true)]);
        let offered = |queue: &mut DelayQueue<u32>| {
            let mut offered = Vec::new();
            queue.release_new(|client| {
                offered.push(client.client);
                false
            });
            offered
        };
        assert_eq!((offered(&mut queue), offered(&mut queue)), (vec![0, 10], vec![]));
        push(&mut queue, 1, 2);
        assert_eq!(offered(&mut queue), [0; 0], "a client that joins a queue gets no offer");
        assert_eq!(release(&mut queue, 2), [0, 10]);
        assert_eq!(queue.take_changes(), [(two, false)]);
        queue.remove_if(|_| true);
        assert_eq!(queue.take_changes(), [(one, false)]);
        assert_eq!(queue.next_deadline(), None);
        // A queue whose only client is released at once leaves the rotation.
        push(&mut queue, 1, 3);
        queue.release_new(|_| true);
        assert_eq!((queue.is_empty(), queue.rotation.len()), (true, 0));
    }

    #[test]
    fn deadlines_expire_in_any_order() {
        const UNIT: u32 = GRAIN as u32;
        let mut queue = DelayQueue::new(10);
        for (source, until) in [(1, 5), (2, 2), (1, 3)] {
            push(&mut queue, source, until * UNIT);
        }
        assert_eq!(queue.next_deadline(), Some(2 * GRAIN));
        let expired = |queue: &mut DelayQueue<u32>, now: u64| {
            let mut expired: Vec<u32> =
                queue.take_expired(now).iter().map(|client| client.client / UNIT).collect();
            expired.sort_unstable();
            expired
        };
        assert_eq!(expired(&mut queue, 2 * GRAIN - 1), [0; 0]);
        assert_eq!(expired(&mut queue, 3 * GRAIN), [2, 3]);
        assert_eq!(queue.next_deadline(), Some(5 * GRAIN));
        assert_eq!(expired(&mut queue, 5 * GRAIN), [5]);
        // Deadlines within a grain expire together.
        push(&mut queue, 1, 6 * UNIT + 1);
        assert_eq!(queue.next_deadline(), Some(7 * GRAIN));
    }

    #[test]
    fn a_client_that_comes_back_has_its_old_position() {
        let mut queue = DelayQueue::new(10);
        for client in [1, 2, 4, 5, 3, 0] {
            push(&mut queue, 1, client);
        }
        assert_eq!(release(&mut queue, 10), [0, 1, 2, 3, 4, 5]);
    }
}
