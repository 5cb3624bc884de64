//! What one generation of a server tells the next: the messages of a hand-over.
//!
//! Two kinds of channels carry them. The *link* (`link.rs`) is between the first processes of two
//! generations: the old one offers its listeners, and the new one says how far it is. The *lineage*
//! (`lineage.rs`) is between the supervisors of one service in two generations: it carries the
//! state, and later the ends of connections that the older supervisor still serves.

pub(crate) mod lineage;
pub(crate) mod link;
pub(crate) mod state;
pub(crate) mod takeover;
