//! The root of a full jail: what of the system's files is in it, and how it is mounted.
//!
//! A house is built once for a forker. A room is a copy of its mounts for one connection, with a
//! `/proc` and a `/tmp` of its own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use tine_sys::namespaces::{MountRights, restrict_mount};

use super::mounts::{
    KindOfMount, add_lines, attach, copy_tree, cover, inside, make_directory, make_link, mount_new,
};
use super::path_view::{BindPath, PathView};
use super::step::step;
use super::temporary::{
    RoomMount, TEMPORARY, TemporaryFileSystem, in_order, is_bound, make_mounts, room_mounts,
};

/// What programs of most kinds need, where it exists.
const SYSTEM: [&str; 9] =
    ["/bin", "/etc", "/gnu/store", "/lib", "/lib32", "/lib64", "/nix/store", "/sbin", "/usr"];

/// Devices without a state that could be shared.
const DEVICES: [&str; 6] = ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];

/// Links of the root.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/shm", "/tmp"),
];

/// The names of hosts (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// Another name of `/tmp`, unless something else is there.
const VAR_TMP: &str = "/var/tmp";

/// What is not taken from another root: the jail has its own.
const OWN: [&str; 3] = ["dev", "proc", "tmp"];

/// Directories of which one is covered while the root is built.
const SITES: [&str; 3] = ["/tmp", "/run", "/proc"];

/// A path of the system in the jail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bind {
    /// Where it is in the jail.
    path: PathBuf,
    source: PathBuf,
    rights: BindRights,
}

impl Bind {
    /// Mounts a copy of the source, with its rights.
    fn attach(&self, tree: &OwnedFd) -> io::Result<()> {
        attach(tree, &self.path)?;
        let rights = match self.rights {
            BindRights::ReadOnly => MountRights::ReadOnly,
            BindRights::ReadWrite => MountRights::ReadWrite,
            BindRights::Device => MountRights::ReadOnlyDevices,
        };
        restrict_mount(inside(&self.path), rights, self.rights != BindRights::Device)
            .map_err(|why| step(format_args!("mount_setattr {}", self.path.display()), &why))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BindRights {
    ReadOnly,
    ReadWrite,
    Device,
}

/// What a house is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct House {
    /// Directories before what is in them.
    binds: Vec<Bind>,
    /// Links of the system at the top, as `/bin` is one to `usr/bin` on many.
    links: Vec<(PathBuf, PathBuf)>,
    inaccessible: Vec<PathBuf>,
    has_terminals: bool,
    /// What each room has of its own, `/tmp` first.
    temporary: Vec<TemporaryFileSystem>,
    /// Lines that `/etc/hosts` has in addition.
    hosts: String,
}

/// What is asked of a house beside the system's files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HousePaths<'a> {
    /// What is executed.
    pub(crate) program: Option<&'a Path>,
    /// The working directory.
    pub(crate) directory: Option<&'a Path>,
    /// The directory that has the system's files instead of the system.
    pub(crate) root: Option<&'a Path>,
    pub(crate) read_only: &'a [BindPath],
    pub(crate) read_write: &'a [BindPath],
    pub(crate) inaccessible: &'a [PathBuf],
    /// Whether programs get terminals.
    pub(crate) has_terminals: bool,
    /// What each room has of its own, `/tmp` first.
    pub(crate) temporary: &'a [TemporaryFileSystem],
    /// Lines that `/etc/hosts` has in addition.
    pub(crate) hosts: &'a str,
}

impl House {
    /// Decides what is in it.
    ///
    /// # Errors
    /// A path that was named does not exist; the text names it.
    pub(crate) fn new(paths: &HousePaths) -> io::Result<House> {
        let is_bound = |path: &Path| {
            let mut binds = paths.read_only.iter().chain(paths.read_write);
            binds.any(|bind| bind.at == path)
        };
        // What was named for `/tmp` is instead of it.
        let temporary = paths.temporary.iter().filter(|own| !is_bound(&own.path)).cloned().collect();
        let (has_terminals, hosts) = (paths.has_terminals, paths.hosts.to_owned());
        let mut house = House { has_terminals, temporary, hosts, ..House::default() };
        match paths.root {
            Some(root) => house.bind_root(&named(root)?)?,
            None => house.bind_system(paths)?,
        }
        for path in DEVICES.map(PathBuf::from).into_iter().filter(|path| path.exists()) {
            house.bind(path.clone(), path, BindRights::Device);
        }
        for (list, rights) in
            [(paths.read_only, BindRights::ReadOnly), (paths.read_write, BindRights::ReadWrite)]
        {
            for BindPath { source, at } in list {
                let source_path = named(source)?;
                let at = if source == at { source_path.clone() } else { at.clone() };
                house.bind(at, source_path, rights);
            }
        }
        for path in paths.inaccessible {
            // With another root, it is a path in there, and need not exist.
            house.inaccessible.push(if paths.root.is_some() { path.clone() } else { named(path)? });
        }
        house.binds.sort();
        house.check_places(paths)?;
        Ok(house)
    }

    /// Takes the system's programs, and this one.
    fn bind_system(&mut self, paths: &HousePaths) -> io::Result<()> {
        for path in SYSTEM.map(PathBuf::from) {
            self.bind_or_link(path.clone(), path);
        }
        let is_bound = |path: &Path| {
            let binds = paths.read_only.iter().chain(paths.read_write);
            binds.into_iter().any(|bind| path.starts_with(&bind.at))
        };
        let is_own = |path: &Path| self.temporary.iter().any(|own| own.path == path);
        let directory = paths.directory.filter(|path| !is_own(path));
        for path in paths.program.into_iter().chain(directory).filter(|path| !is_bound(path)) {
            let path = named(path)?;
            // The root as a working directory is that of the jail.
            if !self.has(&path) && path != Path::new("/") {
                self.bind(path.clone(), path, BindRights::ReadOnly);
            }
        }
        Ok(())
    }

    /// Refuses a file system in memory that would be mounted in a bind, where no directory is.
    fn check_places(&self, paths: &HousePaths) -> io::Result<()> {
        let binds = paths.read_only.iter().chain(paths.read_write).cloned().collect();
        let view = PathView { root: paths.root.map(Path::to_owned), binds, ..PathView::default() };
        let paths = self.temporary.iter().map(|own| own.path.as_path());
        for path in paths.filter(|path| self.is_in_bind(path)) {
            let found = fs::metadata(view.outside(path).path).map_err(|why| step(path.display(), &why))?;
            if !found.is_dir() {
                return Err(step(path.display(), &Errno::NOTDIR.into()));
            }
        }
        Ok(())
    }

    /// Takes what is in a directory.
    fn bind_root(&mut self, root: &Path) -> io::Result<()> {
        let failed = |why: &io::Error| step(root.display(), why);
        for entry in fs::read_dir(root).map_err(|why| failed(&why))? {
            let entry = entry.map_err(|why| failed(&why))?;
            if !OWN.map(Some).contains(&entry.file_name().to_str()) {
                self.bind_or_link(Path::new("/").join(entry.file_name()), entry.path());
            }
        }
        Ok(())
    }

    /// Adds a path to read, or, if it is a link, the link. A path that does not exist is left out.
    fn bind_or_link(&mut self, path: PathBuf, source: PathBuf) {
        match fs::read_link(&source) {
            Ok(target) => self.links.push((path, target)),
            Err(_) if source.exists() => self.bind(path, source, BindRights::ReadOnly),
            Err(_) => {}
        }
    }

    /// Adds a bind. The last one of a path counts.
    fn bind(&mut self, path: PathBuf, source: PathBuf, rights: BindRights) {
        self.binds.retain(|other| other.path != path);
        self.binds.push(Bind { path, source, rights });
    }

    /// Whether a path is in the house, and not hidden in a room.
    fn has(&self, path: &Path) -> bool {
        is_bound(path, self.bind_paths(), self.temporary.iter().map(|own| own.path.as_path()))
    }

    /// Whether what a room has at a path of its own is mounted in a bind.
    fn is_in_bind(&self, path: &Path) -> bool {
        let own = self.temporary.iter().map(|own| own.path.as_path());
        is_bound(path, self.bind_paths(), own.filter(|own| *own != path))
    }

    fn bind_paths(&self) -> impl Iterator<Item = &Path> {
        self.binds.iter().map(|bind| bind.path.as_path())
    }

    /// Its number of paths, for operators.
    pub(super) fn describe(&self) -> String {
        let writable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadWrite).count();
        let readable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadOnly).count();
        let own =
            |own: &TemporaryFileSystem| format!(" a {} of {} KiB", own.path.display(), own.size() >> 10);
        let own = self.temporary.iter().map(own).collect::<Vec<_>>().join(",");
        format!("{readable} paths to read, {writable} to write, and{own}")
    }

    /// Whether a directory of the jail can be written.
    pub(super) fn may_write(&self, directory: &Path) -> bool {
        let writable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadWrite);
        let temporary = self.temporary.iter().map(|own| own.path.as_path());
        // A link to `/tmp`, unless the system's one was named.
        let mut temporary = temporary.chain([Path::new(VAR_TMP)]);
        temporary.any(|path| directory.starts_with(path))
            || writable.into_iter().any(|bind| directory.starts_with(&bind.path))
    }

    /// Builds it, and makes it the root of this process, which is in a mount namespace of its own.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(crate) fn build(&self) -> io::Result<()> {
        // What is mounted here is seen here only.
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private).map_err(|why| step("private mounts", &why.into()))?;
        // Opened before the site of the new root covers some of them.
        let trees: Vec<OwnedFd> =
            self.binds.iter().map(|bind| copy_tree(&bind.source)).collect::<Result<_, _>>()?;
        let proc = copy_tree(Path::new("/proc"))?;
        let site = SITES.map(Path::new).into_iter().find(|site| site.is_dir()).unwrap_or(Path::new("/"));
        mount_new("tmpfs", site, MountFlags::NOSUID, "size=1m,mode=755")?;
        std::env::set_current_dir(site).map_err(|why| step(site.display(), &why))?;
        // Before anything is in it: links in it lead nowhere else.
        rustix::process::pivot_root(".", ".").map_err(|why| step("pivot_root", &why.into()))?;
        unmount(".", UnmountFlags::DETACH).map_err(|why| step("umount of the old root", &why.into()))?;
        std::env::set_current_dir("/").map_err(|why| step("/", &why))?;
        for (link, target) in &self.links {
            make_link(link, target)?;
        }
        self.attach_binds(&trees)?;
        // The kernel mounts a /proc where it sees another one that hides nothing.
        attach(&proc, Path::new("/proc"))?;
        self.furnish_root()?;
        if !self.hosts.is_empty() {
            add_lines(Path::new(HOSTS), &self.hosts)?;
        }
        self.inaccessible.iter().try_for_each(|path| cover(path))?;
        restrict_mount(Path::new("/"), MountRights::ReadOnly, false)
            .map_err(|why| step("mount_setattr /", &why))
    }

    /// Mounts the copies of the binds, and makes the places of what each room has of its own.
    fn attach_binds(&self, trees: &[OwnedFd]) -> io::Result<()> {
        let mut left = self.binds.iter().zip(trees);
        for mount in in_order(&self.temporary, self.bind_paths()) {
            match mount {
                RoomMount::Temporary(own) => own.make_place(self.is_in_bind(&own.path))?,
                RoomMount::Bind(_) => left.next().map_or(Ok(()), |(bind, tree)| bind.attach(tree))?,
            }
        }
        Ok(())
    }

    /// Makes the rest of the root.
    fn furnish_root(&self) -> io::Result<()> {
        for (link, target) in LINKS {
            make_link(Path::new(link), Path::new(target))?;
        }
        if self.has_terminals {
            make_directory(Path::new("/dev/pts"), 0o755)?;
            make_link(Path::new("/dev/ptmx"), Path::new("pts/ptmx"))?;
        }
        make_directory(Path::new(TEMPORARY), 0o1777)?;
        make_directory(Path::new("/run"), 0o755)?;
        // A bind may be there, or a file system of the room.
        let var_tmp = Path::new(VAR_TMP);
        match inside(var_tmp).exists() || self.temporary.iter().any(|own| own.path == var_tmp) {
            true => Ok(()),
            false => make_link(var_tmp, Path::new(TEMPORARY)),
        }
    }

    /// The file systems that each room has of its own, for a copy that mounts them itself; `None`
    /// if one is below another, or has a path of the system in it.
    pub(super) fn own_mounts(&self) -> Option<Vec<KindOfMount>> {
        let mounts = room_mounts(&self.temporary, self.bind_paths());
        let own = mounts.iter().map(|mount| match mount {
            RoomMount::Temporary(own) if !self.is_below_another(own) => Some(own.to_mount()),
            _ => None,
        });
        own.collect()
    }

    fn is_below_another(&self, own: &TemporaryFileSystem) -> bool {
        let mut others = self.temporary.iter().filter(|other| other.path != own.path);
        others.any(|other| own.path.starts_with(&other.path))
    }

    /// Furnishes a room but for its `/proc`, in a mount namespace of its own.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(crate) fn furnish_room(&self) -> io::Result<()> {
        std::env::set_current_dir("/").map_err(|why| step("/", &why))?;
        make_mounts(&room_mounts(&self.temporary, self.bind_paths()))?;
        match self.has_terminals {
            true => mount_new(
                "devpts",
                Path::new("/dev/pts"),
                MountFlags::NOSUID | MountFlags::NOEXEC,
                "ptmxmode=0666,mode=0600",
            ),
            false => Ok(()),
        }
    }
}

/// Mounts the `/proc` of a room, in a process of its pid namespace.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn mount_proc() -> io::Result<()> {
    mount_new("proc", Path::new("/proc"), OF_PROC, PROC_OPTIONS)
}

const OF_PROC: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const PROC_OPTIONS: &str = "hidepid=invisible,subset=pid";

/// The same, for a copy that mounts it itself.
pub(super) fn proc_mount() -> KindOfMount {
    let (path, options) = (PathBuf::from("/proc"), PROC_OPTIONS.to_owned());
    KindOfMount { kind: "proc", path, flags: OF_PROC.bits().into(), options }
}

/// A path that was named, as the mounts have it.
fn named(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).map_err(|why| step(path.display(), &why))
}

#[cfg(test)]
mod tests;
