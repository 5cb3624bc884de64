//! The root of a full jail: what of the system's files is in it, and how it is mounted.
//!
//! A house is built once for a forker. A room is a copy of its mounts for one connection, with a
//! `/proc` and a `/tmp` of its own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use tine_sys::namespaces::{MountRights, restrict_mount};

use super::mounts::{add_lines, attach, copy_tree, cover, inside, make_directory, make_link, mount_new};
use super::path_view::BindPath;
use super::step::step;

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

/// Where programs keep what nobody needs after them.
const TEMPORARY: &str = "/tmp";

/// Its size in bytes, unless another is set.
const TEMPORARY_SIZE: u64 = 16 << 20;

/// The bytes for each file that it can have.
const BYTES_PER_FILE: u64 = 16 << 10;

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
    /// The size of `/tmp`, if it is set.
    temporary: Option<u64>,
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
    /// The size of `/tmp` in bytes, if it is set.
    pub(crate) temporary: Option<u64>,
    /// Lines that `/etc/hosts` has in addition.
    pub(crate) hosts: &'a str,
}

impl House {
    /// Decides what is in it.
    ///
    /// # Errors
    /// A path that was named does not exist; the text names it.
    pub(crate) fn new(paths: &HousePaths) -> io::Result<House> {
        let mut house = House {
            has_terminals: paths.has_terminals,
            temporary: paths.temporary,
            hosts: paths.hosts.to_owned(),
            ..House::default()
        };
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
        for path in paths.program.into_iter().chain(paths.directory).filter(|path| !is_bound(path)) {
            let path = named(path)?;
            // The root as a working directory is that of the jail.
            if !self.has(&path) && path != Path::new("/") {
                self.bind(path.clone(), path, BindRights::ReadOnly);
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

    /// Whether a path is in the house.
    fn has(&self, path: &Path) -> bool {
        self.binds.iter().any(|bind| path.starts_with(&bind.path))
    }

    /// Its number of paths, for operators.
    pub(super) fn describe(&self) -> String {
        let writable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadWrite).count();
        let readable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadOnly).count();
        let size = self.temporary.unwrap_or(TEMPORARY_SIZE);
        format!("{readable} paths to read, {writable} to write, and a /tmp of {} KiB", size >> 10)
    }

    /// Whether a directory of the jail can be written.
    pub(super) fn may_write(&self, directory: &Path) -> bool {
        let writable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadWrite);
        // A link to it, unless the system's one was named.
        let temporary = [TEMPORARY, "/var/tmp"];
        temporary.iter().any(|path| directory.starts_with(path))
            || writable.into_iter().any(|bind| directory.starts_with(&bind.path))
    }

    /// Binds that a `/tmp` of its own would cover.
    fn in_temporary(&self) -> impl Iterator<Item = &Path> {
        let paths = self.binds.iter().map(|bind| bind.path.as_path());
        paths.filter(|path| path.starts_with(TEMPORARY))
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
        for (link, target) in &self.links {
            make_link(link, target)?;
        }
        for (bind, tree) in self.binds.iter().zip(&trees) {
            attach(tree, &bind.path)?;
            let rights = match bind.rights {
                BindRights::ReadOnly => MountRights::ReadOnly,
                BindRights::ReadWrite => MountRights::ReadWrite,
                BindRights::Device => MountRights::ReadOnlyDevices,
            };
            restrict_mount(inside(&bind.path), rights, bind.rights != BindRights::Device)
                .map_err(|why| step(format_args!("mount_setattr {}", bind.path.display()), &why))?;
        }
        // The kernel mounts a /proc where it sees another one that hides nothing.
        attach(&proc, Path::new("/proc"))?;
        self.furnish_root()?;
        if !self.hosts.is_empty() {
            add_lines(Path::new(HOSTS), &self.hosts)?;
        }
        self.inaccessible.iter().try_for_each(|path| cover(path))?;
        rustix::process::pivot_root(".", ".").map_err(|why| step("pivot_root", &why.into()))?;
        unmount(".", UnmountFlags::DETACH).map_err(|why| step("umount of the old root", &why.into()))?;
        std::env::set_current_dir("/").map_err(|why| step("/", &why))?;
        restrict_mount(Path::new("/"), MountRights::ReadOnly, false)
            .map_err(|why| step("mount_setattr /", &why))
    }

    /// Makes the rest of the root, before it is the root.
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
        // A bind may be there.
        match inside(Path::new("/var/tmp")).exists() {
            true => Ok(()),
            false => make_link(Path::new("/var/tmp"), Path::new(TEMPORARY)),
        }
    }

    /// Furnishes a room, in the first process of a pid namespace in a mount namespace of its own.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(crate) fn furnish_room(&self) -> io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount_new("proc", Path::new("/proc"), flags | MountFlags::NOEXEC, "hidepid=invisible,subset=pid")?;
        let binds: Vec<(&Path, OwnedFd)> =
            self.in_temporary().map(|path| Ok((path, copy_tree(path)?))).collect::<io::Result<_>>()?;
        let size = self.temporary.unwrap_or(TEMPORARY_SIZE);
        let files = size.div_ceil(BYTES_PER_FILE).max(16);
        let options = format!("size={size},nr_inodes={files},mode=1777");
        mount_new("tmpfs", Path::new(TEMPORARY), flags, &options)?;
        std::env::set_current_dir("/").map_err(|why| step("/", &why))?;
        for (path, tree) in binds {
            attach(&tree, path)?;
        }
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

/// A path that was named, as the mounts have it.
fn named(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).map_err(|why| step(path.display(), &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_house_has_the_system_the_program_and_what_was_named() {
        let read_write = [BindPath::same("/var/tmp".into())];
        let read_only = [BindPath::same("/var".into()), BindPath::same("/var/tmp".into())];
        let house = House::new(&HousePaths {
            program: Some(Path::new("/usr/bin/env")),
            directory: Some(Path::new("/")),
            read_only: &read_only,
            read_write: &read_write,
            ..HousePaths::default()
        })
        .expect("paths that exist");
        let rights = |path: &str| {
            let found: Vec<_> = house.binds.iter().filter(|bind| bind.path == Path::new(path)).collect();
            assert!(found.len() <= 1, "{path}");
            found.first().map(|bind| bind.rights)
        };
        assert_eq!(rights("/usr"), Some(BindRights::ReadOnly));
        assert_eq!(rights("/var"), Some(BindRights::ReadOnly));
        assert_eq!(rights("/var/tmp"), Some(BindRights::ReadWrite));
        assert_eq!(rights("/dev/null"), Some(BindRights::Device));
        // Part of another one, or the root.
        assert_eq!((rights("/usr/bin/env"), rights("/")), (None, None));
        assert!(house.may_write(Path::new("/tmp/a")) && house.may_write(Path::new("/var/tmp")));
        assert!(!house.may_write(Path::new("/usr")));
        let paths: Vec<_> = house.binds.iter().map(|bind| &bind.path).collect();
        assert!(paths.is_sorted(), "{paths:?}");
    }

    #[test]
    fn another_root_replaces_the_system() {
        let root = std::env::temp_dir().join(format!("tine-house-{}", std::process::id()));
        for directory in ["app", "dev", "proc", "tmp", "usr/bin"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).expect("a link");
        let read_only = [BindPath { source: "/etc/hosts".into(), at: "/app/hosts".into() }];
        let house = House::new(&HousePaths {
            root: Some(&root),
            program: Some(Path::new("/app/run")),
            read_only: &read_only,
            ..HousePaths::default()
        })
        .expect("it exists");
        let bound = |path: &str| {
            let found = house.binds.iter().find(|bind| bind.path == Path::new(path));
            found.map(|bind| bind.source.clone())
        };
        assert_eq!(bound("/app"), Some(root.join("app")));
        assert_eq!(bound("/usr"), Some(root.join("usr")));
        assert_eq!(bound("/app/hosts"), Some("/etc/hosts".into()));
        assert_eq!((bound("/etc"), bound("/tmp"), bound("/dev"), bound("/proc")), (None, None, None, None));
        assert_eq!(house.links, [("/bin".into(), "usr/bin".into())]);
        fs::remove_dir_all(&root).expect("ours");
    }

    #[test]
    fn a_path_that_does_not_exist_is_named() {
        let missing = [PathBuf::from("/nonexistent/path")];
        let binds = missing.clone().map(BindPath::same);
        for paths in [
            HousePaths { read_only: &binds, ..HousePaths::default() },
            HousePaths { read_write: &binds, ..HousePaths::default() },
            HousePaths { inaccessible: &missing, ..HousePaths::default() },
            HousePaths { program: Some(&missing[0]), ..HousePaths::default() },
            HousePaths { root: Some(&missing[0]), ..HousePaths::default() },
        ] {
            let why = House::new(&paths).expect_err("it does not exist");
            assert_eq!(why.to_string(), "/nonexistent/path: no such file or directory");
        }
    }
}
