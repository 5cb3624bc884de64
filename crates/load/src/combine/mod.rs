//! Several results together.

pub mod ab;
pub mod compare;
pub mod merge;
pub mod ratio;
