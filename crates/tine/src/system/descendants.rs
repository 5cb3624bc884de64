//! The descendants of a connection's process: who they are, and signals to them.
//!
//! Those in its process group are reached by the group. Those that made groups or sessions of their own are
//! found by who is whose parent; and those whose parents have ended, which are this process's children then,
//! by the connection's id in the environment that they inherited. A program that hides from both is found
//! where connections have cgroups (`cgroup.rs`).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tine_sys::process::reap_ordinary;

use crate::system::procfs::{Stat, children, own_id};

/// The environment variable that holds the id of the connection, as the log has it. Every program gets it,
/// and its descendants inherit it.
pub(crate) const CONNECTION: &str = "TINE_CONNECTION";

/// How often it is looked for those that are to be killed.
const ROUNDS: usize = 10;

/// A process that is not this one's child, or may be reaped by somebody else: held by a descriptor, so that
/// a signal cannot go to a stranger who got its number.
struct ProcessRef {
    pid: i32,
    descriptor: OwnedFd,
}

/// All living descendants of these processes, themselves not among them.
pub(crate) fn descendants(of: &[i32]) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut open = of.to_vec();
    while let Some(parent) = open.pop() {
        open.extend(children(parent).into_iter().filter(|child| found.insert(*child)));
    }
    found
}

/// Whether it has inherited this connection's id.
fn is_of(pid: i32, connection: u64) -> bool {
    let wanted = format!("{CONNECTION}={connection}");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// The living descendants of a connection's process outside of its group, given everybody around.
pub(crate) fn outside(pid: i32, connection: u64, orphans_and_descendants: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut family = descendants(&[pid]);
    family.extend(orphans_and_descendants.iter().filter(|other| is_of(**other, connection)));
    outside_group_in(pid, family)
}

/// Those of a family who live, and not in the group of this process.
pub(crate) fn outside_group_in(pid: i32, mut family: BTreeSet<i32>) -> BTreeSet<i32> {
    family.retain(|relative| is_alive_in(*relative, |group| group != pid));
    family
}

/// The living processes that are left of a connection whose own process has ended: those of its group, and
/// with the connection's id, those elsewhere, too.
pub(crate) fn left(
    pid: i32,
    connection: Option<u64>,
    orphans_and_descendants: &BTreeSet<i32>,
) -> BTreeSet<i32> {
    let mut left = orphans_and_descendants.clone();
    left.retain(|relative| is_alive_in(*relative, |group| group == pid));
    if let Some(connection) = connection {
        left.extend(outside(pid, connection, orphans_and_descendants));
    }
    left
}

fn is_alive_in(pid: i32, group: impl Fn(i32) -> bool) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.has_ended() && group(stat.group))
}

/// These processes, which this one adopted, and their descendants: everybody who may be left of a connection.
pub(crate) fn orphans_and_descendants(mut orphans: impl FnMut() -> Vec<i32>) -> BTreeSet<i32> {
    // When its parent ends, a process becomes this one's child. Asking for those once more finds who
    // moved meanwhile.
    let mut orphans_and_descendants = descendants(&orphans());
    let orphans = orphans();
    orphans_and_descendants.extend(descendants(&orphans));
    orphans_and_descendants.extend(orphans);
    orphans_and_descendants
}

/// Kills these and their descendants, and reaps those that become this one's children.
pub(crate) fn kill(mut orphans: impl FnMut() -> Vec<i32>) {
    // Whoever was forked while this looked is found the next time; who forks faster is not waited for.
    for _ in 0..ROUNDS {
        let orphans_and_descendants = orphans_and_descendants(&mut orphans);
        if orphans_and_descendants.is_empty() {
            return;
        }
        signal(&orphans_and_descendants, &[Signal::KILL]);
        for pid in orphans() {
            // Still alive, or gone: either is fine.
            let _ = reap_ordinary(pid);
        }
    }
}

/// Signals processes that are not children of this one.
pub(crate) fn signal(family: &BTreeSet<i32>, signals: &[Signal]) {
    let relatives: Vec<ProcessRef> = family.iter().filter_map(|pid| ProcessRef::hold(*pid)).collect();
    let own = own_id();
    for relative in &relatives {
        // Whoever has the number now that the descriptor is held is still one of them.
        let parent = Stat::of(relative.pid).map(|stat| stat.parent);
        if parent
            .is_some_and(|parent| parent == own || is_server_process(parent, own) || family.contains(&parent))
        {
            for signal in signals {
                // It may have ended: the better.
                let _ = pidfd_send_signal(&relative.descriptor, *signal);
            }
        }
    }
}

/// Whether a process is a child of this one.
fn is_server_process(pid: i32, own: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.parent == own)
}

impl ProcessRef {
    fn hold(pid: i32) -> Option<ProcessRef> {
        let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(ProcessRef { pid, descriptor })
    }
}
