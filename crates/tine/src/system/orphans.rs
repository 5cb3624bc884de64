//! Orphans: processes that connections started and left behind. The supervisor is a subreaper
//! (prctl(2)), so it becomes their parent; it reaps them, and kills them when it stops.

use std::collections::HashSet;

use rustix::io::Errno;
use tine_sys::process::{first_ended, reap_ordinary};

use crate::system::procfs::{children, own_id, unavailable};

/// The children that this process had before it became a supervisor. They belong to the caller of
/// the library, and are never reaped or killed here.
#[derive(Debug, Default)]
pub(crate) struct PreexistingChildren(HashSet<i32>);

impl PreexistingChildren {
    /// Records the present children, and makes this process a subreaper.
    pub(crate) fn record_and_become_subreaper() -> PreexistingChildren {
        let preexisting = PreexistingChildren(children(own_id()).into_iter().collect());
        // Checked before the server starts; without it, orphans go to init.
        let _ = become_subreaper();
        preexisting
    }

    /// The other children of this process: those that it forked since, and orphans.
    pub(crate) fn children(&self) -> Vec<i32> {
        children(own_id()).into_iter().filter(|pid| !self.0.contains(pid)).collect()
    }
}

/// Makes this process the parent of the orphans among its descendants. The first process of a pid
/// namespace is that anyway.
///
/// # Errors
/// EINVAL before Linux 3.4; EPERM or ENOSYS in a sandbox.
pub(crate) fn become_subreaper() -> Result<(), Errno> {
    let own = rustix::process::getpid();
    match rustix::process::set_child_subreaper(Some(own)) {
        Err(_) if own.is_init() => Ok(()),
        set => set,
    }
}

/// Reaps these orphans, as far as they have exited. Where children cannot be listed, reaps every
/// child that has exited up to one that `is_owned` names, which has its own place to be reaped.
/// Returns the reaped ones.
pub(crate) fn reap(orphans: &[i32], is_owned: impl Fn(i32) -> bool) -> Vec<i32> {
    let reap = |pid: &i32| matches!(reap_ordinary(*pid), Ok(Some(_)));
    let mut reaped: Vec<i32> = orphans.iter().copied().filter(reap).collect();
    if unavailable().is_some() {
        while let Some(pid) = first_ended().filter(|pid| !is_owned(*pid) && reap(pid)) {
            reaped.push(pid);
        }
    }
    reaped
}
