//! The part of admission that the delayer has: it takes tokens and marks blocks, reads penalties,
//! and has no access rules.

use std::io;

use super::Admission;
use super::block::Block;
use super::limits::{Limits, SourceLimits};
use super::sources::Sources;
use crate::net::peer::Peer;

/// The buckets, and the penalties without the permission to write them.
#[derive(Debug)]
pub(crate) struct DelayerAdmission(Admission);

impl Admission {
    /// Takes away from this process, the delayer, what it does not need.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn for_delayer(mut self) -> io::Result<DelayerAdmission> {
        self.unmap_rules()?;
        self.penalties.iter().try_for_each(Sources::make_read_only)?;
        self.fleet.take().into_iter().try_for_each(|fleet| fleet.unmap())?;
        Ok(DelayerAdmission(self))
    }
}

impl DelayerAdmission {
    /// As [`Admission::limits`].
    pub(crate) fn limits(&self) -> &Limits {
        self.0.limits()
    }

    /// As [`Admission::in_force`].
    pub(crate) fn in_force(&self, changed: Option<SourceLimits>) -> SourceLimits {
        self.0.in_force(changed)
    }

    /// As [`Admission::take_token`].
    pub(crate) fn take_token(&self, peer: Peer, limits: &SourceLimits) -> bool {
        self.0.take_token(peer, limits)
    }

    /// As [`Admission::earliest_admission`].
    pub(crate) fn earliest_admission(&self, peer: Peer, limits: &SourceLimits) -> u64 {
        self.0.earliest_admission(peer, limits)
    }

    /// As [`Admission::set_queued`].
    pub(crate) fn set_queued(&self, block: &Block, queued: bool) -> bool {
        self.0.set_queued(block, queued)
    }

    /// As [`Admission::clear_all_queued`].
    pub(crate) fn clear_all_queued(&self) {
        self.0.clear_all_queued();
    }
}
