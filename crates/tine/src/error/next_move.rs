//! The next move for each error number, where the operating system is the cause: a system call is
//! denied, a resource has run out, a file or device cannot be used.
//!
//! Listeners have texts of their own (`net/hints.rs`), and so have accepting and forking while the
//! server runs (`net/accept.rs`).

use std::io;

use rustix::io::Errno;

const MOUNTED_READ_ONLY: &str =
    "its file system is read-only: choose a path that can be written, as below /run";
const NO_ROOM: &str = "make room on its file system (`df`, `df -i`, `quota`)";

/// After an error of a system call that concerns no file: fork(2), pipe(2), epoll_ctl(2), mmap(2),
/// fcntl(2), prctl(2).
#[must_use]
pub fn of_call(why: &io::Error) -> &'static str {
    resource(errno(why)).unwrap_or(match errno(why) {
        Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP => {
            "permit the system call in the filter of the container or sandbox (seccomp), or use a newer kernel"
        }
        // epoll_ctl(2); no other of these calls has it.
        Errno::NOSPC => "raise fs.epoll.max_user_watches",
        _ => "look for the call that fails (`strace -f`)",
    })
}

/// After an error of a file that is read, written, created or renamed.
#[must_use]
pub fn of_file(why: &io::Error) -> &'static str {
    if why.kind() == io::ErrorKind::InvalidData {
        return "convert it to UTF-8";
    }
    resource(errno(why)).unwrap_or(match errno(why) {
        Errno::NOENT => "check the path: the file or a directory of it does not exist",
        Errno::NOTDIR => "check the path: a part of it is a file, not a directory",
        Errno::ISDIR => "check the path: it is a directory",
        Errno::LOOP => "check the path: its symbolic links lead in a circle",
        Errno::NAMETOOLONG => "choose a shorter path",
        Errno::ACCESS | Errno::PERM => {
            "check the permissions of the file and of the directories above it (`namei -l`)"
        }
        Errno::ROFS => MOUNTED_READ_ONLY,
        Errno::NOSPC | Errno::DQUOT => NO_ROOM,
        Errno::FBIG => "raise the limit on the size of files (`ulimit -f`)",
        Errno::IO | Errno::STALE => "look for errors of the disk in the kernel's log (dmesg)",
        _ => "check the path",
    })
}

/// After an error of `/dev/null`.
#[must_use]
pub fn of_null_device(why: &io::Error) -> &'static str {
    resource(errno(why)).unwrap_or(match errno(why) {
        Errno::ACCESS | Errno::PERM => {
            "permit all users to read and write it (chmod 666), on a file system that is not mounted nodev"
        }
        _ => "mount or bind /dev, or create the device (mknod -m 666 /dev/null c 1 3)",
    })
}

/// After an error of a pseudoterminal (pty(7)).
#[must_use]
pub fn of_terminal(why: &io::Error) -> &'static str {
    match errno(why) {
        // The kernel's ENOSPC; posix_openpt(3) of musl has EAGAIN in its place.
        Errno::NOSPC | Errno::AGAIN => "raise kernel.pty.max, or the `max` option of the devpts mount",
        Errno::ACCESS | Errno::PERM => "mount devpts on /dev/pts with ptmxmode=666, or use no terminal",
        why => resource(why).unwrap_or("mount devpts on /dev/pts, or use no terminal"),
    }
}

/// After an error of standard output.
#[must_use]
pub fn of_output(why: &io::Error) -> &'static str {
    match errno(why) {
        Errno::PIPE | Errno::CONNRESET => "keep its reader open until the end, or redirect it to a file",
        Errno::NOSPC | Errno::DQUOT => NO_ROOM,
        Errno::FBIG => "raise the limit on the size of files (`ulimit -f`)",
        Errno::AGAIN => "pass a standard output that blocks, or redirect it to a file",
        _ => "check where standard output goes",
    }
}

/// Whether a resource has run out, of which another use needs less.
#[must_use]
pub fn is_resource(why: &io::Error) -> bool {
    resource(errno(why)).is_some()
}

/// A resource that has run out, whatever it was needed for.
fn resource(why: Errno) -> Option<&'static str> {
    Some(match why {
        Errno::MFILE => "raise the limit on open files (`ulimit -n`)",
        Errno::NFILE => "raise fs.file-max, or close files of other processes",
        Errno::AGAIN => {
            "raise the limit on processes (`ulimit -u`, TasksMax=, pids.max, kernel.pid_max), or end some"
        }
        Errno::NOMEM | Errno::NOBUFS => "free memory, or raise the limit on it (`ulimit -v`, MemoryMax=)",
        _ => return None,
    })
}

/// The error number. An error that was given a text has lost it, but not its kind.
pub(crate) fn errno(why: &io::Error) -> Errno {
    use io::ErrorKind as Kind;
    match (why.raw_os_error(), why.kind()) {
        (Some(number), _) => Errno::from_raw_os_error(number),
        (None, Kind::PermissionDenied) => Errno::PERM,
        (None, Kind::WouldBlock) => Errno::AGAIN,
        (None, Kind::OutOfMemory) => Errno::NOMEM,
        (None, Kind::InvalidInput) => Errno::INVAL,
        (None, Kind::Unsupported) => Errno::NOSYS,
        (None, Kind::NotFound) => Errno::NOENT,
        (None, _) => Errno::CANCELED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each error number, words of the next move after a system call, and for a file,
    /// `/dev/null`, a terminal and standard output.
    const TEXTS: [(Errno, [&str; 5]); 24] = [
        (Errno::MFILE, ["ulimit -n", "ulimit -n", "ulimit -n", "ulimit -n", "check where"]),
        (Errno::NFILE, ["file-max", "file-max", "file-max", "file-max", "check where"]),
        (Errno::AGAIN, ["ulimit -u", "ulimit -u", "ulimit -u", "kernel.pty.max", "that blocks"]),
        (Errno::NOMEM, ["free memory", "free memory", "free memory", "free memory", "check where"]),
        (Errno::NOBUFS, ["free memory", "free memory", "free memory", "free memory", "check where"]),
        (Errno::PERM, ["seccomp", "permissions", "nodev", "ptmxmode", "check where"]),
        (Errno::ACCESS, ["seccomp", "permissions", "nodev", "ptmxmode", "check where"]),
        (Errno::NOSYS, ["seccomp", "check the path", "mknod", "devpts", "check where"]),
        (Errno::INVAL, ["seccomp", "check the path", "mknod", "devpts", "check where"]),
        (Errno::OPNOTSUPP, ["seccomp", "check the path", "mknod", "devpts", "check where"]),
        (Errno::NOENT, ["strace", "does not exist", "mknod", "devpts", "check where"]),
        (Errno::NOTDIR, ["strace", "not a directory", "mknod", "devpts", "check where"]),
        (Errno::ISDIR, ["strace", "it is a directory", "mknod", "devpts", "check where"]),
        (Errno::LOOP, ["strace", "circle", "mknod", "devpts", "check where"]),
        (Errno::NAMETOOLONG, ["strace", "shorter", "mknod", "devpts", "check where"]),
        (Errno::ROFS, ["strace", "read-only", "mknod", "devpts", "check where"]),
        (Errno::NOSPC, ["max_user_watches", "make room", "mknod", "kernel.pty.max", "make room"]),
        (Errno::DQUOT, ["strace", "make room", "mknod", "devpts", "make room"]),
        (Errno::FBIG, ["strace", "ulimit -f", "mknod", "devpts", "ulimit -f"]),
        (Errno::IO, ["strace", "dmesg", "mknod", "devpts", "check where"]),
        (Errno::STALE, ["strace", "dmesg", "mknod", "devpts", "check where"]),
        (Errno::NXIO, ["strace", "check the path", "mknod", "devpts", "check where"]),
        (Errno::NODEV, ["strace", "check the path", "mknod", "devpts", "check where"]),
        (Errno::PIPE, ["strace", "check the path", "mknod", "devpts", "its reader"]),
    ];

    #[test]
    fn every_error_number_has_the_next_move_of_its_cause() {
        for (number, words) in TEXTS {
            let why = io::Error::from(number);
            let moves = [of_call, of_file, of_null_device, of_terminal, of_output].map(|of| of(&why));
            for (said, words) in moves.into_iter().zip(words) {
                assert!(said.contains(words), "{number:?}: {said}");
            }
        }
    }

    #[test]
    fn an_error_with_a_text_has_the_next_move_of_its_number() {
        for number in
            [Errno::PERM, Errno::ACCESS, Errno::AGAIN, Errno::NOMEM, Errno::INVAL, Errno::NOSYS, Errno::NOENT]
        {
            let why = io::Error::from(number);
            let text = io::Error::new(why.kind(), "its groups: it is refused");
            assert_eq!(of_call(&text), of_call(&why), "{number:?}");
            assert_eq!(of_file(&text), of_file(&why), "{number:?}");
        }
    }

    #[test]
    fn an_error_without_a_number_has_a_next_move() {
        assert!(of_call(&io::Error::other("it has ended")).contains("strace"));
        assert!(of_file(&io::ErrorKind::InvalidData.into()).contains("UTF-8"));
    }
}
