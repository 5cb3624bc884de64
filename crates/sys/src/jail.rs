//! The steps of a jail that `rustix` does not offer safely, whether the kernel has them, and
//! attempts at what a jail refuses.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;
use crate::process::Fresh;

/// The version of Landlock (landlock(7)).
///
/// # Errors
/// ENOSYS where the kernel has none, EOPNOTSUPP where it is not enabled, EPERM where a filter
/// denies it.
pub fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_int = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag, a null pointer and a size of 0 the call only returns the version.
    let version = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) })?;
    Ok(u32::try_from(version).unwrap_or_default())
}

/// Restricts this process, and all that it creates from now on, to what a ruleset of Landlock
/// allows (landlock_restrict_self(2)).
///
/// # Errors
/// EPERM without `no_new_privs`, E2BIG in too many rulesets.
pub fn restrict_self(ruleset: BorrowedFd) -> io::Result<()> {
    // SAFETY: it takes a descriptor and no flags, and can only take rights away.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// Whether filters of system calls can be installed: asks whether one of their actions is known
/// (`SECCOMP_GET_ACTION_AVAIL`, seccomp(2)).
///
/// # Errors
/// ENOSYS or EINVAL where the kernel has none, EPERM where a filter denies it.
pub fn has_filters() -> io::Result<()> {
    let action = libc::SECCOMP_RET_ERRNO;
    let get = libc::SECCOMP_GET_ACTION_AVAIL;
    // SAFETY: it reads one number at a valid address.
    check(unsafe { libc::syscall(libc::SYS_seccomp, get, 0, &raw const action) }).map(drop)
}

/// `PR_SET_MDWE`, `PR_GET_MDWE` and `PR_MDWE_REFUSE_EXEC_GAIN` (linux/prctl.h).
const SET_MDWE: libc::c_int = 65;
const GET_MDWE: libc::c_int = 66;
const REFUSE_EXEC_GAIN: libc::c_ulong = 1;

/// Whether [`deny_write_execute`] is possible.
///
/// # Errors
/// EINVAL before Linux 6.3.
pub fn has_deny_write_execute() -> io::Result<()> {
    // SAFETY: it only asks.
    check(unsafe { libc::prctl(GET_MDWE, 0, 0, 0, 0) }.into()).map(drop)
}

/// From now on memory of this process cannot become executable, unless it is mapped so and not
/// writable. Programs that it executes inherit it (`PR_SET_MDWE`, prctl(2)).
///
/// # Errors
/// EINVAL before Linux 6.3.
pub fn deny_write_execute() -> io::Result<()> {
    // SAFETY: it takes rights away from later calls; what is mapped stays as it is.
    check(unsafe { libc::prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) }.into()).map(drop)
}

/// Tries to make a user namespace, and to enter it.
///
/// # Errors
/// That of the call, as a jail has it.
pub fn try_user_namespace(_fresh: &Fresh) -> io::Result<()> {
    // SAFETY: it takes flags; a fresh process with a user namespace of its own has no more rights
    // over what it shares with others.
    check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER) }).map(drop)
}

/// Tries to map memory that is writable and executable.
///
/// # Errors
/// That of the call, as a jail has it.
pub fn try_writable_code() -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    let size = rustix::param::page_size();
    // SAFETY: a new anonymous mapping, which nothing uses before it is removed.
    unsafe {
        let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
        let page = mmap_anonymous(std::ptr::null_mut(), size, all, MapFlags::PRIVATE)?;
        munmap(page, size)?;
    }
    Ok(())
}
