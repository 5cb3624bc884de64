//! The fleet of a service, as operators see it.

use serde_json::{Value, json};

use super::view::View;

/// The fleet, as a supervisor knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FleetView {
    /// Whether the bus is there.
    pub(crate) is_connected: bool,
    /// The nodes that are heard, this one included.
    pub(crate) present: u32,
    /// The nodes that are not heard, and have not left.
    pub(crate) lost: u32,
    /// Bans and lifts, and penalties, that other nodes have told.
    pub(crate) bans: u64,
    pub(crate) penalties: u64,
}

/// Adds `fleet` to an object about a service that has one.
pub(super) fn add(view: &View, object: &mut Value) {
    if let Some(fleet) = &view.fleet {
        object["fleet"] = to_json(fleet);
    }
}

fn to_json(fleet: &FleetView) -> Value {
    json!({
        "connected": fleet.is_connected,
        "nodes": fleet.present,
        "lost": fleet.lost,
        "bans_received": fleet.bans,
        "penalties_received": fleet.penalties,
    })
}
