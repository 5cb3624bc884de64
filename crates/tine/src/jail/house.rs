//! The root of a full jail: what of the system's files is in it, and how it is mounted.
//!
//! A house is built once for a forker. A room is a copy of its mounts for one connection, with a
//! `/proc` and a `/tmp` of its own.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};
use tine_sys::namespaces::{MountRights, restrict_mount};

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

/// Where programs keep what nobody needs after them.
const TEMPORARY: &str = "/tmp";

/// Directories of which one is covered while the root is built.
const SITES: [&str; 3] = ["/tmp", "/run", "/proc"];

/// A path of the system in the jail, at the same path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bind {
    path: PathBuf,
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
}

/// What is asked of a house beside the system's files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HousePaths<'a> {
    /// What is executed.
    pub(crate) program: Option<&'a Path>,
    /// The working directory.
    pub(crate) directory: Option<&'a Path>,
    pub(crate) read_only: &'a [PathBuf],
    pub(crate) read_write: &'a [PathBuf],
    pub(crate) inaccessible: &'a [PathBuf],
    /// Whether programs get terminals.
    pub(crate) has_terminals: bool,
}

impl House {
    /// Decides what is in it.
    ///
    /// # Errors
    /// A path that was named does not exist; the text names it.
    pub(crate) fn new(paths: &HousePaths) -> io::Result<House> {
        let mut house = House { has_terminals: paths.has_terminals, ..House::default() };
        for path in SYSTEM.map(PathBuf::from) {
            match fs::read_link(&path) {
                Ok(target) => house.links.push((path, target)),
                Err(_) if path.exists() => house.bind(path, BindRights::ReadOnly),
                Err(_) => {}
            }
        }
        for path in DEVICES.map(PathBuf::from).into_iter().filter(|path| path.exists()) {
            house.bind(path, BindRights::Device);
        }
        let named = |path: &Path| fs::canonicalize(path).map_err(|why| step(path.display(), &why));
        for path in paths.program.into_iter().chain(paths.directory) {
            let path = named(path)?;
            // The root as a working directory is that of the jail.
            if !house.has(&path) && path != Path::new("/") {
                house.bind(path, BindRights::ReadOnly);
            }
        }
        for (list, rights) in
            [(paths.read_only, BindRights::ReadOnly), (paths.read_write, BindRights::ReadWrite)]
        {
            for path in list {
                house.bind(named(path)?, rights);
            }
        }
        for path in paths.inaccessible {
            house.inaccessible.push(named(path)?);
        }
        house.binds.sort();
        Ok(house)
    }

    /// Adds a bind. The last one of a path counts.
    fn bind(&mut self, path: PathBuf, rights: BindRights) {
        self.binds.retain(|other| other.path != path);
        self.binds.push(Bind { path, rights });
    }

    /// Whether a path is in the house.
    fn has(&self, path: &Path) -> bool {
        self.binds.iter().any(|bind| path.starts_with(&bind.path))
    }

    /// Its number of paths, for operators.
    pub(super) fn describe(&self) -> String {
        let writable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadWrite).count();
        let readable = self.binds.iter().filter(|bind| bind.rights == BindRights::ReadOnly).count();
        format!("{readable} paths to read, {writable} to write, and a /tmp of 16 MiB")
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
            self.binds.iter().map(|bind| copy_tree(&bind.path)).collect::<Result<_, _>>()?;
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
        mount_new("tmpfs", Path::new(TEMPORARY), flags, "size=16m,nr_inodes=1024,mode=1777")?;
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

fn mount_new(kind: &str, at: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    mount(kind, at, kind, flags, Some(options.as_c_str()))
        .map_err(|why| step(format_args!("mount of {kind} on {}", at.display()), &why.into()))
}

/// A copy of the mounts at a path, which is not mounted yet.
fn copy_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(|why| step(format_args!("open_tree {}", path.display()), &why.into()))
}

/// A path in the working directory, which is or becomes the root.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Mounts a copy at a path of the new root, which is made if it is not there.
fn attach(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let is_directory = rustix::fs::fstat(tree)
        .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
        .map_err(|why| step(path.display(), &why.into()))?;
    match is_directory {
        true => make_directory(path, 0o755)?,
        false => {
            path.parent().map_or(Ok(()), |parent| make_directory(parent, 0o755))?;
            let at = inside(path);
            if !at.exists() {
                fs::File::create(at).map_err(|why| step(path.display(), &why))?;
            }
        }
    }
    move_mount(tree.as_fd(), "", CWD, inside(path), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|why| step(format_args!("move_mount {}", path.display()), &why.into()))
}

/// Makes a directory of the new root, with those above it. Those that are made above it can be
/// searched by all.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let mut above = PathBuf::new();
    for part in inside(path).components() {
        let Component::Normal(name) = part else { continue };
        above.push(name);
        match fs::DirBuilder::new().mode(0o755).create(&above) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists && !above.is_dir() => {
                return Err(step(path.display(), &why));
            }
            Ok(()) if Path::new("/").join(&above) == path => {
                // Without the umask.
                let permissions = fs::Permissions::from_mode(mode);
                fs::set_permissions(&above, permissions).map_err(|why| step(path.display(), &why))?;
            }
            Ok(()) => {
                let _ = fs::set_permissions(&above, fs::Permissions::from_mode(0o755));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn make_link(path: &Path, target: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| make_directory(parent, 0o755))?;
    symlink(target, inside(path)).map_err(|why| step(path.display(), &why))
}

/// Covers a path of the new root by nothing, if it is there.
fn cover(path: &Path) -> io::Result<()> {
    let at = inside(path);
    let Ok(kind) = fs::symlink_metadata(at) else { return Ok(()) };
    if kind.is_dir() {
        mount_new("tmpfs", at, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY, "size=4k,mode=0")
    } else {
        const NOTHING: &str = ".inaccessible";
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(NOTHING)
            .and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o000)))
            .map_err(|why| step(path.display(), &why))?;
        let tree = copy_tree(Path::new(NOTHING))?;
        move_mount(tree.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|why| step(format_args!("move_mount {}", path.display()), &why.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_house_has_the_system_the_program_and_what_was_named() {
        let read_write = ["/var/tmp".into()];
        let read_only = ["/proc/sys".into(), "/var/tmp".into()];
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
        assert_eq!(rights("/proc/sys"), Some(BindRights::ReadOnly));
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
    fn a_path_that_does_not_exist_is_named() {
        let missing = ["/nonexistent/path".into()];
        for paths in [
            HousePaths { read_only: &missing, ..HousePaths::default() },
            HousePaths { read_write: &missing, ..HousePaths::default() },
            HousePaths { inaccessible: &missing, ..HousePaths::default() },
            HousePaths { program: Some(&missing[0]), ..HousePaths::default() },
        ] {
            let why = House::new(&paths).expect_err("it does not exist");
            assert_eq!(why.to_string(), "/nonexistent/path: no such file or directory");
        }
    }
}
