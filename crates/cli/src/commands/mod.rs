//! One file for each command: from arguments to the library.

pub mod serve;
