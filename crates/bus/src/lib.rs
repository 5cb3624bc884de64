//! Load from several machines: a coordinator and its agents, which talk over a bus (NATS).
//!
//! Both dial out to the bus, and neither generates load: an agent starts a runner, which forks load
//! workers as `tine load` does without a bus. So an async runtime is used in these two processes,
//! and in none that forks.
//!
//! | file | subject |
//! | --- | --- |
//! | `messages.rs` | what coordinators and agents say, and on which subjects |
//! | `names.rs` | names of runs and agents |
//! | `offset.rs` | how far the clocks of an agent are from those of the coordinator |
//! | `pieces.rs` | results in pieces, and whether one can be added up |
//! | `channel.rs` | what an agent and its runner say |
//! | `events.rs` | one queue of what happens |
//! | `connect.rs` | the connection to the bus |
//! | `agent/`, `coordinator/` | `state.rs` decides, without system calls; `mod.rs` applies |

#![forbid(unsafe_code)]

pub mod agent;
pub mod channel;
pub mod connect;
pub mod coordinator;
mod events;
pub mod messages;
pub mod names;
pub mod offset;
mod pieces;
#[cfg(test)]
mod samples;

// Its version is chosen for the URL of a bus.
use idna_adapter as _;
