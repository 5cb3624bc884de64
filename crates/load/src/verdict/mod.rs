//! Verdicts on one run: whether it is valid, and whether it meets its limits.

pub mod threshold;
pub mod validity;
