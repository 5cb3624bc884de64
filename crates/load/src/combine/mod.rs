//! Several reports: compared side by side, added up, or measured in turn.

pub mod ab;
pub mod compare;
pub mod merge;
pub mod ratio;
pub mod union;
