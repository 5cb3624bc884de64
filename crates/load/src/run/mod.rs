//! Running a load: one coordinator and its workers.

pub mod coordinator;
pub mod exchange;
pub mod live;
pub mod worker;
