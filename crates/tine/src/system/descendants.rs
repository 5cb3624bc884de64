//! The descendants of a connection process: how the supervisor finds and signals them.
//!
//! Descendants in its process group get the signals of the group. Those with a group or a session
//! of their own are found through their parents. A process whose parent has exited becomes an
//! orphan, a child of the supervisor; it is found by the id of the connection in the environment
//! that it inherited. A program that evades both is found only where connections have cgroups
//! (`cgroup.rs`).

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tine_sys::process::reap;

use crate::system::procfs::{EnvironmentRead, Stat, children, environment, own_id};
use crate::system::signal::NotSignalled;

/// The environment variable that holds the id of the connection, as the log has it. Every program
/// gets it, and its descendants inherit it.
pub(crate) const CONNECTION: &str = "TINE_CONNECTION";

/// Rounds of searching and killing, at most: a process that forks faster than this cannot hold up a
/// stop.
const KILL_ROUNDS: usize = 10;

/// Scans for what remains of a connection, at most, before the supervisor does something else: on a
/// busy server, processes of other connections end during many of them.
const SCANS: usize = 8;

/// A process that is not a child of this one, or that another process may reap. The pidfd makes
/// sure that a signal does not reach an unrelated process with the same number.
struct ProcessRef {
    pid: i32,
    /// `None` where the system denies pidfd_open(2), or there is no descriptor left.
    pidfd: Option<OwnedFd>,
    /// When the process was started, as `/proc` has it.
    started: u64,
}

/// All living descendants of these processes, without the processes themselves.
pub(crate) fn descendants(of: &[i32]) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut open = of.to_vec();
    while let Some(parent) = open.pop() {
        open.extend(children(parent).into_iter().filter(|child| found.insert(*child)));
    }
    found
}

/// Whether a process has the id of this connection in its environment; `None` if that cannot be
/// told yet.
fn belongs_to(pid: i32, connection: u64) -> Option<bool> {
    let wanted = format!("{CONNECTION}={connection}");
    match environment(pid) {
        EnvironmentRead::Whole(text) => {
            Some(text.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()))
        }
        EnvironmentRead::Hidden => Some(false),
        EnvironmentRead::Changing => None,
    }
}

/// The living descendants of a connection process that are not in its group.
pub(crate) fn outside(pid: i32, connection: u64, orphans_and_descendants: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut found = descendants(&[pid]);
    found
        .extend(orphans_and_descendants.iter().filter(|other| belongs_to(**other, connection) == Some(true)));
    outside_group_in(pid, found)
}

/// The living ones among these processes that are not in the group of a connection process.
pub(crate) fn outside_group_in(pid: i32, mut processes: BTreeSet<i32>) -> BTreeSet<i32> {
    processes.retain(|process| is_alive_in(*process, |group| group != pid));
    processes
}

/// The living processes of a connection whose own process has exited.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remaining {
    pub(crate) members: BTreeSet<i32>,
    /// Whether there may be others, which cannot be told yet.
    pub(crate) may_have_more: bool,
}

/// What a scan says about one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Member,
    Stranger,
    /// It had ended before it was judged. What it forked before is in the next scan only.
    Ended {
        started: u64,
    },
    /// It has been reaped, or cannot be judged at this moment.
    Unknown,
}

/// The living processes in the group of a connection process that has exited, and with the id of
/// the connection also those outside.
///
/// `scan` lists the orphans and their descendants. While a descendant lives, an orphan does that is
/// a descendant, too: the parent of a process is the one that forked it, or, once that has exited,
/// the supervisor. Only the supervisor removes a process from the list of its children, so a scan
/// misses none. Hence no process is left when a scan shows strangers only. If a process of the scan
/// has ended before it was judged, what it forked may be younger than the scan: another one
/// decides.
pub(crate) fn remaining(
    pid: i32,
    connection: Option<u64>,
    mut scan: impl FnMut() -> BTreeSet<i32>,
) -> Remaining {
    remaining_by(|| scan().into_iter().map(|process| (process, judge(process, pid, connection))).collect())
}

/// Scans until a scan finds members or is conclusive; some times at most.
fn remaining_by(mut scan: impl FnMut() -> Vec<(i32, Judgement)>) -> Remaining {
    let mut ended = HashSet::new();
    for _ in 0..SCANS {
        let mut members = BTreeSet::new();
        let mut is_conclusive = true;
        for (process, judgement) in scan() {
            match judgement {
                Judgement::Member => _ = members.insert(process),
                Judgement::Stranger => {}
                // Of a process that had ended before this scan, all children are in it.
                Judgement::Ended { started } => is_conclusive &= !ended.insert((process, started)),
                Judgement::Unknown => is_conclusive = false,
            }
        }
        if is_conclusive || !members.is_empty() {
            return Remaining { members, may_have_more: !is_conclusive };
        }
    }
    Remaining { members: BTreeSet::new(), may_have_more: true }
}

/// Judges a process. What it is does not depend on the order: it may leave the group and execute a
/// program, but its descent and the environment that it has inherited remain.
fn judge(process: i32, pid: i32, connection: Option<u64>) -> Judgement {
    let Some(stat) = Stat::of(process) else { return Judgement::Unknown };
    let belongs = match connection {
        _ if stat.has_ended() => return Judgement::Ended { started: stat.started },
        _ if stat.group == pid => Some(true),
        Some(connection) => belongs_to(process, connection),
        None => Some(false),
    };
    match belongs {
        Some(true) => Judgement::Member,
        Some(false) => Judgement::Stranger,
        None => Judgement::Unknown,
    }
}

/// Whether a process is alive, and its group fits.
fn is_alive_in(pid: i32, group: impl Fn(i32) -> bool) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.has_ended() && group(stat.group))
}

/// The orphans of this process and their descendants: all processes that connections may have left
/// behind.
pub(crate) fn orphans_and_descendants(mut orphans: impl FnMut() -> Vec<i32>) -> BTreeSet<i32> {
    // A process becomes an orphan when its parent exits. The second list has those that did so
    // while the first one was searched.
    let mut orphans_and_descendants = descendants(&orphans());
    let orphans = orphans();
    orphans_and_descendants.extend(descendants(&orphans));
    orphans_and_descendants.extend(orphans);
    orphans_and_descendants
}

/// Kills the orphans and their descendants, and reaps the orphans. Returns those that could not be
/// signalled.
pub(crate) fn kill(mut orphans: impl FnMut() -> Vec<i32>) -> Vec<NotSignalled> {
    let mut failed = Vec::new();
    // The next round finds the processes that were forked during this one.
    for _ in 0..KILL_ROUNDS {
        let orphans_and_descendants = orphans_and_descendants(&mut orphans);
        if orphans_and_descendants.is_empty() {
            break;
        }
        failed = signal(&orphans_and_descendants, &[Signal::KILL]);
        for pid in orphans() {
            // Still alive, or reaped already: the next round decides. No process of the server runs
            // that could be mistaken for an orphan, but makers of templates are among these.
            let _ = reap(pid);
        }
    }
    failed.retain(|failed| Stat::of(failed.pid).is_some_and(|stat| !stat.has_ended()));
    failed
}

/// Signals processes once each, and those that they fork meanwhile, which `others` finds: a signal
/// to a process does not reach the child that it has forked. Returns those that could not be
/// signalled.
pub(crate) fn signal_all(
    mut processes: BTreeSet<i32>,
    signals: &[Signal],
    mut others: impl FnMut() -> BTreeSet<i32>,
) -> Vec<NotSignalled> {
    let mut failed = Vec::new();
    let mut signalled = BTreeSet::new();
    for _ in 0..KILL_ROUNDS {
        processes.retain(|process| !signalled.contains(process));
        if processes.is_empty() {
            break;
        }
        signalled.extend(&processes);
        failed.extend(signal_in(&processes, &signalled, signals));
        processes = others();
    }
    failed
}

/// Signals descendants of this process that are not its own children. Returns those that could not
/// be signalled.
pub(crate) fn signal(processes: &BTreeSet<i32>, signals: &[Signal]) -> Vec<NotSignalled> {
    signal_in(processes, processes, signals)
}

/// As [`signal`]; `family` has the processes, and other descendants of this process.
fn signal_in(processes: &BTreeSet<i32>, family: &BTreeSet<i32>, signals: &[Signal]) -> Vec<NotSignalled> {
    let held: Vec<ProcessRef> = processes.iter().filter_map(|pid| ProcessRef::hold(*pid)).collect();
    let own = own_id();
    let mut failed = Vec::new();
    for process in &held {
        // The number could have passed to another process before it was held: check the parent.
        let Some(parent) = process.stat().map(|stat| stat.parent) else { continue };
        if parent == own || is_child(parent, own) || family.contains(&parent) {
            let sent = signals.iter().try_for_each(|signal| process.signal(*signal));
            failed.extend(NotSignalled::of(process.pid, sent));
        }
    }
    failed
}

/// Whether a process is a child of this one.
fn is_child(pid: i32, own: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.parent == own)
}

impl ProcessRef {
    fn hold(pid: i32) -> Option<ProcessRef> {
        let pidfd = match pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return None,
            opened => opened.ok(),
        };
        Some(ProcessRef { pid, pidfd, started: Stat::of(pid)?.started })
    }

    /// The process as it is now; `None` if it has been reaped.
    fn stat(&self) -> Option<Stat> {
        Stat::of(self.pid).filter(|stat| stat.started == self.started)
    }

    /// Signals the process. Where the system denies signals through a pidfd, kill(2) follows a
    /// comparison of the start times: only a process that took over the number since then, within
    /// microseconds, would be mistaken for this one.
    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        if let Some(pidfd) = &self.pidfd {
            match pidfd_send_signal(pidfd, signal) {
                // Denied is the call, or the signal; then kill(2) says the same.
                Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {}
                sent => return sent,
            }
        }
        match (self.stat(), Pid::from_raw(self.pid)) {
            (Some(_), Some(pid)) => kill_process(pid, signal),
            _ => Err(Errno::SRCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scan_of_strangers_that_lived_when_they_were_judged_says_that_no_member_is_left() {
        use Judgement::{Ended, Member, Stranger, Unknown};

        let ended = |started| Ended { started };
        let nothing = (&[][..], false);
        for (scans, expected, count) in [
            (&[&[][..]][..], nothing, 1),
            (&[&[(1, Stranger), (2, Stranger)]], nothing, 1),
            (&[&[(1, Stranger), (2, Member), (3, Member)]], (&[2, 3], false), 1),
            // It may have forked a child before it ended, after the scan.
            (&[&[(1, ended(7))], &[(2, Member)]], (&[2], false), 2),
            (&[&[(1, ended(7))], &[(1, ended(7)), (2, Member)]], (&[2], false), 2),
            (&[&[(1, ended(7))], &[(1, ended(7))]], nothing, 2),
            // Another process with the same number.
            (&[&[(1, ended(7))], &[(1, ended(8))], &[(1, ended(8))]], nothing, 3),
            (&[&[(1, Unknown)], &[(1, Member)]], (&[1], false), 2),
            (&[&[(1, Unknown)], &[(1, Stranger)]], nothing, 2),
            (&[&[(1, Unknown), (2, Member)]], (&[2], true), 1),
            (&[&[(1, Unknown)][..]; SCANS], (&[], true), SCANS),
        ] {
            let mut left = scans.iter();
            let found = remaining_by(|| left.next().expect("no scan more").to_vec());
            let expected =
                Remaining { members: expected.0.iter().copied().collect(), may_have_more: expected.1 };
            assert_eq!((found, scans.len() - left.len()), (expected, count), "{scans:?}");
        }
    }
}
