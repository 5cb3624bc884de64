//! The limit on open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to what is needed, or as far as the hard one allows: up to that, anybody may (setrlimit(2)). Returns
/// the limits as they were, and how many files may be open now.
pub(crate) fn make_room(needed: u64) -> (Rlimit, u64) {
    let before = getrlimit(Resource::Nofile);
    let current = before.current.unwrap_or(u64::MAX);
    if current >= needed {
        return (before, current);
    }
    let room = before.maximum.map_or(needed, |hard| hard.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(room), ..before });
    (before, if raised.is_ok() { room } else { current })
}
