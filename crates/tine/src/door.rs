//! The door: whether a client may come in now. Asked by forkers and spares right after they have accepted it.

use std::io;
use std::time::Duration;

use crate::access::Gate;
use crate::board::now;
use crate::peer::{Peer, Reach};
use crate::penalty::{Fault, Penalties, holds};
use crate::rate::Rates;
use crate::refuser::Reason;
use crate::sources::Sources;

/// What decides: rules that nobody can change, and what has been seen of each source, in memory that supervisor, forkers
/// and waiting spares share.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    gate: Option<Gate>,
    rates: Rates,
    penalties: Option<Penalties>,
    /// Who is never punished.
    exempt: Option<Gate>,
    /// The bucket of each source and prefix.
    buckets: Option<Sources>,
    /// What each source has to pay.
    owed: Option<Sources>,
}

impl Door {
    /// One that has seen nobody yet.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(
        gate: Option<Gate>,
        rates: Rates,
        (penalties, exempt): (Option<Penalties>, Option<Gate>),
    ) -> io::Result<Door> {
        Ok(Door {
            gate,
            rates,
            penalties,
            exempt,
            buckets: rates.are_any().then(Sources::new).transpose()?,
            owed: penalties.map(|_| Sources::new()).transpose()?,
        })
    }

    /// Why a client may not come in now, if so.
    #[inline]
    pub(crate) fn objection(&self, peer: Peer) -> Option<Reason> {
        if self.gate.is_some_and(|gate| !gate.lets_in(peer)) {
            return Some(Reason::Denied);
        }
        if let Some((owed, source)) = self.owed.as_ref().zip(peer.block(Reach::Source))
            && owed.find(&source).is_some_and(|word| holds(word, now()))
        {
            return Some(Reason::Penalty);
        }
        let buckets = self.buckets.as_ref()?;
        (!self.rates.admit(buckets, peer, now())).then_some(Reason::Rate)
    }

    /// Charges a client's source for what it did. Returns for how long it may not come, if that is new.
    pub(crate) fn charge(&self, peer: Peer, fault: Fault) -> Option<Duration> {
        let (penalties, owed) = self.penalties.zip(self.owed.as_ref())?;
        if self.exempt.is_some_and(|exempt| exempt.lets_in(peer)) {
            return None;
        }
        penalties.charge(owed, peer.block(Reach::Source)?, now(), fault)
    }

    /// Whether faults are punished.
    pub(crate) fn charges(&self) -> bool {
        self.penalties.is_some()
    }

    /// Leaves it out of processes forked from here: a connection has no use for it, and a mapping more makes each fork
    /// slower.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.tables().try_for_each(Sources::keep_from_children)?;
        self.gate.iter().chain(&self.exempt).try_for_each(Gate::keep_from_children)
    }

    /// Takes what is remembered away from this process.
    pub(crate) fn withdraw(&self) -> io::Result<()> {
        self.tables().try_for_each(Sources::withdraw)
    }

    fn tables(&self) -> impl Iterator<Item = &Sources> {
        self.buckets.iter().chain(&self.owed)
    }
}
