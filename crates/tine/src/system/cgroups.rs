//! Cgroups, one for each slot of the board (cgroups(7)): every process that a program starts stays
//! in its cgroup, even in a session of its own, and what they use together is limited.
//!
//! The server creates the cgroup `tine.PID` in each hierarchy that it needs. A forker creates in it
//! one for each slot, `slot-7`, at the slot's first connection. Later connections of the slot use
//! the same cgroup, so that its creation costs nothing, unless processes of the last connection
//! still run in it: then the slot gets a new one, `slot-7.1`. Processes enter the cgroup before
//! they execute the program, with the privileges of the server; without those they cannot leave it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::cgroup::{Cgroup, MEMBERS, directories, remove};

use crate::error::{Error, ErrorKind, reason};
use crate::jail::controllers::CgroupTree;
use crate::jail::resources::{CgroupController, CgroupSetting, CgroupVersion};
use crate::system::procfs::{Stat, own_id};

/// The cgroup of the forkers.
const FORKERS: &str = "forkers";

/// The cgroup that the server moves to, where controllers need it.
const SERVER: &str = "tine.server";

/// The type of a cgroup file system (statfs(2), `CGROUP2_SUPER_MAGIC`).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

const HINT: &str =
    "choose a cgroup v2 directory that the server may write, as systemd delegates one (Delegate=yes)";

/// The next move where no cgroup can be created in a cgroup v2 directory: mkdir(2), cgroups(7).
pub(crate) fn next_of_creation(why: &io::Error) -> &'static str {
    match why.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => "raise cgroup.max.descendants or cgroup.max.depth of the directories above it",
        Some(Errno::ROFS) => "mount the cgroup file system so that it can be written, or use no cgroups",
        Some(Errno::NOSPC | Errno::NOMEM) => "remove cgroups that are not used, or free memory",
        _ => HINT,
    }
}

/// The cgroups of a server, one in each hierarchy. Processes are searched for in the first one.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    trees: Vec<Tree>,
    /// Slots, with their generations, whose cgroups this process has made.
    made: HashSet<(usize, u64)>,
}

/// The cgroup of a server in one hierarchy.
#[derive(Clone, Debug)]
struct Tree {
    root: PathBuf,
    settings: Vec<CgroupSetting>,
}

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
    /// Creates the cgroup of the server in these hierarchies. Kills the processes in cgroups that
    /// killed servers left behind, and removes these. `owner`: the user and group of the forkers,
    /// where these have not the server's privileges.
    pub(crate) fn make(trees: &[CgroupTree], owner: Option<(u32, u32)>) -> Result<Option<Cgroups>, Error> {
        let made: Result<Vec<Tree>, Error> = trees.iter().map(|tree| Tree::make(tree, owner)).collect();
        let trees = made?;
        Ok((!trees.is_empty()).then(|| Cgroups { trees, made: HashSet::new() }))
    }

    /// The cgroup of a slot. The generation counts the cgroups of the slot that could not be used
    /// again.
    pub(crate) fn of(&self, slot: usize, generation: u64) -> Cgroup {
        let name = match generation {
            0 => format!("slot-{slot}"),
            _ => format!("slot-{slot}.{generation}"),
        };
        Cgroup(self.trees.iter().map(|tree| tree.root.join(&name)).collect())
    }

    /// Creates the cgroup of a slot with its limits, unless this process has done so. Without a
    /// limit there is no cgroup: a process that is to enter it cannot.
    ///
    /// # Errors
    /// It cannot be created, or a limit cannot be set.
    pub(crate) fn prepare(&mut self, slot: usize, generation: u64) -> io::Result<()> {
        if self.made.contains(&(slot, generation)) {
            return Ok(());
        }
        let cgroup = self.of(slot, generation);
        let mut directories = cgroup.0.iter().zip(&self.trees);
        let made = directories.try_for_each(|(directory, tree)| tree.make_cgroup(directory));
        match made {
            Ok(()) => _ = self.made.insert((slot, generation)),
            Err(_) => _ = cgroup.remove(),
        }
        made
    }

    /// Removes the cgroup of a slot, which this process has made, if no process is in it.
    pub(crate) fn remove(&mut self, slot: usize, generation: u64) {
        if self.of(slot, generation).remove() {
            self.made.remove(&(slot, generation));
        }
    }

    /// Moves this process, a forker that is about to give up its privileges, into a cgroup of the
    /// server: from there, it may move processes into those of connections (`cgroup-v2.rst`,
    /// "Delegation Containment").
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn enter_as_forker(&self) -> io::Result<()> {
        for tree in &self.trees {
            let directory = tree.root.join(FORKERS);
            create(&directory)?;
            std::fs::write(directory.join(MEMBERS), "0")?;
        }
        Ok(())
    }

    /// Kills every process in it, and removes it when they have exited.
    pub(crate) fn end(&self) {
        let all = Cgroup(self.trees.iter().map(|tree| tree.root.clone()).collect());
        all.end();
    }
}

impl Tree {
    fn make(tree: &CgroupTree, owner: Option<(u32, u32)>) -> Result<Tree, Error> {
        let is_stale = |directory: &PathBuf| owner_of(directory).is_some_and(has_exited);
        directories(&tree.parent).filter(is_stale).for_each(|stale| Cgroup(vec![stale]).end());
        let root = tree.parent.join(format!("tine.{}", own_id()));
        let failed = |why: &io::Error| {
            let what = format!("cannot create the cgroup {}", root.display());
            Error::system(what, why, next_of_creation(why))
        };
        std::fs::create_dir(&root).map_err(|why| failed(&why))?;
        let made = Tree { root: root.clone(), settings: tree.settings.clone() };
        let ready = made.delegate(tree, owner);
        ready.map(|()| made).map_err(|why| {
            remove(&root);
            failed(&why)
        })
    }

    /// Has the controllers count for the cgroups in it, and lets the forkers make those.
    fn delegate(&self, tree: &CgroupTree, owner: Option<(u32, u32)>) -> io::Result<()> {
        if tree.version == CgroupVersion::Two {
            for directory in [&tree.parent, &self.root] {
                enable(directory, &tree.controllers)?;
            }
        }
        let Some((uid, gid)) = owner else { return Ok(()) };
        let files = [MEMBERS, "cgroup.subtree_control", "cgroup.threads"].map(|name| self.root.join(name));
        for path in files.iter().chain([&self.root]).filter(|path| path.exists()) {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Creates the cgroup of a connection, and sets its limits.
    fn make_cgroup(&self, directory: &Path) -> io::Result<()> {
        create(directory)?;
        for CgroupSetting { file, value, is_optional } in &self.settings {
            match std::fs::write(directory.join(file), value) {
                Err(why) if !is_optional => return Err(why),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Has controllers count for the cgroups in a directory of version 2.
fn enable(directory: &Path, controllers: &[CgroupController]) -> io::Result<()> {
    let path = directory.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&path).unwrap_or_default();
    let is_missing = |name: &&str| !enabled.split_whitespace().any(|one| one == *name);
    let missing: Vec<&str> = controllers.iter().map(|one| one.name()).filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text: String = missing.iter().map(|name| format!("+{name} ")).collect();
    std::fs::write(&path, &text).or_else(|why| match Errno::from_io_error(&why) {
        // A cgroup with controllers has no processes of its own, only cgroups.
        Some(Errno::BUSY) => {
            move_server(directory)?;
            std::fs::write(&path, &text)
        }
        _ => Err(why),
    })
}

/// Moves the processes of this server into a cgroup of their own, out of one that it has as a
/// service.
fn move_server(directory: &Path) -> io::Result<()> {
    let leaf = directory.join(SERVER);
    create(&leaf)?;
    let members = std::fs::read_to_string(directory.join(MEMBERS))?;
    for pid in members.lines().filter(|pid| pid.parse().is_ok_and(is_of_this_server)) {
        std::fs::write(leaf.join(MEMBERS), pid)?;
    }
    Ok(())
}

/// Whether a process executes the file of this one, as all processes of a server do before they
/// serve.
fn is_of_this_server(pid: i32) -> bool {
    let file = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    file(&pid.to_string()).is_some_and(|other| Some(other) == file("self"))
}

fn create(directory: &Path) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The process id of the server that a cgroup belongs to, from its name.
fn owner_of(directory: &Path) -> Option<i32> {
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
        let tree = |root: &str| Tree { root: root.into(), settings: Vec::new() };
        let trees = vec![tree("/c/tine.7"), tree("/d/tine.7")];
        let cgroups = Cgroups { trees, made: HashSet::new() };
        assert_eq!(cgroups.of(3, 0).0, ["/c/tine.7/slot-3", "/d/tine.7/slot-3"].map(PathBuf::from));
        assert_eq!(cgroups.of(3, 2).0[0], Path::new("/c/tine.7/slot-3.2"));
        let entry = cgroups.of(0, 0).entry();
        assert_eq!(entry.0[1].to_str(), Ok("/d/tine.7/slot-0/cgroup.procs"));
        for (name, server) in [("tine.7", Some(7)), ("tine.x", None), ("user.7", None)] {
            assert_eq!(owner_of(&Path::new("/c").join(name)), server, "{name}");
        }
        assert!(has_exited(own_id()) && has_exited(i32::MAX) && !has_exited(1));
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_an_error() {
        assert_eq!(check(Path::new("/proc")).map_err(|error| error.exit_code()), Err(100));
        assert_eq!(check(Path::new("/no/such")).map_err(|error| error.exit_code()), Err(100));
    }
}
