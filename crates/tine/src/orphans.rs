//! Processes that connections started and left behind. As a subreaper (prctl(2)) the supervisor
//! becomes their parent; it reaps them, and ends them when it stops.

use std::collections::HashSet;

/// The children that this process had before it became a supervisor: not ours to reap.
#[derive(Debug, Default)]
pub(crate) struct Strangers(HashSet<i32>);

impl Strangers {
    /// Takes over as subreaper.
    pub(crate) fn note_and_adopt() -> Strangers {
        let strangers = Strangers(children().into_iter().collect());
        // Where it cannot be had (a kernel before 3.4), orphans go to init as ever.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        strangers
    }

    /// The children that this process has got since: its own, and orphans.
    pub(crate) fn children(&self) -> Vec<i32> {
        children().into_iter().filter(|pid| !self.0.contains(pid)).collect()
    }
}

/// The children of this process (proc_pid_task(5)).
fn children() -> Vec<i32> {
    let pid = std::process::id();
    let list = std::fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
