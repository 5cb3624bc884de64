//! The fleet of a service, as its supervisor knows it.

use std::time::Instant;

use crate::admission::fleet::FleetLimits;
use crate::admission::fleet_use::FleetUse;
use crate::processes::bus_link::BusLink;
use crate::processes::control::view::FleetView;

/// The fleet, as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Fleet {
    /// To the other nodes, if there is a bus.
    pub(super) link: Option<BusLink>,
    pub(super) view: FleetView,
    pub(super) used: FleetUse,
    /// When the board is looked at next.
    pub(super) tick_at: Instant,
    /// Penalties of forkers that were told.
    pub(super) punished: u64,
}

impl Fleet {
    pub(super) fn new(limits: FleetLimits) -> Fleet {
        Fleet {
            link: None,
            view: FleetView::default(),
            used: FleetUse::new(limits),
            tick_at: Instant::now(),
            punished: 0,
        }
    }
}
