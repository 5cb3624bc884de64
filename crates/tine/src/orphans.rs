//! Processes that connections started and left behind. As a subreaper (prctl(2)) the supervisor
//! becomes their parent; it reaps them, and ends them when it stops.

use std::collections::HashSet;

use rustix::process::{Pid, Signal, kill_process};

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

    /// Reaps the orphans that have ended. Never a process of the server, although it may not be known
    /// yet and looks like one: stopping or continuing any child is a reason for SIGCHLD, too.
    pub(crate) fn reap(&self, is_ours: impl Fn(i32) -> bool) {
        for pid in self.orphans(is_ours) {
            // Still alive, or gone: either is fine.
            let _ = tine_sys::process::reap_ordinary(pid);
        }
    }

    /// Kills the orphans that are left, and says how many there were.
    pub(crate) fn kill(&self, is_ours: impl Fn(i32) -> bool) -> usize {
        let orphans = self.orphans(is_ours);
        for pid in orphans.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // They are children of this process and not reaped: the ids cannot be a stranger's.
            let _ = kill_process(pid, Signal::KILL);
        }
        orphans.len()
    }

    fn orphans(&self, is_ours: impl Fn(i32) -> bool) -> Vec<i32> {
        let orphan = |pid: &i32| !self.0.contains(pid) && !is_ours(*pid);
        children().into_iter().filter(orphan).collect()
    }
}

/// The children of this process (proc_pid_task(5)).
fn children() -> Vec<i32> {
    let pid = std::process::id();
    let list = std::fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
