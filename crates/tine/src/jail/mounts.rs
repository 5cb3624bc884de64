//! The steps that make a tree of mounts, each with its name in the error.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};
use tine_sys::namespaces::{MountRights, restrict_mount};

use super::step::step;

/// A file system that is mounted, as mount(2) wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KindOfMount {
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) flags: u64,
    pub(crate) options: String,
}

pub(super) fn mount_new(kind: &str, at: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    mount(kind, at, kind, flags, Some(options.as_c_str()))
        .map_err(|why| step(format_args!("mount of {kind} on {}", at.display()), &why.into()))
}

/// A copy of the mounts at a path, which is not mounted yet.
pub(super) fn copy_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(|why| step(format_args!("open_tree {}", path.display()), &why.into()))
}

/// A path in the working directory, which is or becomes the root.
pub(super) fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Mounts a copy at a path of the new root, which is made if it is not there.
pub(super) fn attach(tree: &OwnedFd, path: &Path) -> io::Result<()> {
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
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
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

pub(super) fn make_link(path: &Path, target: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| make_directory(parent, 0o755))?;
    symlink(target, inside(path)).map_err(|why| step(path.display(), &why))
}

/// Covers a file of the new root by a copy with more lines, if it is there and no link.
pub(super) fn add_lines(path: &Path, lines: &str) -> io::Result<()> {
    const COPY: &str = ".lines";
    let at = inside(path);
    if !fs::symlink_metadata(at).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    let failed = |why: &io::Error| step(path.display(), why);
    let mut text = fs::read(at).map_err(|why| failed(&why))?;
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(lines.as_bytes());
    fs::write(COPY, text)
        .and_then(|()| fs::set_permissions(COPY, fs::Permissions::from_mode(0o444)))
        .map_err(|why| failed(&why))?;
    cover_by(Path::new(COPY), path)?;
    fs::remove_file(COPY).map_err(|why| failed(&why))?;
    restrict_mount(at, MountRights::ReadOnly, false)
        .map_err(|why| step(format_args!("mount_setattr {}", path.display()), &why))
}

/// Covers a file of the new root by another one.
fn cover_by(file: &Path, path: &Path) -> io::Result<()> {
    let tree = copy_tree(file)?;
    move_mount(tree.as_fd(), "", CWD, inside(path), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|why| step(format_args!("move_mount {}", path.display()), &why.into()))
}

/// Covers a path of the new root by nothing, if it is there.
pub(super) fn cover(path: &Path) -> io::Result<()> {
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
        cover_by(Path::new(NOTHING), path)
    }
}
