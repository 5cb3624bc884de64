//! Load generator for TCP servers: many connections from many processes. It knows nothing of the
//! server under test.
//!
//! The folders, each of which may use those above it only:
//!
//! - [`plan`]: the load. The plan as requested, and everything computed from it: scripts, schedule,
//!   messages, addresses.
//! - [`findings`]: the data that workers measure, which add up over processes.
//! - [`run`]: running a load. One coordinator, which connects to nothing, and its workers.
//! - [`verdict`]: whether the measurement is valid, and whether limits are met.
//! - [`report`]: one result, and the forms in which it is written.
//! - [`combine`]: several results: compared, added up, measured in turn.

#![forbid(unsafe_code)]

pub mod combine;
pub mod findings;
pub mod plan;
pub mod report;
pub mod run;
pub mod units;
pub mod verdict;
