//! Processes that connections started and left behind. As a subreaper (prctl(2)) the supervisor
//! becomes their parent; it reaps them, and ends them when it stops.

use std::collections::HashSet;

use crate::system::procfs::{children, own_id};

/// The children that this process had before it became a supervisor: not ours to reap.
#[derive(Debug, Default)]
pub(crate) struct PreexistingChildren(HashSet<i32>);

impl PreexistingChildren {
    /// Takes over as subreaper.
    pub(crate) fn record_and_become_subreaper() -> PreexistingChildren {
        let strangers = PreexistingChildren(children(own_id()).into_iter().collect());
        // Where it cannot be had (a kernel before 3.4), orphans go to init as ever.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        strangers
    }

    /// The children that this process has got since: its own, and orphans.
    pub(crate) fn children(&self) -> Vec<i32> {
        children(own_id()).into_iter().filter(|pid| !self.0.contains(pid)).collect()
    }
}
