//! Several machines that talk over a bus (NATS): load from several machines, by a coordinator and
//! its agents, and servers that are one fleet, each by its link.
//!
//! All dial out to the bus. Coordinator and agents generate no load: an agent starts a runner,
//! which forks load workers as `tine load` does without a bus. So an async runtime is used in these
//! three processes, and in none that forks.
//!
//! | file | subject |
//! | --- | --- |
//! | `messages.rs` | what coordinators and agents say, and on which subjects |
//! | `names.rs` | names of runs, agents, fleets and nodes |
//! | `offset.rs` | how far the clocks of an agent are from those of the coordinator |
//! | `pieces.rs` | results in pieces, and whether one can be added up |
//! | `channel.rs` | what an agent and its runner say |
//! | `events.rs` | one queue of what happens |
//! | `connect.rs` | the connection to the bus |
//! | `agent/`, `coordinator/` | `state.rs` decides, without system calls; `mod.rs` applies |
//! | `fleet/` | the link of a server |

#![forbid(unsafe_code)]

pub mod agent;
pub mod channel;
pub mod connect;
pub mod coordinator;
mod events;
pub mod fleet;
pub mod messages;
pub mod names;
pub mod offset;
mod pieces;
#[cfg(test)]
mod samples;

// Its version is chosen for the URL of a bus.
use idna_adapter as _;
