//! The supervisor: starts forkers, watches every process, writes the log, drains.
//!
//! It never reads a client's byte and holds no client's socket. Every connection is its child, though
//! a forker made it: so it alone reaps, and a connection outlives its forker but not its supervisor.

mod apply;
mod children;
mod enforce;
mod pidfds;
mod reap;
mod reload;
mod run;
mod setup;
mod spawn;
mod state;

pub(crate) use run::run;
