//! Processes as `/proc` shows them (proc(5)).

/// The fields of proc_pid_stat(5) that the supervisor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    flags: u64,
}

impl Stat {
    /// The fields of a process; `None` if there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Stat> {
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
        })
    }

    /// Whether the process has exited and is not reaped yet.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether the process is exiting (`PF_EXITING`), or has exited.
    pub(crate) fn is_ending(&self) -> bool {
        const EXITING: u64 = 4;
        self.has_ended() || self.flags & EXITING != 0
    }
}

/// The children of a process, of all its threads (proc_pid_task_tid_children(5)).
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
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
        let stat = Stat::parse("7 (a) b) c) Z 5 6 6 0 -1 4228100 1 2").expect("a line");
        assert_eq!((stat.parent, stat.group), (5, 6));
        assert!(stat.has_ended() && stat.is_ending());
        let ending = Stat::parse("7 (x) R 5 6 6 0 -1 4 1").expect("a line");
        assert!(!ending.has_ended() && ending.is_ending());
        assert_eq!(Stat::parse("7 (x) R 5"), None);
        let own = Stat::of(own_id()).expect("this process");
        assert!(!own.is_ending());
    }
}
