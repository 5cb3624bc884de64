//! What the kernel shows of processes in `/proc` (proc(5)).

use std::collections::HashSet;
use std::fs;

/// A process at the time of reading.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Process id of the parent.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Short name, as ps(1) shows it in `comm`.
    pub name: String,
    /// State letter.
    pub state: char,
    /// Processor time in clock ticks of 10 ms.
    pub ticks: u64,
}

impl Process {
    /// Whether it has ended and waits to be reaped.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

/// A process by its id; `None` if there is none.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = (stat.find('(')?, stat.rfind(')')?);
    let fields: Vec<&str> = stat[rest + 1..].split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
    Some(Process {
        pid,
        name: stat[start + 1..rest].to_owned(),
        state: fields.first()?.chars().next()?,
        parent: i32::try_from(number(1)?).ok()?,
        group: i32::try_from(number(2)?).ok()?,
        ticks: u64::try_from(number(11)? + number(12)?).ok()?,
    })
}

/// Whether there is a process of this id that has not ended.
#[must_use]
pub fn is_running(pid: i32) -> bool {
    process(pid).is_some_and(|process| !process.is_zombie())
}

/// Every process with this `NAME=VALUE` in its environment.
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn all_with(variable: &str) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
        })
        .filter_map(process)
        .collect()
}

/// The children of a process, zombies included.
#[must_use]
pub fn children(pid: i32) -> Vec<Process> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| process(pid.parse().ok()?)).collect()
}

/// The number of children of a process that have ended and wait to be reaped.
#[must_use]
pub fn zombies(pid: i32) -> usize {
    children(pid).iter().filter(|child| child.is_zombie()).count()
}

/// The open descriptors of a process: number and target, such as `socket:[4711]`.
#[must_use]
pub fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let mut found: Vec<(i32, String)> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.display().to_string()))
        })
        .collect();
    found.sort();
    found
}

/// The value of a line of `/proc/PID/status`; empty if there is none.
#[must_use]
pub fn status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// The ids in a line of `/proc/PID/status`: `Uid`, `Gid` (real, effective, saved, file system) or
/// `Groups`.
#[must_use]
pub fn ids(pid: i32, key: &str) -> Vec<String> {
    status(pid, key).split_whitespace().map(str::to_owned).collect()
}

/// Asserts that a process has the default action for every signal and blocks none.
///
/// # Panics
/// If it has not, or does not exist.
pub fn assert_default_signals(pid: i32) {
    for key in ["SigBlk", "SigIgn", "SigCgt"] {
        let set = u64::from_str_radix(&status(pid, key), 16).expect("a set of signals");
        // The C library reserves 32 and 33.
        assert_eq!(set & !(3 << 31), 0, "{key} of process {pid}");
    }
}

/// The OOM score adjustment of a process.
///
/// # Panics
/// If it does not exist.
#[must_use]
pub fn oom_score_adjustment(pid: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a process");
    text.trim().parse().expect("a number")
}

/// A limit of a process as `/proc/PID/limits` has it: soft and hard.
#[must_use]
pub fn limit(pid: i32, name: &str) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// The sum of some lines of `/proc/PID/smaps_rollup`, in KiB.
fn memory(pid: i32, keys: &[&str]) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let counts = |line: &&str| keys.iter().any(|key| line.starts_with(key));
    rollup.lines().filter(counts).filter_map(value).sum()
}

/// Proportional anonymous and shared memory of a process, in KiB. The pages of the program's file
/// are left out: their share changes when other servers on the machine start and end.
#[must_use]
pub fn proportional_memory(pid: i32) -> u64 {
    memory(pid, &["Pss_Anon:", "Pss_Shmem:"])
}

/// Anonymous memory that a process maps, shared or not, in KiB.
#[must_use]
pub fn anonymous_memory(pid: i32) -> u64 {
    memory(pid, &["Anonymous:"])
}

/// A mapping of a process's address space, from `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The address of its first byte.
    pub start: u64,
    /// The address after its last byte.
    pub end: u64,
    /// Permissions such as `rw-s`.
    pub permissions: String,
    /// What is mapped, which tells shared mappings apart: the number of its inode and its name.
    pub object: String,
}

impl Mapping {
    /// Whether the process can write it and others see what it writes.
    #[must_use]
    pub fn is_shared_and_writable(&self) -> bool {
        self.permissions.starts_with("rw") && self.permissions.ends_with('s')
    }
}

/// The address space of a process.
#[must_use]
pub fn mappings(pid: i32) -> Vec<Mapping> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapping = |line: &str| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?.to_owned();
        Some(Mapping {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            permissions,
            object: fields.skip(2).collect::<Vec<_>>().join(" "),
        })
    };
    maps.lines().filter_map(mapping).collect()
}

/// The number of clients that the listener on this port of 127.0.0.1 has not accepted yet.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn backlog(port: u16) -> usize {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("/proc is mounted");
    let local = format!("0100007F:{port:04X}");
    let mut sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listener = sockets.find(|fields| fields[1] == local && fields[3] == LISTEN);
    let (_, queued) = listener.expect("a listener")[4].split_once(':').expect("two queues");
    usize::from_str_radix(queued, 16).expect("a number")
}

/// A TCP socket over IPv4 in `/proc/thread-self/net/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Whether it is a listener.
    pub is_listener: bool,
    /// The port at the other end; 0 for a listener.
    pub peer_port: u16,
}

/// The TCP sockets over IPv4 of this network namespace that a process has open. A process that has
/// one in several descriptors has it once here.
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn tcp_sockets(pid: i32) -> Vec<TcpSocket> {
    const LISTEN: &str = "0A";
    let targets: HashSet<String> = descriptors(pid).into_iter().map(|(_, target)| target).collect();
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("/proc is mounted");
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let peer_port = u16::from_str_radix(fields.get(2)?.split_once(':')?.1, 16).ok()?;
        let is_open = targets.contains(&format!("socket:[{}]", fields.get(9)?));
        is_open.then_some(TcpSocket { is_listener: fields[3] == LISTEN, peer_port })
    };
    table.lines().skip(1).filter_map(socket).collect()
}
