//! Processes as `/proc` shows them (proc(5)).
//!
//! `/proc` may be missing, without lists of children, or that of another pid namespace, in which
//! the ids are those of other processes. Then no process is found here.

use std::sync::OnceLock;

use rustix::io::Errno;

/// Why the processes of this pid namespace are not shown, if so. Looked up once.
pub(crate) fn unavailable() -> Option<Errno> {
    static UNAVAILABLE: OnceLock<Option<Errno>> = OnceLock::new();
    *UNAVAILABLE.get_or_init(|| {
        let errno = |why: std::io::Error| Errno::from_io_error(&why).unwrap_or(Errno::IO);
        match std::fs::read_link("/proc/self") {
            Err(why) => return Some(errno(why)),
            // Of another pid namespace.
            Ok(own) if own.to_str() != Some(&own_id().to_string()) => return Some(Errno::XDEV),
            Ok(_) => {}
        }
        std::fs::read("/proc/thread-self/children").err().map(errno)
    })
}

/// The fields of proc_pid_stat(5) that the supervisor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    flags: u64,
    /// When it was started, in clock ticks since the start of the machine: another process with the
    /// same id has another time.
    pub(crate) started: u64,
    /// Where the code begins in its memory: 0 while the process executes another program. The
    /// kernel sets it after the environment; 1 stands for a process that may not be looked into.
    code_start: Option<u64>,
}

impl Stat {
    /// The fields of a process; `None` if there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Stat> {
        if unavailable().is_some() {
            return None;
        }
        Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Stat> {
        // The name, in parentheses, may contain any character.
        let mut fields = line.rsplit_once(')')?.1.split_whitespace();
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            flags: fields.nth(3)?.parse().ok()?,
            started: fields.nth(12)?.parse().ok()?,
            code_start: fields.nth(3).and_then(|start| start.parse().ok()),
        })
    }

    /// Whether the process has exited and is not reaped yet.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether the process has just begun to execute another program, whose environment is not in
    /// its memory yet.
    fn is_executing(&self) -> bool {
        !self.is_ending() && self.code_start == Some(0)
    }

    /// Whether the process is exiting (`PF_EXITING`), or has exited.
    pub(crate) fn is_ending(&self) -> bool {
        const EXITING: u64 = 4;
        self.has_ended() || self.flags & EXITING != 0
    }
}

/// The children of a process, of all its threads (proc_pid_task_tid_children(5)).
pub(crate) fn children(pid: i32) -> Vec<i32> {
    if unavailable().is_some() {
        return Vec::new();
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The environment of a process, each variable with a zero byte; empty where it may not be read.
/// `None` while the process begins to execute another program, for microseconds: the environment is
/// not in its memory yet.
pub(crate) fn environment(pid: i32) -> Option<Vec<u8>> {
    let read = || std::fs::read(format!("/proc/{pid}/environ"));
    match read() {
        Ok(text) if text.is_empty() => {
            let is_executing = Stat::of(pid).is_some_and(|stat| stat.is_executing());
            // If it has got its environment since, that is read now.
            (!is_executing).then(|| read().unwrap_or_default())
        }
        read => Some(read.unwrap_or_default()),
    }
}

/// The id of this process.
pub(crate) fn own_id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces() {
        let more = "1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(&format!("7 (a) b) c) Z 5 6 6 0 -1 4228100 {more}")).expect("a line");
        assert_eq!((stat.parent, stat.group, stat.started), (5, 6, 4711));
        assert!(stat.has_ended() && stat.is_ending());
        let ending = Stat::parse(&format!("7 (x) R 5 6 6 0 -1 4 {more}")).expect("a line");
        assert!(!ending.has_ended() && ending.is_ending());
        assert_eq!(Stat::parse("7 (x) R 5"), None);
        let own = Stat::of(own_id()).expect("this process");
        assert!(!own.is_ending() && !own.is_executing() && own.started > 0);
        let executing = |start| Stat { code_start: Some(start), ..own }.is_executing();
        assert!(executing(0) && !executing(4096));
    }
}
