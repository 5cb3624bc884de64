//! What a client needs that puts a TCP server to the test: bytes that can be checked wherever they turn up
//! ([`pattern`]), and durations that many processes record and one adds up exactly ([`record`]).
//!
//! It knows nothing of the server.

#![forbid(unsafe_code)]

pub mod pattern;
pub mod record;
