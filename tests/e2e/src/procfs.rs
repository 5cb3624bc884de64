//! What the kernel tells of processes.

use std::fs;

/// A process, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// The parent's process id.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Short name.
    pub name: String,
    /// State letter, as in proc(5).
    pub state: char,
    /// Processor time in clock ticks (100 a second).
    pub ticks: u64,
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

/// Every process with this entry in its environment.
#[must_use]
pub fn all_with(entry: &str) -> Vec<Process> {
    let ids = fs::read_dir("/proc").expect("/proc is there").flatten();
    ids.filter_map(|name| name.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
        })
        .filter_map(process)
        .collect()
}

/// The children of a process, zombies among them.
#[must_use]
pub fn children(pid: i32) -> Vec<Process> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| process(pid.parse().ok()?)).collect()
}

/// The open descriptors of a process: number and what it is.
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

/// A line of `/proc/PID/status`.
#[must_use]
pub fn status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Proportional memory of a process that is its own or shared with its relatives, in KiB: without the
/// pages of the program's file, whose share changes when other servers on the machine start and end.
#[must_use]
pub fn own_memory(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let counts = |line: &&str| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:");
    rollup.lines().filter(counts).filter_map(value).sum()
}

/// A limit of a process, as `/proc/PID/limits` has it: soft and hard.
#[must_use]
pub fn limit(pid: i32, name: &str) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}
