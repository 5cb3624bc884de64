//! The limit of open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the number of files needed, or to the hard limit, which needs no
/// privilege (setrlimit(2)). Returns the limits as they were, and the soft limit now.
pub(crate) fn raise_limit(needed: u64) -> (Rlimit, u64) {
    let before = getrlimit(Resource::Nofile);
    let current = before.current.unwrap_or(u64::MAX);
    if current >= needed {
        return (before, current);
    }
    let wanted = before.maximum.map_or(needed, |hard| hard.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..before });
    (before, if raised.is_ok() { wanted } else { current })
}
