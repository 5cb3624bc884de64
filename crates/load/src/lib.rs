//! Puts TCP servers to the test, with many connections from many processes: what is to be done ([`plan`],
//! [`script`], [`expect`], [`schedule`]), doing it ([`crew`], [`worker`]), and what is found out ([`part`],
//! [`record`], [`state`], [`pattern`]), whether that is worth something ([`validity`], [`threshold`]), and how it is
//! written ([`report`]); and what several tell together ([`merge`], [`compare`], [`ab`]).
//!
//! It knows nothing of the server.

#![forbid(unsafe_code)]

pub mod ab;
pub mod compare;
pub mod counters;
pub mod crew;
pub mod exchange;
pub mod expect;
pub mod live;
pub mod machine;
pub mod merge;
pub mod part;
pub mod pattern;
pub mod plan;
pub mod record;
pub mod report;
pub mod schedule;
pub mod script;
pub mod state;
pub mod stats;
pub mod target;
pub mod text;
pub mod threshold;
pub mod validity;
pub mod worker;
