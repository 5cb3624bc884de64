//! The processes of a connection, by procfs (proc(5)): what the operator may read, the server need
//! not.

use std::collections::HashMap;
use std::fs;
use std::io;

use serde_json::{Value, json};

/// A process and its descendants, each after its parent.
pub(super) fn tree(pid: u64) -> Vec<Value> {
    let mut children: HashMap<u64, Vec<u64>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for other in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()) {
        if let Some(parent) = stat(other).and_then(|stat| stat.parent) {
            children.entry(parent).or_default().push(other);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![(pid, 0)];
    while let Some((pid, depth)) = next.pop() {
        found.extend(describe(pid, depth));
        next.extend(children.get(&pid).into_iter().flatten().map(|child| (*child, depth + 1)));
    }
    found
}

struct Stat {
    state: String,
    parent: Option<u64>,
}

/// The state and the parent of a process.
fn stat(pid: u64) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and can have any character.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some(Stat { state: fields.next()?.to_owned(), parent: fields.next()?.parse().ok() })
}

/// What a process has used and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time, in milliseconds.
    pub(super) cpu_ms: u64,
    /// Resident memory.
    pub(super) rss_kib: u64,
}

/// The usage of a process; `None` if it has ended, or is not shown.
pub(super) fn usage(pid: u64) -> Option<Usage> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The first field behind the name is the third (proc_pid_stat(5)).
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = fields.nth(24 - 16)?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    Some(Usage {
        cpu_ms: (user + system).saturating_mul(1_000) / ticks,
        rss_kib: pages.saturating_mul(page) / 1_024,
    })
}

fn describe(pid: u64, depth: u64) -> Option<Value> {
    let Stat { state, parent } = stat(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let files = files(pid);
    Some(json!({
        "pid": pid,
        "parent": parent,
        "depth": depth,
        "name": name.trim_end(),
        "command": command,
        "state": state,
        "rss_kib": kib("VmRSS"),
        "peak_kib": kib("VmHWM"),
        "descriptors": files.as_ref().map(Vec::len),
        "files": files,
    }))
}

/// What the descriptors of a process refer to, as procfs names it; `None` if that may not be read.
fn files(pid: u64) -> Option<Vec<Value>> {
    let files = open_in(pid).ok()?.into_iter();
    Some(files.map(|(descriptor, file)| json!({ "fd": descriptor, "file": file })).collect())
}

/// The descriptors of a process, and what each refers to, as procfs names it.
///
/// # Errors
/// They may not be read, or the process has ended.
pub(crate) fn open_in(pid: u64) -> io::Result<Vec<(u64, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // Closed meanwhile: it is none any more.
        if let (Some(number), Ok(file)) = (number, fs::read_link(entry.path())) {
            files.push((number, file.to_string_lossy().into_owned()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_process_is_found_with_its_children() {
        let mut command = std::process::Command::new("cat");
        let mut child = command.arg("-u").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
        // Until it answers, its command line may be empty: spawn returns in the midst of execve(2).
        child.stdin.as_mut().expect("piped").write_all(b"\n").expect("it reads");
        child.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it answers");
        let own = u64::from(std::process::id());
        let found = tree(own);
        child.kill().expect("running");
        child.wait().expect("ended");
        assert_eq!(found[0]["pid"], own);
        assert!(found[0]["descriptors"].as_u64() >= Some(3) && found[0]["rss_kib"].as_u64() > Some(100));
        let target = fs::read_link("/proc/self/fd/1").expect("it is open");
        let output = json!({ "fd": 1, "file": target.to_string_lossy() });
        assert!(found[0]["files"].as_array().is_some_and(|files| files.contains(&output)), "{found:?}");
        let cat = found.iter().find(|process| process["pid"] == child.id()).expect("the child");
        assert_eq!((cat["depth"].as_u64(), &cat["command"]), (Some(1), &json!("cat -u")));
        assert!(tree(u64::MAX).is_empty());
    }

    #[test]
    fn the_usage_of_a_process_is_that_of_the_kernel() {
        let own = u64::from(std::process::id());
        let found = usage(own).expect("this process");
        let shown = describe(own, 0).expect("this process")["rss_kib"].as_u64().expect("a number");
        assert!(found.rss_kib > shown / 2 && found.rss_kib < shown * 2, "{found:?}, {shown}");
        while usage(own).expect("this process").cpu_ms < found.cpu_ms + 20 {}
        assert_eq!(usage(u64::MAX), None);
    }
}
