//! Puts TCP servers to the test, with many connections from many processes: what is to be done ([`plan`],
//! [`script`], [`expect`], [`schedule`]), doing it ([`crew`], [`worker`]), and what is found out ([`part`],
//! [`record`], [`state`], [`pattern`]), whether that is worth something ([`validity`], [`threshold`]), and how it is
//! written ([`report`]).
//!
//! It knows nothing of the server.

#![forbid(unsafe_code)]

pub mod counters;
pub mod crew;
pub mod exchange;
pub mod expect;
pub mod live;
pub mod machine;
pub mod part;
pub mod pattern;
pub mod plan;
pub mod record;
pub mod report;
pub mod schedule;
pub mod script;
pub mod state;
pub mod target;
pub mod text;
pub mod threshold;
pub mod validity;
pub mod worker;
