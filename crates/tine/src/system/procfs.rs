//! Processes as `/proc` shows them (proc(5)).
//!
//! `/proc` may be missing, without lists of children, or that of another pid namespace, in which
//! the ids are those of other processes. Then no process is found here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

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
    /// Threads that are not reaped. The state is that of the first one, which can have ended while
    /// others run.
    threads: u64,
    /// When it was started, in clock ticks since the start of the machine: another process with the
    /// same id has another time.
    pub(crate) started: u64,
    /// Where the code begins in its memory: 0 while the kernel still sets up the memory of a
    /// program that the process executes.
    code: u64,
    /// Where the environment begins and ends in its memory. The end is 0 while the process executes
    /// another program, and where the process may not be looked into.
    environment: Option<(u64, u64)>,
}

/// What a process has used and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    pub(crate) cpu: Duration,
    pub(crate) rss_kib: u64,
}

impl ProcessUsage {
    /// The usage of a process; `None` if there is no such process, or it is not shown.
    pub(crate) fn of(pid: i32) -> Option<ProcessUsage> {
        if unavailable().is_some() {
            return None;
        }
        let line = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let ticks = rustix::param::clock_ticks_per_second();
        ProcessUsage::parse(&String::from_utf8_lossy(&line), ticks, rustix::param::page_size() as u64)
    }

    /// `ticks` are those of a second.
    fn parse(line: &str, ticks: u64, page: u64) -> Option<ProcessUsage> {
        // The first field behind the name is the third.
        let mut fields = line.rsplit_once(')')?.1.split_whitespace();
        let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let pages: u64 = fields.nth(24 - 16)?.parse().ok()?;
        let milliseconds = (user + system).saturating_mul(1_000) / ticks.max(1);
        Some(ProcessUsage {
            cpu: Duration::from_millis(milliseconds),
            rss_kib: pages.saturating_mul(page) / 1024,
        })
    }
}

impl Stat {
    /// The fields of a process; `None` if there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Stat> {
        if unavailable().is_some() {
            return None;
        }
        // The name can have any bytes.
        let line = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Stat::parse(&String::from_utf8_lossy(&line))
    }

    fn parse(line: &str) -> Option<Stat> {
        // The name, in parentheses, may contain any character.
        let mut fields = line.rsplit_once(')')?.1.split_whitespace();
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            flags: fields.nth(3)?.parse().ok()?,
            threads: fields.nth(10)?.parse().ok()?,
            started: fields.nth(1)?.parse().ok()?,
            code: fields.nth(3).map_or(Some(0), |code| code.parse().ok())?,
            environment: fields
                .nth(23)
                .zip(fields.next())
                .and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?))),
        })
    }

    /// Whether the process has exited and is not reaped yet.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }

    /// Whether the environment of the process is there and has no variable. In execve(2), the
    /// kernel sets its end to its beginning first, then to where the last variable ends, then the
    /// code.
    fn has_empty_environment(&self) -> bool {
        self.code != 0 && self.environment.is_some_and(|(start, end)| start == end && end != 0)
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

/// The environment of a process, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnvironmentRead {
    /// All of it: each variable, and a zero byte.
    Whole(Vec<u8>),
    /// This process may not read it.
    Hidden,
    /// The process executes another program, or exits, at this moment: its memory has no
    /// environment, or was replaced before all of it was read.
    Changing,
}

/// The environment of a process that has not ended.
pub(crate) fn environment(pid: i32) -> EnvironmentRead {
    match read_environment(&format!("/proc/{pid}")) {
        EnvironmentRead::Changing => {}
        read => return read,
    }
    // The first thread may have ended: all have the same memory.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let others = threads.filter(|thread| thread.file_name().to_str() != Some(&pid.to_string()));
    others
        .map(|thread| read_environment(&thread.path().display().to_string()))
        .find(|read| *read != EnvironmentRead::Changing)
        .unwrap_or(EnvironmentRead::Changing)
}

/// The environment of a thread by its folder in `/proc`.
fn read_environment(folder: &str) -> EnvironmentRead {
    let file = match File::open(format!("{folder}/environ")) {
        Ok(file) => file,
        Err(why) if why.kind() == std::io::ErrorKind::PermissionDenied => return EnvironmentRead::Hidden,
        Err(_) => return EnvironmentRead::Changing,
    };
    let mut text = Vec::new();
    if (&file).read_to_end(&mut text).is_err() {
        return EnvironmentRead::Changing;
    }
    // The file shows the memory that the process had when it was opened, and ends early once that
    // is gone, because the process executes another program. That its first byte can still be read
    // proves that nothing was cut off; without a byte before, the memory has just got it.
    if matches!(file.read_at(&mut [0], 0), Ok(1)) {
        return if text.is_empty() { EnvironmentRead::Changing } else { EnvironmentRead::Whole(text) };
    }
    let line = std::fs::read(format!("{folder}/stat")).unwrap_or_default();
    let stat = Stat::parse(&String::from_utf8_lossy(&line));
    match stat.is_some_and(|stat| stat.has_empty_environment()) {
        true => EnvironmentRead::Whole(Vec::new()),
        false => EnvironmentRead::Changing,
    }
}

/// The id of this process.
pub(crate) fn own_id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

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
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_has_not() {
        let own = Stat::of(own_id()).expect("this process");
        assert!(own.threads >= 2, "the harness has a thread for each test: {own:?}");
        assert!(!Stat { state: 'Z', ..own }.has_ended());
        assert!(Stat { state: 'Z', threads: 1, ..own }.has_ended());
    }

    #[test]
    fn an_environment_is_whole_or_it_changes() {
        let own = Stat::of(own_id()).expect("this process");
        assert!(!own.has_empty_environment() && own.environment.is_some_and(|(start, end)| start < end));
        let with = |environment| Stat { environment, ..own }.has_empty_environment();
        assert!(!Stat { environment: Some((4096, 4096)), code: 0, ..own }.has_empty_environment());
        assert!(with(Some((4096, 4096))) && !with(Some((0, 0))) && !with(Some((4096, 0))) && !with(None));

        // More than one page, so that it is read in pieces.
        let long = "x".repeat(10_000);
        for (value, expected) in [(Some(&long), format!("A={long}\0")), (None, String::new())] {
            let mut command = Command::new("/bin/cat");
            command.arg0("cat").env_clear().envs(value.map(|value| ("A", value)));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat starts");
            let pid = i32::try_from(child.id()).expect("a process id");
            // The child may still execute the program.
            let mut reads = std::iter::repeat_with(|| environment(pid));
            let read = reads.find(|read| *read != EnvironmentRead::Changing);
            assert_eq!(read, Some(EnvironmentRead::Whole(expected.into_bytes())));
            drop(child.stdin.take());
            // It has no memory any more, and is not reaped.
            while !Stat::of(pid).expect("not reaped").has_ended() {
                std::thread::yield_now();
            }
            assert_eq!(environment(pid), EnvironmentRead::Changing);
            child.wait().expect("a child");
        }
    }

    #[test]
    fn a_process_that_executes_one_program_after_the_other_keeps_its_variable() {
        let script = r#"test $1 = 0 || exec sh -c "$0" "$0" $(($1-1))"#;
        let mut child = Command::new("sh")
            .args(["-c", script, script, "300"])
            .env_clear()
            .env("A", "b".repeat(1000))
            .env("Z", "last")
            .spawn()
            .expect("sh starts");
        let pid = i32::try_from(child.id()).expect("a process id");
        let mut whole = 0;
        while !Stat::of(pid).expect("not reaped").has_ended() {
            if let EnvironmentRead::Whole(text) = environment(pid) {
                whole += 1;
                assert!(
                    text.windows(7).any(|part| part == b"Z=last\0"),
                    "{:?}",
                    String::from_utf8_lossy(&text)
                );
            }
        }
        assert!(child.wait().expect("a child").success() && whole > 0);
    }
}
