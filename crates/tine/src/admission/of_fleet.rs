//! Admission by the limits of a fleet.

use super::block::Block;
use super::fleet::{FleetLimits, FleetTables};
use super::reason::Reason;
use super::{Admission, SlotCounts};
use crate::net::peer::Peer;
use crate::system::clock::now;

impl Admission {
    /// The limit over all nodes that a client exceeds, if any. Otherwise a token is taken.
    #[cold]
    pub(super) fn over_fleet(
        &self,
        fleet: &FleetTables,
        limits: FleetLimits,
        peer: Peer,
        slot: &impl SlotCounts,
        nodes: u32,
    ) -> Option<Reason> {
        let source = self.source_in_fleet(peer)?;
        let now = now();
        if let Some(max) = limits.max_per_source {
            slot.reserve(peer);
            if slot.has_others(source, fleet.cap(&source, max, nodes, now)) {
                return Some(Reason::Fleet);
            }
        }
        let has_token = limits.rate_per_source.is_none_or(|rate| fleet.take_token(&source, rate, nodes, now));
        (!has_token).then_some(Reason::FleetRate)
    }

    /// The source of a client as all nodes know it. A client of a Unix socket is of this machine
    /// alone.
    pub(super) fn source_in_fleet(&self, peer: Peer) -> Option<Block> {
        peer.block(self.limits.aggregations.source).filter(|source| source.network().is_some())
    }

    /// What this node may do of the limits of the fleet, if there are any.
    pub(crate) fn fleet(&self) -> Option<&FleetTables> {
        self.fleet.as_deref()
    }
}
