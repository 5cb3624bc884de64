//! Environment variables that are for this process alone.

use crate::process::Alone;

/// Removes a variable, so that no process started later believes that it is meant.
pub fn remove(name: &str, _proof: &Alone) {
    // SAFETY: there is no other thread that could read the environment at the same time.
    unsafe { std::env::remove_var(name) };
}
