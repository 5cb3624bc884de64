//! Cgroups, one for each place of the board: what a program starts stays in it, in whatever session it
//! hides (cgroups(7), version 2).
//!
//! The server makes a cgroup of its own in the directory that was given to it, `tine.PID`, and in it one for
//! each place, `slot-7`, when it is first needed. The next connection in a place has the same one, so that
//! making it costs nothing, unless something of the last connection lives on in it: then the place gets a
//! new one, `slot-7.1`. Processes enter before they execute, with the server's privileges; without those
//! they cannot leave.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use tine_sys::exec::CgroupEntry;

use crate::error::{Error, reason};
use crate::lifecycle::timing::KILL_WAIT;
use crate::system::procfs::{Stat, own_id};

/// What the kernel says a file system of cgroups is (statfs(2), `CGROUP2_SUPER_MAGIC`).
const CGROUPS: i64 = 0x6367_7270;

const HINT: &str = "name a directory of the cgroup v2 hierarchy that the server may write, as systemd delegates one (Delegate=yes)";

/// The cgroup of a server.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    root: PathBuf,
}

/// The cgroup of a connection.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

/// Refuses a directory in which no cgroup can be made.
pub(crate) fn check(directory: &Path) -> Result<(), Error> {
    let shown = directory.display();
    let why = match rustix::fs::statfs(directory) {
        #[allow(clippy::unnecessary_cast, reason = "its type differs between architectures")]
        Ok(found) if found.f_type as i64 == CGROUPS => return Ok(()),
        Ok(_) => "it is no directory of cgroups".to_owned(),
        Err(why) => reason(&why.into()),
    };
    Err(Error::usage(format_args!("cannot make cgroups in {shown} (--cgroup): {why}"), HINT))
}

impl Cgroups {
    /// Makes the server's cgroup, and ends and removes what servers that were killed have left there.
    pub(crate) fn make(directory: &Path) -> Result<Cgroups, Error> {
        for stale in folders(directory).filter(|folder| owner(folder).is_some_and(is_gone)) {
            Cgroups { root: stale }.end();
        }
        let root = directory.join(format!("tine.{}", own_id()));
        std::fs::create_dir(&root).map_err(|why| {
            Error::system(format_args!("cannot make the cgroup {}", root.display()), &why, HINT)
        })?;
        Ok(Cgroups { root })
    }

    /// That of a place, for the connection that has it now.
    pub(crate) fn of(&self, slot: usize, generation: u64) -> Cgroup {
        Cgroup(self.root.join(match generation {
            0 => format!("slot-{slot}"),
            _ => format!("slot-{slot}.{generation}"),
        }))
    }

    /// Kills everybody in it, and removes it once they have ended.
    pub(crate) fn end(&self) {
        let all = Cgroup(self.root.clone());
        all.kill();
        // Only what never ends, as in the kernel for ever, or one who just came in, could be left; then the
        // next server tries again.
        let _ = all.wait_until_empty();
        remove(&self.root);
    }
}

impl Cgroup {
    /// How a process gets in.
    pub(crate) fn entrance(&self) -> CgroupEntry {
        // Paths of this system have no zero byte in them.
        let path = |path: PathBuf| CString::new(path.into_os_string().into_vec()).unwrap_or_default();
        CgroupEntry { directory: path(self.0.clone()), members: path(self.0.join("cgroup.procs")) }
    }

    /// Who lives in it, also in cgroups that were made inside.
    pub(crate) fn members(&self) -> BTreeSet<i32> {
        let own = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let mut members: BTreeSet<i32> = own.lines().filter_map(|pid| pid.parse().ok()).collect();
        folders(&self.0).for_each(|inside| members.extend(Cgroup(inside).members()));
        members
    }

    /// Whether anybody lives in it. Nobody does in one that was never made.
    pub(crate) fn is_populated(&self) -> bool {
        let events = std::fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    /// Kills everybody in it at once: nobody can fork out of it (`cgroup.kill`, since Linux 5.14).
    pub(crate) fn kill(&self) {
        if std::fs::write(self.0.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // An older kernel, or nobody was ever in it.
        crate::system::descendants::signal(&self.members(), &[rustix::process::Signal::KILL]);
    }

    /// Removes it if nobody is in it; says whether it is gone.
    pub(crate) fn remove(&self) -> bool {
        !self.is_populated() && remove(&self.0)
    }

    /// The kernel marks the file as changed when the last one has gone.
    fn wait_until_empty(&self) -> io::Result<()> {
        let events = std::fs::File::open(self.0.join("cgroup.events"))?;
        let deadline = std::time::Instant::now() + KILL_WAIT;
        while self.is_populated() && std::time::Instant::now() < deadline {
            tine_sys::wait::until(&mut [PollFd::new(&events, PollFlags::PRI)], Some(deadline))?;
            // Reading it is what says that the change has been seen.
            let _ = rustix::io::pread(&events, &mut [0; 128], 0);
        }
        Ok(())
    }
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Removes cgroups, the innermost first. Says whether all are gone.
fn remove(path: &Path) -> bool {
    folders(path).for_each(|inside| {
        remove(&inside);
    });
    match std::fs::remove_dir(path) {
        Ok(()) => true,
        Err(why) => why.kind() == io::ErrorKind::NotFound,
    }
}

/// The server whose cgroup this is, by its name.
fn owner(folder: &Path) -> Option<i32> {
    folder.file_name()?.to_str()?.strip_prefix("tine.")?.parse().ok()
}

/// Whether a server is no more. One with this process's number is not this one: it has made none yet.
fn is_gone(server: i32) -> bool {
    server == own_id() || Stat::of(server).is_none_or(|stat| stat.has_ended())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names_and_servers_are_told_by_theirs() {
        let cgroups = Cgroups { root: "/c/tine.7".into() };
        assert_eq!(cgroups.of(3, 0).0, Path::new("/c/tine.7/slot-3"));
        assert_eq!(cgroups.of(3, 2).0, Path::new("/c/tine.7/slot-3.2"));
        let entrance = cgroups.of(0, 0).entrance();
        assert_eq!(entrance.members.to_str(), Ok("/c/tine.7/slot-0/cgroup.procs"));
        for (name, server) in [("tine.7", Some(7)), ("tine.x", None), ("user.7", None)] {
            assert_eq!(owner(&Path::new("/c").join(name)), server, "{name}");
        }
        assert!(is_gone(own_id()) && is_gone(i32::MAX) && !is_gone(1));
    }

    #[test]
    fn what_is_no_cgroup_is_refused() {
        assert_eq!(check(Path::new("/proc")).map_err(|error| error.exit_code()), Err(100));
        assert_eq!(check(Path::new("/no/such")).map_err(|error| error.exit_code()), Err(100));
    }
}
