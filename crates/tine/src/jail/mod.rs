//! The jail of a connection: what its handler or program may no longer do once it runs.
//!
//! [`Jail`] stores what was asked for. `plan.rs` decides what is in force, by what the kernel gives
//! (`facts.rs`); `confinement.rs` makes it in a forker and enters it in the process of a
//! connection.

mod aside;
pub(crate) mod cause;
mod choices;
pub(crate) mod client_socket;
pub(crate) mod confinement;
pub(crate) mod controllers;
pub(crate) mod copy_room;
mod facts;
mod families;
pub(crate) mod filter;
pub(crate) mod first_process;
pub(crate) mod full;
pub(crate) mod house;
mod landlock_rules;
pub(crate) mod layer;
pub(crate) mod mounts;
pub(crate) mod network_allow;
pub(crate) mod path_view;
pub(crate) mod plan;
pub(crate) mod protection;
pub(crate) mod report;
pub(crate) mod resources;
mod rights;
pub(crate) mod room;
mod rule;
mod self_check;
mod settings;
pub(crate) mod step;
pub(crate) mod system_calls;
mod temporary;
mod tried;
pub(crate) mod users;

pub use choices::{JailMode, JailProfile, PrivateNetwork, PrivateUsers};
pub(crate) use facts::Facts;
pub use settings::Jail;
