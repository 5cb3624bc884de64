//! The hand-over from one generation of a server to the next, in the first process of each: the
//! single supervisor, or the master.
//!
//! The old generation executes the new one (`successor.rs`), offers its sockets, and decides by
//! what it hears (`state.rs`). The new one takes over (`shared/handover/takeover.rs`). `generations.rs` has the
//! links to all generations that run, before and after.

pub(crate) mod generations;
mod state;
mod successor;

use std::os::fd::{AsFd, BorrowedFd};

use crate::net::listener::Listener;
use crate::shared::handover::link::Item;
pub(crate) use state::Failure;
pub(crate) use successor::Binary;

/// A listener, as the next generation gets it.
pub(crate) fn socket_item(listener: &Listener) -> (Item, BorrowedFd<'_>) {
    let (name, about) = (listener.requested.clone(), listener.describe());
    (Item { kind: "socket".into(), name, about }, listener.as_fd())
}
