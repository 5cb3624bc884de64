//! Admission: the one place that decides whether a client is admitted now, delayed or rejected, and
//! why.
//!
//! Access rules, penalties, rates and counts of connections are behind [`Admission::decide`].
//! Forkers and spares call it for each client that they accept, the delayer for queued clients,
//! `tine explain` for an address. The buckets and penalties of sources are in shared memory that
//! connection processes do not have.

pub(crate) mod access;
pub(crate) mod block;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod fleet_use;
pub(crate) mod for_delayer;
pub(crate) mod limits;
mod of_fleet;
pub(crate) mod penalty;
pub(crate) mod proxy;
pub(crate) mod rate;
pub(crate) mod reason;
pub(crate) mod sources;

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use access::compiled::CompiledRules;
use access::list::RuleSource;
use access::live::LiveRules;
use access::local::ClientGroups;
use access::names::PendingNameRules;
use block::Block;
use fleet::FleetTables;
use limits::{Limits, LimitsMode, SourceLimits};
use penalty::{Fault, holds};
use reason::Reason;
use sources::{Eviction, SourceSecret, Sources, SourcesState};

use crate::error::Error;
use crate::net::peer::Peer;
use crate::system::clock::now;

/// The decision about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The client is served.
    Admit,
    /// The client goes to the delay queue.
    Delay(Reason),
    /// The client gets the rejection text, if there is one, and the end of the stream.
    Reject(Reason),
    /// The client is served, and it is reported that it would be delayed or rejected for this
    /// reason ([`Admission::verdict`]).
    Report(Reason),
}

/// A client to be decided about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) peer: Peer,
    /// Whether an operator has banned its address.
    pub(crate) is_banned: bool,
    /// The groups of a client of a Unix socket.
    pub(crate) groups: ClientGroups<'a>,
    /// Whether the delayer has released the client: it has its token, and its rules were applied.
    pub(crate) was_delayed: bool,
    /// Whether limits and rules are enforced or reported.
    pub(crate) mode: LimitsMode,
    /// The limits per source and prefix, if an operator has changed them.
    pub(crate) changed: Option<SourceLimits>,
    /// The number of nodes that share the limits of a fleet.
    pub(crate) nodes: u32,
    /// Whether the server drains. Clients released in a drain are served whatever the counts are.
    pub(crate) draining: bool,
}

/// The connections that count for a client's limits.
pub(crate) trait SlotCounts {
    /// Enters the client, so that clients decided about at the same time count each other. Of two
    /// that compete for the last connection of a limit, at most one is admitted; both may be
    /// rejected.
    fn reserve(&self, peer: Peer);

    /// Whether the block has at least `max` connections beside the client's.
    fn has_others(&self, block: Block, max: usize) -> bool;
}

/// The limits, and the state of each source in memory that supervisor, forkers, spares and the
/// delayer share.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    rules: Option<LiveRules>,
    penalty_exempt: Option<LiveRules>,
    /// In a box: rarely in use, and each connection process moves this structure.
    log_exclude: Option<Box<LiveRules>>,
    /// The bucket of each source and prefix; bit 0 is set while the delay queue has clients of it.
    buckets: Option<Sources>,
    /// The penalty of each source.
    penalties: Option<Sources>,
    /// What this node may do of the limits of the fleet. In a box, as above.
    fleet: Option<Box<FleetTables>>,
}

impl Admission {
    /// Maps empty tables. The compiled rules move into shared memory.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(limits: Limits) -> io::Result<Admission> {
        Admission::with_secret(limits, SourceSecret::random())
    }

    /// The same, with the secret of an older generation.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn with_secret(mut limits: Limits, secret: SourceSecret) -> io::Result<Admission> {
        let has_buckets = limits.have_buckets();
        let live = |rules: &CompiledRules| LiveRules::new(rules);
        let rules = limits.rules.as_ref().map(live).transpose()?;
        let penalty_exempt = limits.penalty_exempt.take().as_ref().map(live).transpose()?;
        let log_exclude = limits.log_exclude.take().as_ref().map(live).transpose()?;
        if let Some(rules) = &mut limits.rules {
            rules.forget_words();
        }
        Ok(Admission {
            rules,
            penalty_exempt,
            log_exclude: log_exclude.map(Box::new),
            buckets: has_buckets.then(|| Sources::new(Eviction::Pinned, secret)).transpose()?,
            penalties: limits.penalties.map(|_| Sources::new(Eviction::Expired, secret)).transpose()?,
            fleet: limits
                .fleet
                .are_any()
                .then(|| FleetTables::new(limits.fleet, secret).map(Box::new))
                .transpose()?,
            limits,
        })
    }

    /// Decides about a client. `slot` is the slot claimed for it; `None` if all slots are taken.
    /// Runs in forkers, spares and workers.
    #[inline(always)]
    pub(crate) fn decide(&self, candidate: Candidate, slot: Option<&impl SlotCounts>) -> Verdict {
        let Candidate { peer, is_banned, groups, was_delayed, mode, changed, nodes, draining } = candidate;
        let limits = self.in_force(changed);
        let objection = match (is_banned, was_delayed) {
            (true, _) => Some(Reason::Banned),
            (false, true) => None,
            (false, false) => self.objection(peer, groups, &limits),
        };
        let objection = objection.or_else(|| match slot {
            None => Some(Reason::Full),
            Some(_) if was_delayed && draining => None,
            Some(slot) => self.over_count(peer, slot, &limits).or_else(|| {
                let fleet = self.fleet.as_ref()?;
                self.over_fleet(fleet, limits.fleet, peer, slot, nodes)
            }),
        });
        match (objection, mode) {
            (None, _) => Verdict::Admit,
            (Some(reason), LimitsMode::Enforce) => self.verdict(reason),
            (Some(reason), LimitsMode::Report) => self.reported(reason, slot.is_some()),
        }
    }

    /// The verdict for a client that would not be admitted for this reason, where limits are
    /// reported. Without a slot nothing could serve the client.
    #[cold]
    fn reported(&self, reason: Reason, has_slot: bool) -> Verdict {
        match (reason.can_be_reported(), has_slot) {
            (true, true) => Verdict::Report(reason),
            (true, false) => Verdict::Reject(Reason::Full),
            (false, _) => self.verdict(reason),
        }
    }

    /// The verdict for a client that is not admitted for this reason.
    pub(crate) fn verdict(&self, reason: Reason) -> Verdict {
        match self.limits.delays() && reason.passes_with_time() {
            true => Verdict::Delay(reason),
            false => Verdict::Reject(reason),
        }
    }

    /// The reason against admission, apart from counts, if there is one. Otherwise a token of the
    /// client's buckets is taken.
    #[inline(always)]
    fn objection(&self, peer: Peer, groups: ClientGroups, limits: &SourceLimits) -> Option<Reason> {
        if let Some(reason) = self.rules.as_ref().and_then(|rules| rules.denial(peer, groups)) {
            return Some(reason);
        }
        if self.penalty_until(peer) > now() {
            return Some(Reason::Penalty);
        }
        if self.has_queued(peer) {
            return Some(Reason::Delayed);
        }
        (!self.take_token(peer, limits)).then_some(Reason::Rate)
    }

    /// The limit on connections at a time that a client exceeds, if any.
    #[inline]
    fn over_count(&self, peer: Peer, slot: &impl SlotCounts, limits: &SourceLimits) -> Option<Reason> {
        let mut limits = limits.connections_of(peer, self.limits.aggregations).peekable();
        limits.peek()?;
        slot.reserve(peer);
        let exceeded = limits.find(|(limit, block)| slot.has_others(*block, limit.max));
        exceeded.map(|(limit, _)| limit.reason)
    }

    /// The limits per source and prefix that are in force. `changed`: those that an operator has
    /// set.
    #[inline]
    pub(crate) fn in_force(&self, changed: Option<SourceLimits>) -> SourceLimits {
        changed.unwrap_or_else(|| self.limits.of_sources())
    }

    /// The limits that the tables are for.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    // Rates and penalties.

    /// Takes a token from the buckets of a client's source and prefix; false if one is empty.
    #[inline]
    pub(crate) fn take_token(&self, peer: Peer, limits: &SourceLimits) -> bool {
        let aggregations = self.limits.aggregations;
        let buckets = self.buckets.as_ref();
        buckets.is_none_or(|buckets| limits.rates.admit(buckets, peer, aggregations, now()))
    }

    /// When the penalty of a client's source ends; 0 if it has none.
    #[inline]
    fn penalty_until(&self, peer: Peer) -> u64 {
        let table = self.penalties.as_ref().zip(peer.block(self.limits.aggregations.source));
        let word = table.and_then(|(table, source)| table.find(&source));
        word.filter(|word| holds(*word, now())).unwrap_or(0)
    }

    /// Charges a client's source for a fault. Returns for how long it has a penalty, if that is
    /// new.
    pub(crate) fn charge(&self, peer: Peer, fault: Fault) -> Option<Duration> {
        let (penalties, table) = self.limits.penalties.zip(self.penalties.as_ref())?;
        if self.is_exempt(peer) {
            return None;
        }
        penalties.charge(table, peer.block(self.limits.aggregations.source)?, now(), fault)
    }

    /// Rejects a client's source for a time, as another node does. Returns for how long, if that is
    /// new here; `None` also where no penalties are given.
    pub(crate) fn punish(&self, peer: Peer, time: Duration) -> Option<Duration> {
        let (penalties, table) = self.limits.penalties.zip(self.penalties.as_ref())?;
        if self.is_exempt(peer) {
            return None;
        }
        penalties.punish(table, peer.block(self.limits.aggregations.source)?, now(), time)
    }

    /// Whether a client's source never gets penalties.
    pub(crate) fn is_exempt(&self, peer: Peer) -> bool {
        self.penalty_exempt.as_ref().is_some_and(|rules| rules.lists(peer))
    }

    /// Whether the connections of a client are logged only if they fail.
    pub(crate) fn is_log_excluded(&self, peer: Peer) -> bool {
        self.log_exclude.as_deref().is_some_and(|rules| rules.lists(peer))
    }

    /// Whether faults lead to penalties.
    pub(crate) fn has_penalties(&self) -> bool {
        self.limits.penalties.is_some()
    }

    /// When a client can be admitted at the earliest, as far as rates and penalties decide, in
    /// nanoseconds of the monotonic clock.
    pub(crate) fn earliest_admission(&self, peer: Peer, limits: &SourceLimits) -> u64 {
        let aggregations = self.limits.aggregations;
        let rates = limits.rates;
        let token = |buckets| rates.earliest_admission(buckets, peer, aggregations, now());
        let token = self.buckets.as_ref().map_or(0, token);
        token.max(self.penalty_until(peer))
    }

    // The delay queue.

    /// Sets or clears the mark that the delay queue has clients of a block, so that later ones
    /// queue behind them. False if the mark had this value already.
    pub(crate) fn set_queued(&self, block: &Block, queued: bool) -> bool {
        let toggle = |word: u64| (word & 1 != u64::from(queued)).then_some(word ^ 1);
        self.buckets.as_ref().is_some_and(|buckets| buckets.change(block, now(), toggle).is_some())
    }

    /// Clears the marks of all blocks: the delay queue is empty.
    pub(crate) fn clear_all_queued(&self) {
        self.buckets.iter().for_each(|buckets| buckets.change_all(|word| word & !1));
    }

    #[inline]
    fn has_queued(&self, peer: Peer) -> bool {
        let Some(buckets) = self.buckets.as_ref() else { return false };
        let queued = |block| buckets.find(&block).is_some_and(|word| word & 1 == 1);
        self.limits.delay_blocks(peer).any(queued)
    }

    // For programs.

    /// The variables that the rule for a client sets for a program, as `NAME=VALUE` and a zero byte
    /// each.
    pub(crate) fn variables(&self, peer: Peer) -> Vec<u8> {
        self.rules.as_ref().map_or_else(Vec::new, |rules| rules.variables(peer))
    }

    /// The rules by host name that are still to be applied to a client; `None` if there cannot be
    /// any.
    pub(crate) fn pending_name_rules(&self, peer: Peer) -> Option<PendingNameRules> {
        self.rules.as_ref().and_then(|rules| rules.pending_name_rules(peer))
    }

    // The tables.

    /// Reads the files of access rules again; returns the number of rules. Runs in the supervisor.
    ///
    /// # Errors
    /// As [`LiveRules::reload`].
    pub(crate) fn reload(&self, source: &RuleSource) -> Result<usize, Error> {
        self.rules.as_ref().map_or(Ok(0), |rules| rules.reload(source))
    }

    /// What sources and prefixes have used, for the next generation: buckets and penalties.
    pub(crate) fn export_sources(&self, now: u64) -> [Option<SourcesState>; 2] {
        [&self.buckets, &self.penalties].map(|table| table.as_ref().map(|table| table.export(now)))
    }

    /// Takes over what sources and prefixes have used in an older generation.
    pub(crate) fn import_sources(&self, [buckets, penalties]: [Option<&SourcesState>; 2]) {
        if let (Some(table), Some(state)) = (&self.buckets, buckets) {
            // The delay queue of this generation is empty.
            table.import(state, |word| word & !1);
        }
        if let (Some(table), Some(state)) = (&self.penalties, penalties) {
            table.import(state, |word| word);
        }
    }

    /// Leaves the tables out of processes forked from now on: connection processes do not need
    /// them, and each mapping makes a fork slower.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        let tables = self.buckets.iter().chain(&self.penalties);
        tables.into_iter().try_for_each(Sources::exclude_from_fork)?;
        self.fleet.iter().try_for_each(|fleet| fleet.exclude_from_fork())?;
        let rules = self.rules.iter().chain(&self.penalty_exempt).chain(self.log_exclude.as_deref());
        rules.into_iter().try_for_each(LiveRules::exclude_from_fork)
    }

    /// Unmaps the tables in this process. The limits stay in its memory.
    #[inline(always)]
    pub(crate) fn unmap(mut self) -> io::Result<()> {
        self.unmap_rules()?;
        let _limits = ManuallyDrop::new(self.limits);
        self.fleet.into_iter().try_for_each(|fleet| fleet.unmap())?;
        self.buckets.into_iter().chain(self.penalties).try_for_each(Sources::unmap)
    }

    #[inline(always)]
    fn unmap_rules(&mut self) -> io::Result<()> {
        if let Some(rules) = self.log_exclude.take() {
            rules.unmap()?;
        }
        self.rules.take().into_iter().chain(self.penalty_exempt.take()).try_for_each(LiveRules::unmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::limits::WhenLimited;
    use crate::admission::rate::{Rate, Rates};

    /// Blocks that have this many other connections.
    struct Others(usize);

    impl SlotCounts for Others {
        fn reserve(&self, _: Peer) {}

        fn has_others(&self, _: Block, max: usize) -> bool {
            self.0 >= max
        }
    }

    fn decide(admission: &Admission, mode: LimitsMode, is_banned: bool, others: Option<usize>) -> Verdict {
        let peer = Peer::Tcp("192.0.2.1:7".parse().expect("an address"));
        let groups = ClientGroups::Known(&[]);
        let (was_delayed, draining, changed, nodes) = (false, false, None, 3);
        let candidate = Candidate { peer, is_banned, groups, was_delayed, mode, changed, nodes, draining };
        admission.decide(candidate, others.map(Others).as_ref())
    }

    #[test]
    fn limits_are_enforced_or_reported_and_the_rest_holds_in_any_case() {
        use LimitsMode::{Enforce, Report};
        let limits = Limits { max_per_source: Some(2), ..Limits::default() };
        for (when_limited, enforced) in [
            (WhenLimited::default(), Verdict::Reject(Reason::Source)),
            (WhenLimited::DELAY, Verdict::Delay(Reason::Source)),
        ] {
            let admission = Admission::new(Limits { when_limited, ..limits.clone() }).expect("memory");
            for (mode, is_banned, others, verdict) in [
                (Enforce, false, Some(1), Verdict::Admit),
                (Report, false, Some(1), Verdict::Admit),
                (Enforce, false, Some(2), enforced),
                (Report, false, Some(2), Verdict::Report(Reason::Source)),
                (Report, false, None, Verdict::Reject(Reason::Full)),
                (Report, true, Some(0), Verdict::Reject(Reason::Banned)),
                (Report, true, None, Verdict::Reject(Reason::Banned)),
            ] {
                let said = decide(&admission, mode, is_banned, others);
                assert_eq!(said, verdict, "{mode} {is_banned} {others:?}");
            }
        }
    }

    #[test]
    fn limits_of_a_fleet_are_asked_last() {
        use crate::admission::fleet::FleetLimits;
        let rate = Some(Rate::new(1, Duration::from_secs(3600)).burst(3));
        let fleet = FleetLimits { max_per_source: Some(9), rate_per_source: rate };
        let limits = Limits { max_per_source: Some(4), fleet, ..Limits::default() };
        let admission = Admission::new(limits).expect("memory");
        let decide = |others| decide(&admission, LimitsMode::Enforce, false, Some(others));
        assert_eq!(decide(4), Verdict::Reject(Reason::Source));
        assert_eq!(decide(3), Verdict::Reject(Reason::Fleet), "of three nodes, one has 3 of 9");
        let verdicts = [decide(2), decide(2)];
        assert_eq!(verdicts, [Verdict::Admit, Verdict::Reject(Reason::FleetRate)]);
        let peer = Peer::Tcp("192.0.2.1:7".parse().expect("an address"));
        let source = peer.block(admission.limits().aggregations.source).expect("an address");
        let tables = admission.fleet().expect("limits of a fleet");
        tables.set_cap(&source, 1, now());
        assert_eq!(decide(1), Verdict::Reject(Reason::Fleet));
    }

    #[test]
    fn a_reported_rate_takes_the_tokens_that_it_would_take() {
        let rates = Rates { source: Some(Rate::new(1, Duration::from_secs(3600)).burst(2)), prefix: None };
        let admission = Admission::new(Limits { rates, ..Limits::default() }).expect("memory");
        let verdicts = [LimitsMode::Report; 4].map(|mode| decide(&admission, mode, false, Some(0)));
        let report = Verdict::Report(Reason::Rate);
        assert_eq!(verdicts, [Verdict::Admit, Verdict::Admit, report, report]);
        assert_eq!(decide(&admission, LimitsMode::Report, false, None), Verdict::Reject(Reason::Full));
        let enforced = decide(&admission, LimitsMode::Enforce, false, Some(0));
        assert_eq!(enforced, Verdict::Reject(Reason::Rate));
    }
}
