//! The fleet of a service, as operators see it.

use serde_json::{Value, json};

use super::view::{FleetView, View};

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
