//! File systems in memory that each connection in a full jail has of its own: `/tmp`, and those
//! that were named.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::mounts::{KindOfMount, attach, copy_tree, make_directory, mount_new};
use super::path_view::depth;

/// Where programs keep what nobody needs after them. Every full jail has it.
pub(super) const TEMPORARY: &str = "/tmp";

/// The size in bytes, unless another is set.
const DEFAULT_SIZE: u64 = 16 << 20;

/// The bytes for each file that it can have.
const BYTES_PER_FILE: u64 = 16 << 10;

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// A file system in memory, which is empty when its connection begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TemporaryFileSystem {
    /// Where it is in the jail.
    pub(crate) path: PathBuf,
    /// Its size in bytes, if it is set.
    pub(crate) size: Option<u64>,
}

impl TemporaryFileSystem {
    /// The `/tmp` of a jail.
    pub(crate) fn tmp(size: Option<u64>) -> TemporaryFileSystem {
        TemporaryFileSystem { path: TEMPORARY.into(), size }
    }

    pub(super) fn size(&self) -> u64 {
        self.size.unwrap_or(DEFAULT_SIZE)
    }

    /// Makes the place where it is mounted, in the root of this process. In a bind, something in
    /// its stead has the places of what is mounted in it.
    pub(super) fn make_place(&self, is_in_bind: bool) -> io::Result<()> {
        make_directory(&self.path, 0o755)?;
        match is_in_bind {
            true => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                mount_new("tmpfs", &self.path, flags, "size=1m,mode=755")
            }
            false => Ok(()),
        }
    }

    /// Mounts it, in a mount namespace of the connection.
    fn mount(&self) -> io::Result<()> {
        if self.path != Path::new(TEMPORARY) {
            // It may be in another one.
            make_directory(&self.path, 0o755)?;
        }
        mount_new("tmpfs", &self.path, FLAGS, &self.options())
    }

    fn options(&self) -> String {
        let size = self.size();
        let files = size.div_ceil(BYTES_PER_FILE).max(16);
        format!("size={size},nr_inodes={files},mode=1777")
    }

    /// It, for a copy that mounts it itself.
    pub(super) fn to_mount(&self) -> KindOfMount {
        let (path, options) = (self.path.clone(), self.options());
        KindOfMount { kind: "tmpfs", path, flags: FLAGS.bits().into(), options }
    }
}

/// A mount of a house, or of its rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomMount<'a> {
    Temporary(&'a TemporaryFileSystem),
    /// A path of the system.
    Bind(&'a Path),
}

impl<'a> RoomMount<'a> {
    fn path(&self) -> &'a Path {
        match self {
            RoomMount::Temporary(own) => &own.path,
            RoomMount::Bind(path) => path,
        }
    }
}

/// These in the order in which they are mounted: what is at a path before what is below it.
pub(super) fn in_order<'a>(
    temporary: &'a [TemporaryFileSystem],
    binds: impl Iterator<Item = &'a Path>,
) -> Vec<RoomMount<'a>> {
    let mut mounts: Vec<RoomMount> = binds.map(RoomMount::Bind).collect();
    mounts.extend(temporary.iter().map(RoomMount::Temporary));
    mounts.sort_by_key(RoomMount::path);
    mounts
}

/// The mounts of a room, in their order.
pub(super) fn room_mounts<'a>(
    temporary: &'a [TemporaryFileSystem],
    binds: impl Iterator<Item = &'a Path>,
) -> Vec<RoomMount<'a>> {
    let is_below = |path: &Path, own: &Path| path != own && path.starts_with(own);
    let is_covered = |path: &Path| temporary.iter().any(|own| is_below(path, &own.path));
    in_order(temporary, binds.filter(|path| is_covered(path)))
}

/// Whether a path is of a bind, which no file system in memory hides.
pub(super) fn is_bound<'a>(
    path: &Path,
    binds: impl Iterator<Item = &'a Path>,
    temporary: impl Iterator<Item = &'a Path>,
) -> bool {
    depth(path, binds) > depth(path, temporary)
}

/// Makes the mounts of a room, in a mount namespace of the connection.
///
/// # Errors
/// The kernel refuses a step; the text names it.
pub(super) fn make_mounts(mounts: &[RoomMount]) -> io::Result<()> {
    let copied = |mount: &RoomMount| match mount {
        RoomMount::Temporary(_) => Ok(None),
        RoomMount::Bind(path) => copy_tree(path).map(Some),
    };
    // All of them before a file system covers one.
    let trees: Vec<Option<OwnedFd>> = mounts.iter().map(copied).collect::<io::Result<_>>()?;
    mounts.iter().zip(&trees).try_for_each(|(mount, tree)| match mount {
        RoomMount::Temporary(own) => own.mount(),
        RoomMount::Bind(path) => tree.as_ref().map_or(Ok(()), |tree| attach(tree, path)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> TemporaryFileSystem {
        TemporaryFileSystem { path: path.into(), size: None }
    }

    #[test]
    fn a_room_mounts_what_is_above_first_and_binds_that_are_covered_again() {
        let temporary = [at("/tmp"), at("/srv/a/b"), at("/srv"), at("/home")];
        let binds = ["/etc", "/srv", "/srv/a", "/srv/a/b/c", "/srvice", "/tmp/x"].map(Path::new);
        let mounts = room_mounts(&temporary, binds.into_iter());
        let shown: Vec<String> = mounts
            .iter()
            .map(|mount| match mount {
                RoomMount::Temporary(own) => format!("new {}", own.path.display()),
                RoomMount::Bind(path) => format!("bind {}", path.display()),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "new /home",
                "new /srv",
                "bind /srv/a",
                "new /srv/a/b",
                "bind /srv/a/b/c",
                "new /tmp",
                "bind /tmp/x"
            ]
        );
    }

    #[test]
    fn a_path_is_of_the_last_mount_above_it() {
        let temporary = || ["/tmp", "/usr/share/", "/srv"].map(Path::new).into_iter();
        let binds = || ["/usr", "/srv", "/srv/app"].map(Path::new).into_iter();
        for (path, expected) in [
            ("/usr/bin/env", true),
            ("/usr/share", false),
            ("/usr/share/doc", false),
            ("/usr/shared", true),
            ("/srv", false),
            ("/srv/app/run", true),
            ("/srv/other", false),
            ("/tmp", false),
            ("/home", false),
        ] {
            assert_eq!(is_bound(Path::new(path), binds(), temporary()), expected, "{path}");
        }
    }
}
