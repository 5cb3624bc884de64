//! Running a load: one coordinator and its workers, which share live counters.

pub mod coordinator;
pub mod exchange;
pub mod live;
pub mod load;
pub mod worker;
