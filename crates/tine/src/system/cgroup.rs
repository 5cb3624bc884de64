//! The cgroup of a connection: its processes, and what has happened in it (cgroups(7)).

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use tine_sys::exec::CgroupEntry;

use crate::lifecycle::timing::KILL_WAIT;

/// The processes of a cgroup; who writes a number there moves that process.
pub(super) const MEMBERS: &str = "cgroup.procs";

/// What has happened in a cgroup of version 2.
const EVENTS: &str = "cgroup.events";

/// The cgroup of a connection in each hierarchy.
#[derive(Debug)]
pub(crate) struct Cgroup(pub(super) Vec<PathBuf>);

impl Cgroup {
    /// The files with which a process enters.
    pub(crate) fn entry(&self) -> CgroupEntry {
        // A path that the kernel accepted has no zero byte.
        let path = |path: PathBuf| CString::new(path.into_os_string().into_vec()).unwrap_or_default();
        CgroupEntry(self.0.iter().map(|directory| path(directory.join(MEMBERS))).collect())
    }

    fn first(&self) -> &Path {
        self.0.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The processes in it, and in cgroups below it.
    pub(crate) fn members(&self) -> BTreeSet<i32> {
        members_of(self.first())
    }

    /// Whether there is a process in it. A cgroup that does not exist has none.
    pub(crate) fn is_populated(&self) -> bool {
        match std::fs::read_to_string(self.first().join(EVENTS)) {
            Ok(events) => events.lines().any(|line| line == "populated 1"),
            // Version 1 has no such file.
            Err(_) => !self.members().is_empty(),
        }
    }

    /// Whether something of the last connection is still in it: a process, or the memory of a
    /// `/tmp` that the kernel has not freed yet.
    pub(crate) fn is_in_use(&self) -> bool {
        let has_files = |directory: &PathBuf| {
            let stat = std::fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
            stat.lines().any(|line| line.strip_prefix("shmem ").is_some_and(|bytes| bytes != "0"))
        };
        self.is_populated() || self.0.iter().any(has_files)
    }

    /// Kills every process in it at once, so that none can escape by fork (`cgroup.kill` of version
    /// 2, since Linux 5.14).
    pub(crate) fn kill(&self) {
        if std::fs::write(self.first().join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // An older kernel, or a cgroup that does not exist. What could not be signalled is
        // accounted for when the server stops.
        let _ = crate::system::descendants::signal(&self.members(), &[rustix::process::Signal::KILL]);
    }

    /// Removes it if there is no process in it. Whether it is removed.
    pub(crate) fn remove(&self) -> bool {
        !self.is_populated() && self.0.iter().filter(|directory| !remove(directory)).count() == 0
    }

    /// How often the kernel has enforced its limits.
    pub(crate) fn limit_events(&self) -> LimitEvents {
        let count = |files: &[(&str, &str)]| {
            let read = |directory: &PathBuf| {
                files.iter().find_map(|(file, key)| {
                    let text = std::fs::read_to_string(directory.join(file)).ok()?;
                    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
                    line.trim().parse::<u64>().ok()
                })
            };
            self.0.iter().find_map(read).unwrap_or(0)
        };
        LimitEvents {
            memory: count(&[("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")]),
            tasks: count(&[("pids.events", "max")]),
        }
    }

    /// Kills every process in it, and removes it when they have exited.
    pub(super) fn end(&self) {
        let deadline = std::time::Instant::now() + KILL_WAIT;
        self.kill();
        // A process that cannot die, or that entered just now, keeps the cgroup; the next server
        // removes it.
        while self.is_populated() && std::time::Instant::now() < deadline {
            let _ = self.wait_for_exit(deadline);
            self.kill();
        }
        self.0.iter().for_each(|directory| _ = remove(directory));
    }

    /// Waits until a process of it has exited.
    fn wait_for_exit(&self, deadline: std::time::Instant) -> io::Result<()> {
        let pid = self.members().into_iter().find_map(rustix::process::Pid::from_raw);
        let Some(pid) = pid else { return Ok(()) };
        let exits = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        tine_sys::wait::until(&mut [PollFd::new(&exits, PollFlags::IN)], Some(deadline))?;
        Ok(())
    }
}

/// How often the kernel has enforced the limits of a cgroup since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitEvents {
    /// Processes that were killed because the cgroup had no memory left.
    pub(crate) memory: u64,
    /// Processes that could not be made.
    pub(crate) tasks: u64,
}

fn members_of(directory: &Path) -> BTreeSet<i32> {
    let own = std::fs::read_to_string(directory.join(MEMBERS)).unwrap_or_default();
    let mut members: BTreeSet<i32> = own.lines().filter_map(|pid| pid.parse().ok()).collect();
    directories(directory).for_each(|below| members.extend(members_of(&below)));
    members
}

pub(super) fn directories(of: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Removes a cgroup and those below it, the innermost first. Whether it is removed.
pub(super) fn remove(path: &Path) -> bool {
    directories(path).for_each(|below| {
        remove(&below);
    });
    match std::fs::remove_dir(path) {
        Ok(()) => true,
        Err(why) => why.kind() == io::ErrorKind::NotFound,
    }
}
