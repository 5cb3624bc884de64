//! The subjects of a fleet, and the names of its bucket of bans.

use crate::names::Name;

/// The subjects of a fleet.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    fleet: Name,
}

impl Subjects {
    pub(super) fn new(fleet: Name) -> Subjects {
        Subjects { fleet }
    }

    /// What a node says, or all with `*`.
    pub(super) fn node(&self, node: &str) -> String {
        format!("tine.fleet.{}.node.{node}", self.fleet)
    }

    /// What operators ask all nodes.
    pub(super) fn ask_all(&self) -> String {
        format!("tine.fleet.{}.ask", self.fleet)
    }

    /// What operators ask one node.
    pub(super) fn ask(&self, node: &str) -> String {
        format!("tine.fleet.{}.ask.{node}", self.fleet)
    }

    /// What operators order one node.
    pub(super) fn order(&self, node: &str) -> String {
        format!("tine.fleet.{}.order.{node}", self.fleet)
    }

    /// The bucket of bans.
    pub(super) fn bucket(&self) -> String {
        format!("tine-bans-{}", self.fleet)
    }

    /// The stream that the bucket is (NATS ADR-8).
    pub(super) fn stream(&self) -> String {
        format!("KV_{}", self.bucket())
    }

    /// The record of a key of the bucket, or all with `>`.
    pub(super) fn record(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket())
    }
}
