//! The commands, except the client and the load: one file each, with its arguments.

pub mod check;
pub mod describe;
pub mod explain;
pub mod import;
pub mod serve;
