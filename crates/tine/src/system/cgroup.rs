//! Cgroups, one for each slot of the board (cgroups(7), version 2): every process that a program
//! starts stays in its cgroup, even in a session of its own.
//!
//! The server creates the cgroup `tine.PID` in the configured directory, and in it one for each
//! slot, `slot-7`, at the slot's first connection. Later connections of the slot use the same
//! cgroup, so that its creation costs nothing, unless processes of the last connection still run in
//! it: then the slot gets a new one, `slot-7.1`. Processes enter the cgroup before they execute the
//! program, with the privileges of the server; without those they cannot leave it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use tine_sys::exec::CgroupEntry;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, reason};
use crate::lifecycle::timing::KILL_WAIT;
use crate::system::procfs::{Stat, own_id};

/// The type of a cgroup file system (statfs(2), `CGROUP2_SUPER_MAGIC`).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

const HINT: &str =
    "choose a cgroup v2 directory that the server may write, as systemd delegates one (Delegate=yes)";

/// The next move where no cgroup can be created in a cgroup v2 directory: mkdir(2), cgroups(7).
fn next_of_creation(why: &io::Error) -> &'static str {
    match why.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => "raise cgroup.max.descendants or cgroup.max.depth of the directories above it",
        Some(Errno::ROFS) => "mount the cgroup file system so that it can be written, or use no cgroups",
        Some(Errno::NOSPC | Errno::NOMEM) => "remove cgroups that are not used, or free memory",
        _ => HINT,
    }
}

/// The cgroup of a server.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    root: PathBuf,
}

/// The cgroup of a connection.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

/// Checks that cgroups can be created in a directory.
pub(crate) fn check(directory: &Path) -> Result<(), Error> {
    let shown = directory.display();
    let why = match rustix::fs::statfs(directory) {
        #[allow(clippy::unnecessary_cast, reason = "its type differs between architectures")]
        Ok(found) if found.f_type as i64 == CGROUP2_MAGIC => return Ok(()),
        Ok(_) => "not a cgroup v2 directory".to_owned(),
        Err(why) => reason(&why.into()),
    };
    Err(Error::new(ErrorKind::Cgroup, format_args!("cannot create cgroups in {shown}: {why}"), HINT))
}

impl Cgroups {
    /// Creates the cgroup of the server. Kills the processes in cgroups that killed servers left
    /// behind, and removes these.
    pub(crate) fn make(directory: &Path) -> Result<Cgroups, Error> {
        for stale in directories(directory).filter(|directory| owner(directory).is_some_and(has_exited)) {
            Cgroups { root: stale }.end();
        }
        let root = directory.join(format!("tine.{}", own_id()));
        std::fs::create_dir(&root).map_err(|why| {
            Error::system(
                format_args!("cannot create the cgroup {}", root.display()),
                &why,
                next_of_creation(&why),
            )
        })?;
        Ok(Cgroups { root })
    }

    /// The cgroup of a slot. The generation counts the cgroups of the slot that could not be used
    /// again.
    pub(crate) fn of(&self, slot: usize, generation: u64) -> Cgroup {
        Cgroup(self.root.join(match generation {
            0 => format!("slot-{slot}"),
            _ => format!("slot-{slot}.{generation}"),
        }))
    }

    /// Kills every process in it, and removes it when they have exited.
    pub(crate) fn end(&self) {
        let all = Cgroup(self.root.clone());
        all.kill();
        // A process that cannot die, or that entered just now, keeps the cgroup; the next server
        // removes it.
        let _ = all.wait_until_empty();
        remove(&self.root);
    }
}

impl Cgroup {
    /// The files with which a process enters.
    pub(crate) fn entry(&self) -> CgroupEntry {
        // A path that the kernel accepted has no zero byte.
        let path = |path: PathBuf| CString::new(path.into_os_string().into_vec()).unwrap_or_default();
        CgroupEntry { directory: path(self.0.clone()), members: path(self.0.join("cgroup.procs")) }
    }

    /// The processes in it, and in cgroups below it.
    pub(crate) fn members(&self) -> BTreeSet<i32> {
        let own = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let mut members: BTreeSet<i32> = own.lines().filter_map(|pid| pid.parse().ok()).collect();
        directories(&self.0).for_each(|below| members.extend(Cgroup(below).members()));
        members
    }

    /// Whether there is a process in it. A cgroup that does not exist has none.
    pub(crate) fn is_populated(&self) -> bool {
        let events = std::fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    /// Kills every process in it at once, so that none can escape by fork (`cgroup.kill`, since
    /// Linux 5.14).
    pub(crate) fn kill(&self) {
        if std::fs::write(self.0.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // An older kernel, or a cgroup that does not exist. What could not be signalled is
        // accounted for when the server stops.
        let _ = crate::system::descendants::signal(&self.members(), &[rustix::process::Signal::KILL]);
    }

    /// Removes it if there is no process in it. Whether it is removed.
    pub(crate) fn remove(&self) -> bool {
        !self.is_populated() && remove(&self.0)
    }

    /// Waits until the last process has left: then the kernel marks `cgroup.events` as changed.
    fn wait_until_empty(&self) -> io::Result<()> {
        let events = std::fs::File::open(self.0.join("cgroup.events"))?;
        let deadline = std::time::Instant::now() + KILL_WAIT;
        while self.is_populated() && std::time::Instant::now() < deadline {
            tine_sys::wait::until(&mut [PollFd::new(&events, PollFlags::PRI)], Some(deadline))?;
            // Reading the file clears the mark.
            let _ = rustix::io::pread(&events, &mut [0; 128], 0);
        }
        Ok(())
    }
}

fn directories(of: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Removes a cgroup and those below it, the innermost first. Whether all are removed.
fn remove(path: &Path) -> bool {
    directories(path).for_each(|below| {
        remove(&below);
    });
    match std::fs::remove_dir(path) {
        Ok(()) => true,
        Err(why) => why.kind() == io::ErrorKind::NotFound,
    }
}

/// The process id of the server that a cgroup belongs to, from its name.
fn owner(directory: &Path) -> Option<i32> {
    directory.file_name()?.to_str()?.strip_prefix("tine.")?.parse().ok()
}

/// Whether a server has exited. A cgroup with the id of this process is an old one: this one has
/// none yet.
fn has_exited(server: i32) -> bool {
    let is_missing = || {
        let pid = rustix::process::Pid::from_raw(server);
        pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH))
    };
    server == own_id() || Stat::of(server).map_or_else(is_missing, |stat| stat.has_ended())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_cannot_be_created_has_the_next_move_of_its_cause() {
        for (why, words) in [
            (Errno::AGAIN, "cgroup.max.descendants"),
            (Errno::ROFS, "mount the cgroup file system"),
            (Errno::NOSPC, "remove cgroups"),
            (Errno::NOMEM, "free memory"),
            (Errno::ACCESS, "Delegate=yes"),
            (Errno::PERM, "Delegate=yes"),
            (Errno::NOENT, "Delegate=yes"),
        ] {
            assert!(next_of_creation(&why.into()).contains(words), "{why:?}");
        }
    }

    #[test]
    fn names_of_slots_and_servers() {
        let cgroups = Cgroups { root: "/c/tine.7".into() };
        assert_eq!(cgroups.of(3, 0).0, Path::new("/c/tine.7/slot-3"));
        assert_eq!(cgroups.of(3, 2).0, Path::new("/c/tine.7/slot-3.2"));
        let entry = cgroups.of(0, 0).entry();
        assert_eq!(entry.members.to_str(), Ok("/c/tine.7/slot-0/cgroup.procs"));
        for (name, server) in [("tine.7", Some(7)), ("tine.x", None), ("user.7", None)] {
            assert_eq!(owner(&Path::new("/c").join(name)), server, "{name}");
        }
        assert!(has_exited(own_id()) && has_exited(i32::MAX) && !has_exited(1));
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_an_error() {
        assert_eq!(check(Path::new("/proc")).map_err(|error| error.exit_code()), Err(100));
        assert_eq!(check(Path::new("/no/such")).map_err(|error| error.exit_code()), Err(100));
    }
}
