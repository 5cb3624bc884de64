//! The file of a Unix socket: bound with its mode, owner and group, replaced if no process listens
//! on it, and removed by the process that bound it.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use crate::error::{Error, next_move};
use crate::net::options::FileOptions;

/// The file of a Unix socket that this process bound. Dropping it removes the file, unless another
/// file has replaced it; in a process forked later, dropping it does nothing.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    process: u32,
}

/// No process has this id.
const NO_PROCESS: u32 = 0;

impl SocketFile {
    /// Binds a socket to a path. Until [`SocketFile::apply`], its owner alone has any
    /// permission.
    ///
    /// # Errors
    /// Those of bind(2).
    pub(crate) fn bind(socket: &OwnedFd, path: &Path) -> Result<SocketFile, Errno> {
        let target = SocketAddrUnix::new(path)?;
        // The file gets the mode of the socket (net/unix/af_unix.c, `unix_bind_bsd`).
        rustix::fs::fchmod(socket, Mode::RUSR | Mode::WUSR)?;
        match rustix::net::bind(socket, &target) {
            Err(Errno::ADDRINUSE) if is_abandoned(path) => {
                // Another process may have removed it already.
                let _ = std::fs::remove_file(path);
                rustix::net::bind(socket, &target)?;
            }
            result => result?,
        }
        let file = std::fs::symlink_metadata(path).map_err(|_| Errno::NOENT)?;
        // The working directory can change before the file is removed.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(SocketFile { path, device: file.dev(), inode: file.ino(), process: std::process::id() })
    }

    /// The file of a socket that another process has bound and hands over. It is that process's
    /// until [`SocketFile::take_over`]. `None` if there is no socket at the path any more.
    pub(crate) fn handed(path: &Path) -> Option<SocketFile> {
        let file = std::fs::symlink_metadata(path).ok().filter(|file| file.file_type().is_socket())?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Some(SocketFile { path, device: file.dev(), inode: file.ino(), process: NO_PROCESS })
    }

    /// From now on, this process removes the file.
    pub(crate) fn take_over(&mut self) {
        self.process = std::process::id();
    }

    /// From now on, another process removes the file.
    pub(crate) fn hand_over(&mut self) {
        self.process = NO_PROCESS;
    }

    /// Sets owner, group and mode, whatever the umask is.
    pub(crate) fn apply(&self, options: &FileOptions) -> Result<(), Error> {
        let (uid, gid) = (options.uid.map(Uid::from_raw), options.gid.map(Gid::from_raw));
        if uid.is_some() || gid.is_some() {
            let set = rustix::fs::chownat(CWD, &self.path, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            set.map_err(|why| self.fault("owner and group", why))?;
        }
        let mode = Mode::from_raw_mode(options.mode);
        rustix::fs::chmod(&self.path, mode).map_err(|why| self.fault("mode", why))
    }

    fn fault(&self, what: &str, why: Errno) -> Error {
        let what = format_args!("cannot set the {what} of unix:{}", self.path.display()).to_string();
        Error::system(what, &why.into(), next_of_attributes(why))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let current = std::fs::symlink_metadata(&self.path);
        if std::process::id() == self.process
            && current.is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode))
        {
            // It fails where the file was removed, or where this user may no longer write: both are
            // harmless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The next move after chown(2) or chmod(2) of a socket file.
fn next_of_attributes(why: Errno) -> &'static str {
    match why {
        Errno::PERM | Errno::ACCESS => "start the server as root (CAP_CHOWN), or leave the option out",
        Errno::INVAL => "choose an id that this user namespace has (/proc/self/uid_map, gid_map)",
        Errno::OPNOTSUPP | Errno::NOSYS => "choose a path on a file system that has owners and modes",
        Errno::NOENT => "another process has removed the file: stop it, or choose another path",
        why => next_move::of_file(&why.into()),
    }
}

/// Whether a path is a socket file on which no process listens.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixStream::connect(path).is_err_and(|why| why.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_attributes_have_the_next_move_of_their_cause() {
        for (why, words) in [
            (Errno::PERM, "CAP_CHOWN"),
            (Errno::ACCESS, "CAP_CHOWN"),
            (Errno::INVAL, "uid_map"),
            (Errno::OPNOTSUPP, "owners and modes"),
            (Errno::NOENT, "has removed the file"),
            (Errno::ROFS, "read-only"),
            (Errno::DQUOT, "make room"),
        ] {
            assert!(next_of_attributes(why).contains(words), "{why:?}");
        }
    }
}
