//! The forker: accepts clients, has them admitted, and creates a process for each.
//!
//! It never reads a client's byte, and its memory and descriptors do not grow with the connections:
//! it keeps an accepted socket for as long as `clone` takes. The processes that it creates are
//! children of the supervisor (`CLONE_PARENT`, clone(2)), so they survive it, and it reaps nothing.

mod accept;
mod begin;
pub(crate) mod calls;
mod copy;
pub(crate) mod door;
pub(crate) mod enter;
mod failure;
mod fork;
mod memory;
pub(crate) mod run;
mod state;
mod template_state;
mod templates;
mod trial;
pub(crate) mod trusted;
