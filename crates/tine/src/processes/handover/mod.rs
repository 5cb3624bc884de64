//! The hand-over from one generation of a server to the next, in the first process of each: the
//! single supervisor, or the master.
//!
//! The old generation executes the new one (`successor.rs`), offers its sockets, and decides by
//! what it hears (`state.rs`). The new one takes over (`shared/handover/takeover.rs`). `generations.rs` has the
//! links to all generations that run, before and after.

pub(crate) mod generations;
mod state;
mod successor;

pub(crate) use state::Failure;
pub(crate) use successor::Binary;
