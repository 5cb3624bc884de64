//! The use of each source here and at the other nodes, and what this node may do from that. Runs in
//! the supervisor, which calls it at each tick and applies the results.
//!
//! Nodes tell each other what they *reserve* for a source: the connections that it may have there
//! until they tell something else, not those that it has. So what a node hears late is never less
//! than what others may use. Of what nobody has reserved, each node may take an equal part, and no
//! more before it has heard what the others have taken. While reports arrive in time, the sum over
//! all nodes exceeds the limit by less than the number of nodes: each may round its part up to one.

use std::collections::HashMap;
use std::time::Duration;

use super::block::Block;
use super::fleet::FleetLimits;
use super::rate::Rate;

/// The time between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Sources that are tracked, at most: as many as the tables have.
const MAX_SOURCES: usize = super::sources::MAX_SOURCES;

/// A cap that stays the same is set anew after this time: it must not expire.
const REFRESH_AFTER: u64 = 1_000_000_000;

/// What a node reserves is increased after this time, not before: else it would take a part of what
/// is left several times before it hears that others have done so, too. They hear of an increase
/// within three ticks (the tick here, the message, the tick there) and some time for the bus, and
/// what they have taken until then is heard within as much.
const SETTLES_IN: u64 = 800_000_000;

/// The nodes of a fleet, as far as this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FleetNodes {
    /// Whether the bus is there.
    pub(crate) is_connected: bool,
    /// Those that are heard, this one included.
    pub(crate) present: u32,
    /// Those that are not heard, and may still serve.
    pub(crate) lost: u32,
}

impl FleetNodes {
    /// All of them.
    pub(crate) fn count(self) -> u32 {
        self.present.saturating_add(self.lost).max(1)
    }

    /// What is left for a source here if `remote` connections are reserved elsewhere. A lost node
    /// may use its share.
    fn room(self, max: usize, remote: usize) -> usize {
        let reserved = FleetLimits::share(max, self.count()).saturating_mul(self.lost as usize);
        max.saturating_sub(remote).saturating_sub(reserved)
    }

    /// What is reserved here for a source with `local` connections, if each node takes an equal
    /// part of what is left.
    fn reserve(self, room: usize, local: usize) -> usize {
        let part = room.saturating_sub(local) / self.present.max(1) as usize;
        local.saturating_add(part.max(1)).min(room)
    }

    /// The tokens that this node may take of a bucket of the fleet until more is heard.
    fn tokens(self, bucket: f64) -> f64 {
        let part = bucket / f64::from(self.count());
        if bucket >= 1.0 { part.max(1.0) } else { part.max(0.0) }
    }
}

/// The use of a source.
#[derive(Clone, Copy, Debug, Default)]
struct SourceUse {
    /// Its connections here, at the last tick.
    held: u32,
    /// Those that have ended since.
    ended: u32,
    /// Ends that were noted after the connection was out of `held`: they are not told twice.
    noted_early: u32,
    /// What the other nodes that are heard have reserved.
    remote: u32,
    /// Those admitted there since the last tick.
    remote_taken: u32,
    bucket: Option<FleetBucket>,
    /// What is reserved here, and since when; nothing for a source without connections.
    reserved: Option<(usize, u64)>,
    /// What was told to the others last.
    told: u32,
    /// The cap that was set last, and when.
    cap: Option<(usize, u64)>,
    /// When its tokens were set last, or first counted.
    tokens_at: Option<u64>,
}

/// The bucket of a source, as if the fleet were one server.
#[derive(Clone, Copy, Debug)]
struct FleetBucket {
    tokens: f64,
    at: u64,
}

impl FleetBucket {
    /// Fills it for the time that has passed, and takes what all nodes have admitted.
    fn advance(&mut self, rate: Rate, taken: u64, now: u64) {
        let burst = rate.burst_tokens();
        let filled = now.saturating_sub(self.at) as f64 / rate.interval_nanos() as f64;
        // A debt is bounded: a node that claims to admit without end must not reject for ever.
        self.tokens = ((self.tokens + filled).min(burst) - taken as f64).max(-burst);
        self.at = now;
    }

    fn is_full(&self, rate: Rate) -> bool {
        self.tokens >= rate.burst_tokens()
    }
}

/// The use of all sources.
#[derive(Debug, Default)]
pub(crate) struct FleetUse {
    limits: FleetLimits,
    sources: HashMap<Block, SourceUse>,
}

/// What follows from a tick.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct FleetTick {
    /// For the other nodes: what is reserved for a source here, and the connections admitted since
    /// it was told last.
    pub(crate) told: Vec<(Block, u32, u32)>,
    /// For forkers: the connections that a source may have here.
    pub(crate) caps: Vec<(Block, usize)>,
    /// For forkers: the tokens of a source here.
    pub(crate) tokens: Vec<(Block, f64)>,
}

impl FleetUse {
    pub(crate) fn new(limits: FleetLimits) -> FleetUse {
        FleetUse { limits, sources: HashMap::new() }
    }

    /// A connection of a source has ended here.
    pub(crate) fn on_end(&mut self, source: Block) {
        if let Some(used) = self.source(source) {
            used.ended = used.ended.saturating_add(1);
        }
    }

    /// The use of a source by all other nodes has changed.
    pub(crate) fn on_remote(&mut self, source: Block, held: u32, taken: u32) {
        if let Some(used) = self.source(source) {
            used.remote = held;
            used.remote_taken = used.remote_taken.saturating_add(taken);
        }
    }

    /// Nothing is known of other nodes any more.
    pub(crate) fn forget_remote(&mut self) {
        self.sources.values_mut().for_each(|used| (used.remote, used.remote_taken) = (0, 0));
    }

    /// The others know nothing of this node any more.
    pub(crate) fn tell_all(&mut self) -> Vec<(Block, u32, u32)> {
        self.sources.iter().map(|(source, used)| (*source, used.told, 0)).collect()
    }

    fn source(&mut self, source: Block) -> Option<&mut SourceUse> {
        let is_full = self.sources.len() >= MAX_SOURCES;
        if is_full && !self.sources.contains_key(&source) {
            return None;
        }
        Some(self.sources.entry(source).or_default())
    }

    /// Time has passed. `held`: the connections of each source here. `now`: nanoseconds of the
    /// monotonic clock.
    pub(crate) fn on_tick(
        &mut self,
        mut held: HashMap<Block, u32>,
        nodes: FleetNodes,
        now: u64,
    ) -> FleetTick {
        let mut tick = FleetTick::default();
        let limits = self.limits;
        for (source, used) in &mut self.sources {
            let before = used.held;
            used.held = held.remove(source).unwrap_or(0);
            used.advance(*source, before, limits, nodes, now, &mut tick);
        }
        for (source, held) in held {
            let Some(used) = self.source(source) else { continue };
            used.held = held;
            used.advance(source, 0, limits, nodes, now, &mut tick);
        }
        self.sources.retain(|_, used| used.is_of_interest(limits));
        tick
    }
}

impl SourceUse {
    fn advance(
        &mut self,
        source: Block,
        before: u32,
        limits: FleetLimits,
        nodes: FleetNodes,
        now: u64,
        tick: &mut FleetTick,
    ) {
        let taken = self.take_admitted(before);
        let mut reserved = self.held;
        if let Some(max) = limits.max_per_source {
            let cap = self.cap(max, nodes, now);
            reserved = reserved.max(self.reserved.map_or(0, |(reserved, _)| reserved as u32));
            if self.cap.is_none_or(|(set, at)| set != cap || now >= at + REFRESH_AFTER) {
                self.cap = Some((cap, now));
                tick.caps.push((source, cap));
            }
        }
        if taken > 0 || reserved != self.told {
            self.told = reserved;
            tick.told.push((source, reserved, taken));
        }
        if let Some(rate) = limits.rate_per_source {
            let full = FleetBucket { tokens: rate.burst_tokens(), at: now };
            let bucket = self.bucket.get_or_insert(full);
            bucket.advance(rate, u64::from(taken) + u64::from(std::mem::take(&mut self.remote_taken)), now);
            // Alone, a node goes on with its share, which fills by itself.
            let since = *self.tokens_at.get_or_insert(now);
            if nodes.is_connected && now >= since + SETTLES_IN {
                self.tokens_at = Some(now);
                tick.tokens.push((source, nodes.tokens(bucket.tokens)));
            }
        }
    }

    /// The connections that the source may have here.
    fn cap(&mut self, max: usize, nodes: FleetNodes, now: u64) -> usize {
        let share = FleetLimits::share(max, nodes.count());
        if !nodes.is_connected {
            self.reserved = None;
            return share;
        }
        let room = nodes.room(max, self.remote as usize);
        // Where nobody has reserved anything, each node may use its share at once.
        let first = if self.remote == 0 { share.min(room) } else { nodes.reserve(room, 0) };
        if self.held == 0 {
            self.reserved = None;
            return first;
        }
        let (reserved, since) = *self.reserved.get_or_insert((first, now));
        let wanted = nodes.reserve(room, self.held as usize);
        if now < since + SETTLES_IN {
            // Less is told at once: others may need it.
            let reserved = reserved.min(wanted.max(self.held as usize));
            self.reserved = Some((reserved, since));
            return reserved.min(room);
        }
        self.reserved = Some((wanted, now));
        wanted
    }

    /// The connections that were admitted since the last tick, with `before` connections then.
    fn take_admitted(&mut self, before: u32) -> u32 {
        let ended = std::mem::take(&mut self.ended);
        // An end may be noted a moment before or after the connection is gone from the count.
        let admitted =
            i64::from(self.held) + i64::from(ended) - i64::from(before) - i64::from(self.noted_early);
        self.noted_early = u32::try_from(-admitted).unwrap_or(0);
        u32::try_from(admitted).unwrap_or(0)
    }

    fn is_of_interest(&self, limits: FleetLimits) -> bool {
        let is_full = |bucket: FleetBucket| limits.rate_per_source.is_none_or(|rate| bucket.is_full(rate));
        self.held > 0
            || self.told > 0
            || self.remote > 0
            || self.noted_early > 0
            || !self.bucket.is_none_or(is_full)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Aggregations;
    use super::*;
    use crate::net::peer::Peer;

    const MS: u64 = 1_000_000;

    fn source(last: u8) -> Block {
        let peer = Peer::Tcp(([192, 0, 2, last], 1).into());
        peer.block(Aggregations::default().source).expect("an address")
    }

    fn connected(present: u32, lost: u32) -> FleetNodes {
        FleetNodes { is_connected: true, present, lost }
    }

    fn used(max: Option<usize>, rate: Option<Rate>) -> FleetUse {
        FleetUse::new(FleetLimits { max_per_source: max, rate_per_source: rate })
    }

    #[test]
    fn what_is_left_is_taken_in_equal_parts() {
        for (present, lost, remote, local, room, reserved) in [
            (1, 0, 0, 5, 20, 20),
            (3, 0, 0, 2, 20, 8),
            (3, 0, 12, 2, 8, 4),
            (3, 0, 19, 0, 1, 1),
            (3, 0, 20, 0, 0, 0),
            (3, 0, 50, 7, 0, 0),
            // Each lost node may use a quarter.
            (3, 1, 0, 0, 15, 5),
            (2, 2, 0, 0, 10, 5),
            (1, 3, 6, 0, 0, 0),
        ] {
            let nodes = connected(present, lost);
            let found = (nodes.room(20, remote), nodes.reserve(nodes.room(20, remote), local));
            assert_eq!(found, (room, reserved), "{present} {lost} {remote} {local}");
        }
    }

    #[test]
    fn a_node_tells_what_has_changed_and_caps_what_it_may_have() {
        let mut fleet = used(Some(9), None);
        let nodes = connected(3, 0);
        let tick = |fleet: &mut FleetUse, held: u32, at: u64| {
            let held = if held > 0 { HashMap::from([(source(1), held)]) } else { HashMap::new() };
            let FleetTick { told, caps, .. } = fleet.on_tick(held, nodes, at * MS);
            let told = told.first().map(|(_, held, taken)| (*held, *taken));
            (told, caps.first().map(|(_, cap)| *cap))
        };
        assert_eq!(tick(&mut fleet, 2, 0), (Some((3, 2)), Some(3)), "its share at first");
        assert_eq!(tick(&mut fleet, 2, 100), (None, None));
        fleet.on_end(source(1));
        assert_eq!(tick(&mut fleet, 3, 200), (Some((3, 2)), None));
        assert_eq!(tick(&mut fleet, 3, 800), (Some((5, 0)), Some(5)), "and a part of the rest");
        fleet.on_remote(source(1), 5, 5);
        assert_eq!(tick(&mut fleet, 4, 900), (Some((4, 1)), Some(4)), "others have reserved it");
        assert_eq!(tick(&mut fleet, 4, 1600), (None, None));
        (0..4).for_each(|_| fleet.on_end(source(1)));
        assert_eq!(tick(&mut fleet, 0, 1650), (Some((0, 0)), Some(1)));
        assert_eq!(fleet.sources.len(), 1, "others have some");
        fleet.on_remote(source(1), 0, 0);
        tick(&mut fleet, 0, 1700);
        assert!(fleet.sources.is_empty());
        // The end of a connection is noted before it is gone.
        assert_eq!(tick(&mut fleet, 1, 1800).0, Some((3, 1)));
        fleet.on_end(source(1));
        assert_eq!(tick(&mut fleet, 1, 1900).0, Some((3, 1)));
        assert_eq!(tick(&mut fleet, 0, 2000).0, Some((0, 0)));
        assert_eq!(tick(&mut fleet, 0, 2100).0, None);
    }

    #[test]
    fn without_the_bus_a_node_has_its_share() {
        let mut fleet = used(Some(10), Some(Rate::new(10, Duration::from_secs(1))));
        let alone = FleetNodes { is_connected: false, ..connected(3, 0) };
        fleet.on_remote(source(1), 9, 0);
        let tick = fleet.on_tick(HashMap::from([(source(1), 1)]), alone, 0);
        assert_eq!((tick.caps, tick.tokens), (vec![(source(1), 4)], vec![]));
    }

    /// Nodes that hear each other some ticks late, with a client that opens what each of them
    /// admits, at one node after another. Returns the most connections at a time.
    fn flood(nodes: u32, max: usize, lag: usize, churn: bool, begins_after: usize) -> usize {
        let count = nodes as usize;
        let mut uses: Vec<FleetUse> = (0..nodes).map(|_| used(Some(max), None)).collect();
        let mut held = vec![0u32; count];
        let mut caps = vec![FleetLimits::share(max, nodes); count];
        let mut said: Vec<Vec<u32>> = Vec::new();
        let mut most = 0;
        for tick in 0..200 + count * begins_after {
            let begun = tick.checked_div(begins_after).map_or(count, |begun| count.min(begun + 1));
            for node in 0..begun {
                if churn && held[node] > 0 && (tick + node) % 3 == 0 {
                    held[node] -= 1;
                    uses[node].on_end(source(1));
                }
                held[node] = held[node].max(caps[node] as u32);
            }
            most = most.max(held.iter().sum::<u32>() as usize);
            let mut told = said.last().cloned().unwrap_or(vec![0; count]);
            for node in 0..count {
                if let Some(heard) = tick.checked_sub(lag + 1).map(|at| &said[at]) {
                    let others = heard.iter().sum::<u32>() - heard[node];
                    uses[node].on_remote(source(1), others, 0);
                }
                let now = tick as u64 * TICK.as_nanos() as u64;
                let found =
                    uses[node].on_tick(HashMap::from([(source(1), held[node])]), connected(nodes, 0), now);
                caps[node] = found.caps.first().map_or(caps[node], |(_, cap)| *cap);
                told[node] = found.told.first().map_or(told[node], |(_, reserved, _)| *reserved);
            }
            said.push(told);
        }
        most
    }

    #[test]
    fn a_flood_over_all_nodes_stays_within_the_bound() {
        for nodes in [1, 2, 3, 5, 20] {
            for max in [1, 2, 9, 20, 100, 1000] {
                for lag in [0, 1, 2] {
                    for (churn, begins_after) in [(false, 0), (true, 0), (false, 1), (true, 7), (false, 20)] {
                        let most = flood(nodes, max, lag, churn, begins_after);
                        let case =
                            format!("{nodes} nodes, {max}, {lag} late, {churn}, {begins_after}: {most}");
                        assert!((max..max + nodes as usize).contains(&most), "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_rate_over_all_nodes_holds_in_the_long_run() {
        let rate = Rate::new(100, Duration::from_secs(1)).burst(50);
        let mut bucket = FleetBucket { tokens: 50.0, at: 0 };
        bucket.advance(rate, 80, 100 * MS);
        assert_eq!(bucket.tokens, -30.0, "it was full, and what was too much is owed");
        bucket.advance(rate, 0, 300 * MS);
        assert_eq!(bucket.tokens, -10.0);
        bucket.advance(rate, u64::MAX, 300 * MS);
        assert_eq!(bucket.tokens, -50.0, "a debt is bounded");
        bucket.advance(rate, 0, 5000 * MS);
        assert!(bucket.is_full(rate));
        let nodes = connected(4, 0);
        for (tokens, part) in [(40.0, 10.0), (2.0, 1.0), (0.8, 0.2), (-5.0, 0.0)] {
            assert_eq!(nodes.tokens(tokens), part);
        }
        let mut fleet = used(None, Some(rate));
        let mut at = |held, at| fleet.on_tick(HashMap::from([(source(1), held)]), nodes, at * MS).tokens;
        assert_eq!(at(10, 0), [], "it has its share");
        assert_eq!(at(10, 800), [(source(1), 12.5)]);
        assert_eq!(at(10, 1500), []);
    }
}
