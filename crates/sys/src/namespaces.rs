//! Namespaces (namespaces(7)): making them, joining them, and what is mounted in them.

use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::check;
use crate::process::Alone;

/// Kinds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(pub(crate) libc::c_int);

impl Kinds {
    /// Users and groups, with the capabilities over the namespaces that are made in it.
    pub const USER: Kinds = Kinds(libc::CLONE_NEWUSER);
    /// Mounts.
    pub const MOUNT: Kinds = Kinds(libc::CLONE_NEWNS);
    /// Processes: the next process that is created is its first.
    pub const PID: Kinds = Kinds(libc::CLONE_NEWPID);
    /// The network.
    pub const NETWORK: Kinds = Kinds(libc::CLONE_NEWNET);
    /// System V objects and POSIX message queues.
    pub const IPC: Kinds = Kinds(libc::CLONE_NEWIPC);
    /// The host name.
    pub const UTS: Kinds = Kinds(libc::CLONE_NEWUTS);
    /// The view of cgroups.
    pub const CGROUP: Kinds = Kinds(libc::CLONE_NEWCGROUP);

    /// These, and others.
    #[must_use]
    pub const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    /// They as flags of clone(2).
    #[must_use]
    pub fn flags(self) -> u64 {
        u64::from(self.0.cast_unsigned())
    }
}

/// Switches the loopback interface of this process's network namespace on (netdevice(7)): a new
/// namespace has it switched off. Nothing else is in there.
///
/// # Errors
/// This process may not: it takes `CAP_NET_ADMIN` over the namespace.
pub fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request reads an `ifreq`, which lives until it returns.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    }))?;
    Ok(())
}

/// Moves this process into new namespaces (unshare(2)); with [`Kinds::PID`], the processes that it
/// creates.
///
/// # Errors
/// EPERM without the privilege or where a filter denies it, ENOSPC at a limit
/// (`/proc/sys/user`).
pub fn unshare(_alone: &Alone, kinds: Kinds) -> io::Result<()> {
    // SAFETY: it takes flags. The flags share nothing that was shared with another thread, as
    // `Alone` says that there is none.
    check(unsafe { libc::unshare(kinds.0) }.into()).map(drop)
}

/// Numbers that a filter of system calls wants to see in a call of [`join`]. Kept from the programs
/// of clients, which cannot make the call then.
#[derive(Clone, Copy)]
pub struct Password([u64; 4]);

impl Password {
    /// Another one each time (getrandom(2); `/dev/urandom` where that is denied).
    ///
    /// # Errors
    /// Neither can be read.
    pub fn random() -> io::Result<Password> {
        let mut bytes = [0; 32];
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(bytes.len()) {
            std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        }
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Ok(Password(words))
    }

    /// The argument of setns(2) and its value, for each.
    pub fn arguments(&self) -> impl Iterator<Item = (u8, u64)> {
        (2..).zip(self.0)
    }

    /// The same of clone(2), which has two arguments that the kernel can ignore.
    pub fn arguments_of_clone(&self) -> impl Iterator<Item = (u8, u64)> {
        (3..).zip(self.of_clone())
    }

    fn of_clone(&self) -> [u64; 2] {
        [self.0[0], self.0[1]]
    }
}

/// The pid namespace of a new process.
#[derive(Clone, Copy, Debug, Default)]
pub enum PidNamespace {
    /// That of the processes that this one creates.
    #[default]
    Inherited,
    /// One of which it is the first process, created by a call with this password, if a filter
    /// wants to see one.
    Own(Option<Password>),
}

impl PidNamespace {
    /// What the call of clone(2) has in the arguments that the kernel ignores; `None` where it
    /// makes no namespace.
    pub(crate) fn ignored(self) -> Option<[u64; 2]> {
        match self {
            PidNamespace::Inherited => None,
            PidNamespace::Own(password) => Some(password.map_or([0; 2], |password| password.of_clone())),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Joins namespaces of a process (setns(2)); of [`Kinds::PID`], for the processes that this one
/// creates. Of [`Kinds::MOUNT`], the working directory is its root from then on. Without a
/// password, the arguments that the kernel ignores are 0.
///
/// Changes nothing of the C library's state but `errno`, so a process that shares the memory of its
/// parent (vfork(2)) may call it.
///
/// # Errors
/// EPERM without the privilege over them, or where a filter denies it; ESRCH if the process has
/// ended.
pub fn join(process: BorrowedFd, kinds: Kinds, password: Option<&Password>) -> io::Result<()> {
    let [third, fourth, fifth, sixth] = password.map_or([0; 4], |password| password.0);
    let process = process.as_raw_fd();
    // SAFETY: it takes a descriptor and flags; the kernel ignores the others.
    let joined = unsafe { libc::syscall(libc::SYS_setns, process, kinds.0, third, fourth, fifth, sixth) };
    check(joined).map(drop)
}

/// What a mount loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountRights {
    /// Set-user-ID bits and devices have no effect.
    ReadWrite,
    /// In addition, nothing can be written.
    ReadOnly,
    /// Nothing can be written; devices have their effect.
    ReadOnlyDevices,
}

/// Takes rights from the mount at a path, with `below` from those below it, too
/// (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// ENOSYS before Linux 5.12, EINVAL if nothing is mounted there, EPERM.
pub fn restrict_mount(path: &Path, rights: MountRights, below: bool) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let set = libc::MOUNT_ATTR_NOSUID
        | match rights {
            MountRights::ReadWrite => libc::MOUNT_ATTR_NODEV,
            MountRights::ReadOnly => libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY,
            MountRights::ReadOnlyDevices => libc::MOUNT_ATTR_RDONLY,
        };
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = if below { libc::AT_RECURSIVE } else { 0 };
    let size = size_of_val(&attributes);
    let at = libc::AT_FDCWD;
    // SAFETY: a terminated path, and a structure of the size given, which the kernel reads.
    let set = unsafe {
        libc::syscall(libc::SYS_mount_setattr, at, path.as_ptr(), flags, &raw const attributes, size)
    };
    check(set).map(drop)
}
