//! The door: whether a client may come in now. Asked by forkers and spares right after they have accepted it, and by the
//! delayer for those who wait.

pub(crate) mod access;
pub(crate) mod block;
pub(crate) mod penalty;
pub(crate) mod rate;
pub(crate) mod sources;

use std::io;
use std::time::Duration;

use crate::admission::access::{Gate, PendingNameRules, Source};
use crate::admission::block::{Aggregations, Block};
use crate::admission::penalty::{Fault, Penalties, holds};
use crate::admission::rate::Rates;
use crate::admission::sources::{Bit, Sources};
use crate::error::Error;
use crate::net::peer::Peer;
use crate::processes::rejector::Reason;
use crate::settings::Settings;
use crate::system::clock::now;

/// What decides: rules that nobody can change, and what has been seen of each source, in memory that supervisor, forkers,
/// waiting spares and the delayer share.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    gate: Option<Gate>,
    rates: Rates,
    penalties: Option<Penalties>,
    /// Who is never punished.
    exempt: Option<Gate>,
    /// The bucket of each source and prefix; in the lowest bit, whether somebody of it waits at the delayer.
    buckets: Option<Sources>,
    /// What each source has to pay.
    owed: Option<Sources>,
    /// What a source and a prefix are.
    aggregations: Aggregations,
    /// Clients wait, in a line for each source; and in one for each prefix.
    delays: bool,
    limits_prefixes: bool,
}

impl Admission {
    /// One that has seen nobody yet.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(settings: &Settings) -> io::Result<Admission> {
        let has_buckets = settings.rates.are_any() || settings.delays();
        Ok(Admission {
            gate: settings.gate,
            rates: settings.rates,
            penalties: settings.penalties,
            exempt: settings.penalty_exempt,
            buckets: has_buckets.then(|| Sources::new(Bit::Stays)).transpose()?,
            owed: settings.penalties.map(|_| Sources::new(Bit::Fades)).transpose()?,
            aggregations: settings.aggregations,
            delays: settings.delays(),
            limits_prefixes: settings.limits_prefixes(),
        })
    }

    /// Why a client may not come in now, if so.
    #[inline]
    pub(crate) fn objection(&self, peer: Peer) -> Option<Reason> {
        if let Some(reason) = self.gate.and_then(|gate| gate.objection(peer)) {
            return Some(reason);
        }
        if self.penalty_until(peer) > now() {
            return Some(Reason::Penalty);
        }
        if self.has_queued(peer) {
            return Some(Reason::Delayed);
        }
        (!self.admit(peer)).then_some(Reason::Rate)
    }

    /// Until when a client's source has a penalty to wait for; 0 if it has none.
    fn penalty_until(&self, peer: Peer) -> u64 {
        let owed = self.owed.as_ref().zip(peer.block(self.aggregations.source));
        let word = owed.and_then(|(owed, source)| owed.find(&source));
        word.filter(|word| holds(*word, now())).unwrap_or(0)
    }

    /// Takes the tokens that a client needs to come in; false where it cannot.
    pub(crate) fn admit(&self, peer: Peer) -> bool {
        self.buckets.as_ref().is_none_or(|buckets| self.rates.admit(buckets, peer, self.aggregations, now()))
    }

    /// Charges a client's source for what it did. Returns for how long it may not come, if that is new.
    pub(crate) fn charge(&self, peer: Peer, fault: Fault) -> Option<Duration> {
        let (penalties, owed) = self.penalties.zip(self.owed.as_ref())?;
        if self.exempt.is_some_and(|exempt| exempt.admits(peer)) {
            return None;
        }
        penalties.charge(owed, peer.block(self.aggregations.source)?, now(), fault)
    }

    /// Whether faults are punished.
    pub(crate) fn charges(&self) -> bool {
        self.penalties.is_some()
    }

    /// The variables that the rule for a client sets for a program, `NAME=VALUE` and a zero byte each.
    pub(crate) fn variables(&self, peer: Peer) -> Vec<u8> {
        self.gate.map_or_else(Vec::new, |gate| gate.variables(peer))
    }

    /// Where a client stands, as long as its name is not known, where names are looked up.
    pub(crate) fn pending_name_rules(&self, peer: Peer) -> Option<PendingNameRules> {
        self.gate.filter(Gate::asks_names).and_then(|gate| gate.pending_name_rules(peer))
    }

    /// Puts the rules in force that the files have now; says how many. By the supervisor.
    ///
    /// # Errors
    /// As [`Gate::read_again`].
    pub(crate) fn read_again(&self, source: &Source) -> Result<usize, Error> {
        self.gate.map_or(Ok(0), |gate| gate.read_again(source))
    }

    // For those who wait.

    /// From when on a client may come, as far as that is a matter of time.
    pub(crate) fn earliest_admission(&self, peer: Peer) -> u64 {
        let token = self
            .buckets
            .as_ref()
            .map_or(0, |buckets| self.rates.earliest_admission(buckets, peer, self.aggregations));
        token.max(self.penalty_until(peer))
    }

    /// The lines that a client stands in.
    pub(crate) fn lines(&self, peer: Peer) -> impl Iterator<Item = Block> {
        let source = self.delays.then_some(self.aggregations.source);
        let prefix = (self.delays && self.limits_prefixes).then_some(self.aggregations.prefix);
        source.into_iter().chain(prefix).filter_map(move |aggregation| peer.block(aggregation))
    }

    /// Has those who come later wait behind those of this block, or no more. False if that was so already.
    pub(crate) fn hold(&self, block: &Block, hold: bool) -> bool {
        let mark = |word: u64| (word & 1 != u64::from(hold)).then_some(word ^ 1);
        self.buckets.as_ref().is_some_and(|buckets| buckets.change(block, now(), mark).is_some())
    }

    /// Has nobody wait behind anybody.
    pub(crate) fn clear_all_queued(&self) {
        self.buckets.iter().for_each(|buckets| buckets.change_all(|word| word & !1));
    }

    fn has_queued(&self, peer: Peer) -> bool {
        let Some(buckets) = self.buckets.as_ref() else { return false };
        self.lines(peer).any(|block| buckets.find(&block).is_some_and(|word| word & 1 == 1))
    }

    // For the processes in which it is.

    /// Leaves it out of processes forked from here: a connection has no use for it, and a mapping more makes each fork
    /// slower.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.tables().try_for_each(Sources::exclude_from_fork)?;
        self.gate.iter().chain(&self.exempt).try_for_each(Gate::exclude_from_fork)
    }

    /// Takes what is remembered away from this process.
    pub(crate) fn unmap(&self) -> io::Result<()> {
        self.tables().try_for_each(Sources::unmap)?;
        self.gate.iter().chain(&self.exempt).try_for_each(Gate::unmap)
    }

    fn tables(&self) -> impl Iterator<Item = &Sources> {
        self.buckets.iter().chain(&self.owed)
    }
}
