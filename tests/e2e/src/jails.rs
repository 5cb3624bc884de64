//! What full jails have on the machine, and whether it is gone afterwards.

use std::collections::BTreeSet;
use std::fs;

use crate::names::{FORKER, INIT, JAILER, STDERR_LOGGER};
use crate::procfs;
use crate::server::Server;
use crate::wait::wait_until;

/// The kinds of namespaces that a room has for itself.
const OF_A_ROOM: [&str; 3] = ["pid", "mnt", "ipc"];

/// Those that it shares with the other rooms of its forker.
const OF_A_JAILER: [&str; 4] = ["user", "net", "uts", "cgroup"];

/// The namespaces of a process of these kinds; none if it has ended.
fn of_kinds(pid: i32, kinds: &[&str]) -> BTreeSet<String> {
    let links = kinds.iter().filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// The pid namespace of a process; empty if it has ended.
#[must_use]
pub fn room_of(pid: i32) -> String {
    of_kinds(pid, &["pid"]).into_iter().next().unwrap_or_default()
}

/// The first processes of rooms that wait for a connection.
#[must_use]
pub fn waiting_inits(server: &Server) -> Vec<i32> {
    let (inits, others): (Vec<_>, Vec<_>) =
        server.processes().into_iter().partition(|process| process.name.starts_with(INIT));
    let taken: BTreeSet<String> = others.iter().map(|process| room_of(process.pid)).collect();
    inits.into_iter().map(|init| init.pid).filter(|pid| !taken.contains(&room_of(*pid))).collect()
}

/// Ticks in a second (`USER_HZ`, time(7)).
const TICKS: f64 = 100.0;

/// The namespaces of processes, without those of this process.
///
/// # Panics
/// If this process has no number.
#[must_use]
pub fn namespaces_of(processes: &[procfs::Process]) -> BTreeSet<String> {
    let kinds = [&OF_A_ROOM[..], &OF_A_JAILER].concat();
    let own = of_kinds(i32::try_from(std::process::id()).expect("a process id"), &kinds);
    let all = processes.iter().flat_map(|process| of_kinds(process.pid, &kinds));
    all.filter(|one| !own.contains(one)).collect()
}

/// Waits until no process of the machine is in one of these namespaces, of those that have started
/// by now: the kernel gives the numbers of namespaces that have ended to new ones.
///
/// # Panics
/// If one is left after [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
pub fn wait_until_namespaces_end(namespaces: &BTreeSet<String>) {
    let kinds = [&OF_A_ROOM[..], &OF_A_JAILER].concat();
    let uptime = fs::read_to_string("/proc/uptime").expect("/proc is mounted");
    let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("a time");
    let now = (seconds * TICKS) as u64;
    wait_until("no namespace is left", || {
        let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut old = pids.filter(|pid| start_of(*pid).is_some_and(|start| start <= now));
        (!old.any(|pid| !of_kinds(pid, &kinds).is_disjoint(namespaces))).then_some(())
    });
}

/// When a process started, in ticks since the start of the machine (proc_pid_stat(5), field 22).
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The processes of the machine in a room, zombies included.
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn processes_in(room: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| room_of(*pid) == room).collect()
}

/// Waits until a server has no connection and its rooms are ready: 8 for each forker, one that a
/// forker may have in hand, and one that was made where another seemed to be lost.
///
/// # Panics
/// If processes of connections are left after [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
pub fn wait_until_idle(server: &Server) {
    let stays = |name: &str| {
        name == "tine" || [FORKER, JAILER, STDERR_LOGGER].iter().any(|kind| name.starts_with(kind))
    };
    wait_until("the server is idle", || {
        let forkers = server.forkers().len();
        let (inits, others): (Vec<_>, Vec<_>) =
            server.processes().into_iter().partition(|process| process.name.starts_with(INIT));
        let is_idle = others.iter().all(|process| stays(&process.name))
            && (8 * forkers..=10 * forkers).contains(&inits.len());
        (is_idle && procfs::zombies(server.pid()) == 0).then_some(())
    });
}

/// The number of mounts of this process.
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted").lines().count()
}
