//! The jailer of a forker: it builds the house of a full jail once, and has rooms ready for the
//! next connections. In `ps` it is `tine: jailer 1`, and the first process of each room is `tine:
//! init`; without one, `tine: room` has the room ready.

pub(crate) mod client;
mod init;
mod keeper;
mod message;
pub(crate) mod run;
