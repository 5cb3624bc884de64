//! The environment of this process.

use crate::process::Alone;

/// Removes a variable that is meant for this process, so that processes that it starts do not act
/// on it.
pub fn remove(name: &str, _alone: &Alone) {
    // SAFETY: there is no other thread that could read the environment meanwhile.
    unsafe { std::env::remove_var(name) };
}
