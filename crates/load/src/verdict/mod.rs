//! Judging one load.

pub mod threshold;
pub mod validity;
