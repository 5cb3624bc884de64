//! The jailer of a forker: it builds the house of a full jail once, and has rooms ready for the
//! next connections. In `ps` it is `tine: jailer 1`, and the first process of each room is `tine:
//! init`.

pub(crate) mod client;
mod init;
mod message;
pub(crate) mod run;
