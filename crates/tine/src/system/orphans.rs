//! Orphans: processes that connections started and left behind. The supervisor is a subreaper
//! (prctl(2)), so it becomes their parent; it reaps them, and kills them when it stops.

use std::collections::HashSet;

use crate::system::procfs::{children, own_id};

/// The children that this process had before it became a supervisor. They belong to the caller of
/// the library, and are never reaped or killed here.
#[derive(Debug, Default)]
pub(crate) struct PreexistingChildren(HashSet<i32>);

impl PreexistingChildren {
    /// Records the present children, and makes this process a subreaper.
    pub(crate) fn record_and_become_subreaper() -> PreexistingChildren {
        let preexisting = PreexistingChildren(children(own_id()).into_iter().collect());
        // On a kernel before 3.4 this fails, and orphans go to init.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        preexisting
    }

    /// The other children of this process: those that it forked since, and orphans.
    pub(crate) fn children(&self) -> Vec<i32> {
        children(own_id()).into_iter().filter(|pid| !self.0.contains(pid)).collect()
    }
}
