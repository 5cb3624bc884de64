//! Running a load: a coordinator, which connects to nothing, and its worker processes. They share
//! live counters ([`live`]).
//!
//! [`measure`] runs workers that measure, for `tine load`; [`converse`] runs workers that report
//! each event to an observer, for `tine client`.

pub mod clock;
pub mod converse;
mod coordinator;
mod exchange;
pub mod live;
pub mod load;
pub mod measure;
pub mod purpose;
mod worker;
