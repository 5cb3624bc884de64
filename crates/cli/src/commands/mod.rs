//! One file for each command: from arguments to the library.

pub mod check;
pub mod describe;
pub mod explain;
pub mod import;
pub mod serve;
