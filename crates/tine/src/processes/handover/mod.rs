//! The hand-over from one generation of a server to the next, in the first process of each: the
//! single supervisor, or the master.
//!
//! The old generation executes the new one (`successor.rs`), offers its sockets, and decides by
//! what it hears (`state.rs`). The new one takes over (`ipc/handover/takeover.rs`).
//! `generations.rs` has the links to all generations that run, before and after;
//! `report.rs` tells others how a hand-over goes.

pub(crate) mod generations;
mod newer;
pub(crate) mod report;
mod state;
mod successor;

use std::os::fd::{AsFd, BorrowedFd};

use crate::admission::sources::SourceSecret;
use crate::ipc::handover::link::Item;
use crate::ipc::handover::takeover::Predecessor;
use crate::net::listener::Listener;
use crate::settings::Settings;
pub(crate) use state::Failure;
pub(crate) use successor::Binary;

/// Prepares the settings of a service for the state of its older supervisor.
pub(crate) fn prepare_for(predecessor: &Predecessor, settings: &mut Settings) {
    let Predecessor { secret, connections, .. } = predecessor;
    settings.source_secret = secret.map_or(settings.source_secret, SourceSecret);
    settings.older_connections = *connections;
}

/// A lineage, as the next generation gets it: with the secret of the sources, and the most
/// connections that the older supervisor may have.
pub(crate) fn lineage_item(service: &str, secret: SourceSecret, connections: usize) -> Item {
    let about = serde_json::json!({ "secret": secret.0, "connections": connections });
    Item { kind: "lineage".into(), name: service.to_owned(), about }
}

/// A listener, as the next generation gets it.
pub(crate) fn socket_item(listener: &Listener) -> (Item, BorrowedFd<'_>) {
    let (name, about) = (listener.requested.clone(), listener.describe());
    (Item { kind: "socket".into(), name, about }, listener.as_fd())
}
