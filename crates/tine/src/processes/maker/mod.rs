//! The maker of a forker: it makes templates of a program that is started warm, one at a time. In
//! `ps` it is `tine: maker 1`; a template has the name of its program.
//!
//! Making one takes as long as the program needs to its first use of the connection, several times
//! over while it is traced; meanwhile the forker serves.

pub(crate) mod client;
mod message;
pub(crate) mod run;
mod sources;
