//! The Unix socket by which operators watch and steer a server: its path, and the permissions of
//! users.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with};

use crate::error::{Error, next_move};
use crate::net::handed;
use crate::net::operator::{Operator, Rank};
use crate::net::options::FileOptions;
use crate::net::socket_file::SocketFile;

/// Controllers in the backlog, at most.
const BACKLOG: i32 = 64;

/// A controller that was accepted.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) stream: OwnedFd,
    pub(crate) operator: Operator,
    /// Whether it may do anything.
    pub(crate) is_permitted: bool,
}

/// The users with permissions, beside root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permissions {
    /// The user of the server, which may steer.
    owner: u32,
    /// The group that may read.
    group: Option<u32>,
}

impl Permissions {
    /// The rank of a user; `None` if it may do nothing. Ids of another user namespace are those
    /// that they are mapped to in this one (user_namespaces(7)).
    fn of(self, uid: u32, in_group: impl FnOnce(u32) -> bool) -> Option<Rank> {
        if uid == 0 || uid == self.owner {
            return Some(Rank::Owner);
        }
        self.group.is_some_and(in_group).then_some(Rank::Reader)
    }
}

/// A bound control socket. Dropping it removes its file, in the process that bound it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    socket: OwnedFd,
    permissions: Permissions,
    pub(crate) path: PathBuf,
    /// `None` where another process has removed it.
    file: Option<SocketFile>,
}

impl ControlSocket {
    /// Binds a control socket at a path. Members of `group` may read.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2); EADDRINUSE if a living server has it.
    pub(crate) fn bind(path: &Path, group: Option<u32>) -> Result<ControlSocket, Error> {
        let fault = |why: Errno| {
            let what = format_args!("cannot make the control socket {}", path.display()).to_string();
            Error::system(what, &why.into(), next_of_bind(why))
        };
        let permissions = Permissions { owner: rustix::process::geteuid().as_raw(), group };
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        let options = FileOptions { mode, uid: None, gid: group };
        if let Some(handed) = handed::take(&handed_name(path)) {
            let file = SocketFile::handed(path);
            file.as_ref().map(|file| file.apply(&options)).transpose()?;
            return Ok(ControlSocket { socket: handed.socket, permissions, path: path.to_owned(), file });
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.map_err(fault)?;
        let file = SocketFile::bind(&socket, path).map_err(fault)?;
        file.apply(&options)?;
        rustix::net::listen(&socket, BACKLOG).map_err(fault)?;
        Ok(ControlSocket { socket, permissions, path: path.to_owned(), file: Some(file) })
    }

    /// Binds the control socket of a server with this name in the usual directory of its user. If a
    /// living server has the name, the process id is added to it.
    ///
    /// # Errors
    /// As [`ControlSocket::bind`]; or the directory cannot be made.
    pub(crate) fn bind_named(name: &str, group: Option<u32>) -> Result<ControlSocket, Error> {
        let directory = own_directory().ok_or_else(|| {
            Error::usage(
                "XDG_RUNTIME_DIR is not set",
                "set it, choose a path (--control PATH), or none (--control none)",
            )
        })?;
        make_directory(&directory).map_err(|why| {
            let what = format_args!("cannot make the directory {}", directory.display()).to_string();
            Error::system(what, &why, next_move::of_file(&why))
        })?;
        let path = directory.join(format!("{name}.sock"));
        if let Some(handed) = handed::first(HANDED_PREFIX).map(PathBuf::from) {
            // The process id that was added to it is that of an older generation.
            let is_own = handed.parent() == Some(&directory)
                && handed.file_stem().is_some_and(|stem| is_named(&stem.to_string_lossy(), name));
            return ControlSocket::bind(if is_own { &handed } else { &path }, group);
        }
        if is_alive(&path) {
            let name = format!("{name}-{}", std::process::id());
            return ControlSocket::bind(&directory.join(format!("{name}.sock")), group);
        }
        ControlSocket::bind(&path, group)
    }

    /// The name by which the next generation of the server takes the socket.
    pub(crate) fn handed_name(&self) -> String {
        handed_name(&self.path)
    }

    /// The next generation has taken over: the file of the socket is its.
    pub(crate) fn hand_over(&mut self) {
        self.file.iter_mut().for_each(SocketFile::hand_over);
    }

    /// This process has taken over: it removes the file of the socket when it ends.
    pub(crate) fn take_over(&mut self) {
        self.file.iter_mut().for_each(SocketFile::take_over);
    }

    /// Accepts a controller; `None` if none waits.
    ///
    /// # Errors
    /// Those of accept(2), except EAGAIN.
    pub(crate) fn accept(&self) -> Result<Option<Controller>, Errno> {
        let stream = match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(stream) => stream,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(None),
            Err(why) => return Err(why),
        };
        // It cannot fail for a socket of this family. A controller without a user is closed.
        let Ok((uid, gid, pid)) = tine_sys::socket::peer_credentials(stream.as_fd()) else { return Ok(None) };
        let in_group = |group| {
            let others = tine_sys::socket::peer_groups(stream.as_fd()).unwrap_or_default();
            gid == group || others.contains(&group)
        };
        let permitted = self.permissions.of(uid, in_group);
        let operator = Operator { uid, pid, rank: permitted.unwrap_or(Rank::Reader) };
        Ok(Some(Controller { stream, operator, is_permitted: permitted.is_some() }))
    }

    /// Moves the descriptor by `place`.
    pub(crate) fn place<E>(
        &mut self,
        place: &impl Fn(BorrowedFd<'_>) -> Result<OwnedFd, E>,
    ) -> Result<(), E> {
        self.socket = place(self.socket.as_fd())?;
        Ok(())
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the address of a control socket begins with, among the sockets that are handed over.
pub(crate) const HANDED_PREFIX: &str = "control:";

fn handed_name(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("{HANDED_PREFIX}{}", path.display())
}

/// Whether a socket has the name of a server, or that and a process id.
fn is_named(stem: &str, name: &str) -> bool {
    let is_id = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    stem.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_id))
}

/// The directories where control sockets are looked for, the usual one of this user first.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    let of_root = PathBuf::from("/run/tine");
    match own_directory() {
        Some(own) if own != of_root => vec![own, of_root],
        _ => vec![of_root],
    }
}

/// The directory of this user's control sockets: the one that systemd made for a service
/// (`RuntimeDirectory=`, systemd.exec(5)), or `/run/tine` for root, or `$XDG_RUNTIME_DIR/tine`.
fn own_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directories) = variable("RUNTIME_DIRECTORY") {
        // Several are separated by colons.
        return Some(directories.to_str()?.split(':').next()?.into());
    }
    if rustix::process::geteuid().is_root() {
        return Some("/run/tine".into());
    }
    Some(PathBuf::from(variable("XDG_RUNTIME_DIR")?).join("tine"))
}

/// Makes the directory, for every user whatever the umask is: the sockets in it have permissions of
/// their own.
fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(why) => Err(why),
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)),
    }
}

/// Whether a process listens on a socket file.
pub(crate) fn is_alive(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

fn next_of_bind(why: Errno) -> &'static str {
    match why {
        Errno::ADDRINUSE => "a living server has it: choose another path (--control PATH)",
        Errno::NAMETOOLONG | Errno::INVAL => "choose a shorter path (--control PATH)",
        why => next_move::of_file(&why.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions() {
        let (owner, group) = (1000, Some(50));
        for (uid, groups, group, permitted) in [
            (0, &[][..], None, Some(Rank::Owner)),
            (1000, &[], None, Some(Rank::Owner)),
            (1001, &[], None, None),
            (1001, &[50], None, None),
            (1001, &[50], group, Some(Rank::Reader)),
            (1001, &[51], group, None),
            // Root of another user namespace has the id that it is mapped to here, or none.
            (100_000, &[], group, None),
            (65_534, &[], group, None),
            (1000, &[], group, Some(Rank::Owner)),
        ] {
            let found = Permissions { owner, group }.of(uid, |group| groups.contains(&group));
            assert_eq!(found, permitted, "{uid} {groups:?} {group:?}");
        }
    }

    #[test]
    fn the_name_of_a_socket_may_have_a_process_id() {
        for (stem, expected) in [
            ("9999", true),
            ("9999-17", true),
            ("9999-", false),
            ("9999-x", false),
            ("99", false),
            ("99999", false),
        ] {
            assert_eq!(is_named(stem, "9999"), expected, "{stem}");
        }
    }

    #[test]
    fn a_controller_is_known_by_its_credentials() {
        let directory = std::env::temp_dir().join(format!("tine-control-{}", std::process::id()));
        make_directory(&directory).expect("made");
        make_directory(&directory).expect("there already");
        let path = directory.join("test.sock");
        let socket = ControlSocket::bind(&path, None).expect("bound");
        assert!(socket.accept().expect("no fault").is_none());
        assert_eq!(ControlSocket::bind(&path, None).expect_err("in use").exit_code(), 111);
        let probe = socket.accept().expect("no fault");
        assert!(probe.is_some() && socket.accept().expect("no fault").is_none());
        let _client = std::os::unix::net::UnixStream::connect(&path).expect("listens");
        let controller = socket.accept().expect("no fault").expect("a controller");
        let pid = std::process::id() as i32;
        let own = Operator { uid: rustix::process::geteuid().as_raw(), pid, rank: Rank::Owner };
        assert!(controller.is_permitted && controller.operator == own, "{controller:?}");
        drop(socket);
        assert!(!path.exists());
        std::fs::remove_dir(&directory).expect("empty");
    }
}
