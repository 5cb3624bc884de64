//! What full jails have on the machine, and whether it is gone afterwards.

use std::collections::BTreeSet;
use std::fs;

use crate::names::INIT;
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

/// The namespaces of all processes of a server, without those of this process.
#[must_use]
pub fn namespaces_of(server: &Server) -> BTreeSet<String> {
    let kinds = [&OF_A_ROOM[..], &OF_A_JAILER].concat();
    let own = of_kinds(i32::try_from(std::process::id()).expect("a process id"), &kinds);
    let all = server.processes().into_iter().flat_map(|process| of_kinds(process.pid, &kinds));
    all.filter(|one| !own.contains(one)).collect()
}

/// Waits until no process of the machine is in one of these namespaces.
///
/// # Panics
/// If one is left after [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
pub fn wait_until_namespaces_end(namespaces: &BTreeSet<String>) {
    let kinds = [&OF_A_ROOM[..], &OF_A_JAILER].concat();
    wait_until("no namespace is left", || {
        let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        (!pids.any(|pid| !of_kinds(pid, &kinds).is_disjoint(namespaces))).then_some(())
    });
}

/// Waits until a server has no connection and its rooms are ready: up to 8 for each forker, and
/// one in its hand.
///
/// # Panics
/// If processes of connections are left after [`TEST_TIMEOUT`](crate::TEST_TIMEOUT).
pub fn wait_until_idle(server: &Server) {
    wait_until("the server is idle", || {
        let processes = server.processes();
        let forkers = server.forkers().len();
        let inits = processes.iter().filter(|process| process.name.starts_with(INIT)).count();
        // The supervisor, forkers and jailers.
        let is_idle = inits <= 9 * forkers && processes.len() - inits == 1 + 2 * forkers;
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
