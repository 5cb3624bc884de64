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

/// A source without use is kept for this time at most, in nanoseconds.
const LONGEST_KEPT: u64 = 60_000_000_000;

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
    /// When its tokens were set last, or first counted, and whether they were ever set.
    tokens_at: Option<u64>,
    are_tokens_set: bool,
    /// When other nodes were heard to admit some last.
    others_at: Option<u64>,
    /// Until when it is kept without use: its share may be so small that it comes back only then.
    kept_until: u64,
}

/// The bucket of a source, as if the fleet were one server.
#[derive(Clone, Copy, Debug)]
struct FleetBucket {
    tokens: f64,
    at: u64,
}

impl FleetBucket {
    /// Fills it for the time that has passed, and takes what all nodes have admitted.
    fn advance(&mut self, rate: Rate, taken: u64, nodes: u32, now: u64) {
        let burst = rate.burst_tokens();
        let filled = now.saturating_sub(self.at) as f64 / rate.interval_nanos() as f64;
        let debt = FleetBucket::debt(rate, nodes);
        self.tokens = ((self.tokens + filled).min(burst) - taken as f64).max(-debt);
        self.at = now;
    }

    /// The largest debt: a node that claims to admit without end must not reject for ever. What
    /// nodes admit before they hear each other is owed in full: their shares, of which each has one
    /// connection at least, what fills meanwhile, and once more a part of what was there.
    fn debt(rate: Rate, nodes: u32) -> f64 {
        let filled = SETTLES_IN as f64 / rate.interval_nanos() as f64;
        2.0 * rate.burst_tokens().max(f64::from(nodes)) + filled
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

    /// Puts other limits in force.
    pub(crate) fn set_limits(&mut self, limits: FleetLimits) {
        self.limits = limits;
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
        self.sources.retain(|_, used| used.is_of_interest(limits, now));
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
            let tokens = self.tokens(rate, taken, nodes, now);
            tick.tokens.extend(tokens.map(|tokens| (source, tokens)));
        }
    }

    /// The tokens that this node may take from now on, if that changes.
    fn tokens(&mut self, rate: Rate, taken: u32, nodes: FleetNodes, now: u64) -> Option<f64> {
        let remote = std::mem::take(&mut self.remote_taken);
        if remote > 0 {
            self.others_at = Some(now);
        }
        let full = FleetBucket { tokens: rate.burst_tokens(), at: now };
        let bucket = self.bucket.get_or_insert(full);
        bucket.advance(rate, u64::from(taken) + u64::from(remote), nodes.count(), now);
        let tokens = bucket.tokens;
        if taken > 0 {
            let next = rate.interval_nanos().saturating_mul(u64::from(nodes.count()));
            self.kept_until = now.saturating_add(SETTLES_IN).saturating_add(next.min(LONGEST_KEPT));
        }
        let since = *self.tokens_at.get_or_insert(now);
        // Where a source comes to this node alone, nobody has to be heard first.
        let is_due = now >= since + SETTLES_IN || tokens >= 1.0 && self.is_here_alone(rate, nodes, now);
        // Without the bus, a node goes on with its share, which fills by itself.
        (nodes.is_connected && is_due).then(|| {
            (self.tokens_at, self.are_tokens_set) = (Some(now), true);
            nodes.tokens(tokens)
        })
    }

    /// Whether no other node admits the source: none was heard to for longer than it may have to
    /// wait for a token.
    fn is_here_alone(&self, rate: Rate, nodes: FleetNodes, now: u64) -> bool {
        let debt = FleetBucket::debt(rate, nodes.count()) * rate.interval_nanos() as f64;
        let may_wait = SETTLES_IN.saturating_add(debt as u64);
        let is_silent = self.others_at.is_none_or(|at| now >= at.saturating_add(may_wait));
        self.are_tokens_set && nodes.lost == 0 && is_silent
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

    fn is_of_interest(&self, limits: FleetLimits, now: u64) -> bool {
        let is_full = |bucket: FleetBucket| limits.rate_per_source.is_none_or(|rate| bucket.is_full(rate));
        self.held > 0
            || self.told > 0
            || self.remote > 0
            || self.noted_early > 0
            || now < self.kept_until
            || !self.bucket.is_none_or(is_full)
    }
}

#[cfg(test)]
mod tests;
