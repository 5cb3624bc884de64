//! Whether the system has what a server cannot do without. Old kernels, and the filters of
//! containers and sandboxes, lack or deny some system calls (seccomp(2)).
//!
//! Each function asks in a way that changes nothing: the call gets an argument that the kernel
//! refuses, so that the error tells whether the call itself is there.

use std::io;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::SeqCst;

use crate::check;
use crate::memory::SharedTables;
use crate::namespaces::PidNamespace;
use crate::process::{Alone, How, Side, exit_now, fork, fork_sibling, reap, wait};

/// Whether clients can be accepted: accept4(2).
///
/// # Errors
/// That of the call.
pub fn accept() -> io::Result<()> {
    // SAFETY: not a descriptor, and no address is wanted.
    let accepted =
        unsafe { libc::accept4(-1, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    refused_with(libc::EBADF, accepted.into())
}

/// Whether descriptors can be closed without a list of them: close_range(2), since Linux 5.9.
///
/// # Errors
/// That of the call.
pub fn close_range() -> io::Result<()> {
    // SAFETY: an empty range, which is invalid.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 1, 0, 0) };
    refused_with(libc::EINVAL, closed)
}

/// Whether a process can end with its parent: `PR_SET_PDEATHSIG`, prctl(2). Sets what is set.
///
/// # Errors
/// That of the call.
pub fn parent_death_signal() -> io::Result<()> {
    let mut signal: libc::c_int = 0;
    // SAFETY: the kernel writes one number to a valid address, and reads one.
    unsafe {
        check(libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal).into())?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, signal).into())?;
    }
    Ok(())
}

/// Whether a process can create siblings, children of its own parent: `CLONE_PARENT`, clone(2).
/// Creates two processes to see it, and waits for their end.
///
/// # Errors
/// That of the call; EOPNOTSUPP where the flag has no effect.
pub fn siblings(alone: &Alone) -> io::Result<()> {
    const NO_SIBLING: i32 = 255;
    let table = SharedTables::<AtomicI32>::new(1, 0)?;
    let sibling = &table.first()[0];
    let tried = match fork(alone, 0)? {
        Side::Parent(pid) => wait(pid)?,
        Side::Child(_fresh) => match fork_sibling(alone, sibling, PidNamespace::Inherited) {
            Ok(Side::Child(_fresh)) => exit_now(0),
            // A sibling is no child of this process.
            Ok(Side::Parent(pid)) if reap(pid).is_ok() => exit_now(NO_SIBLING),
            Ok(Side::Parent(_)) => exit_now(0),
            Err(why) => exit_now(why.raw_os_error().unwrap_or(libc::EINVAL)),
        },
    };
    if tried == How::Exited(0) {
        wait(sibling.load(SeqCst))?;
    }
    table.unmap()?;
    match tried {
        How::Exited(0) => Ok(()),
        How::Exited(NO_SIBLING) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        How::Exited(errno) => Err(io::Error::from_raw_os_error(errno)),
        How::Signaled(_) => Err(io::Error::from_raw_os_error(libc::EINTR)),
    }
}

/// Whether a call with an argument that the kernel refuses failed for that reason.
fn refused_with(errno: libc::c_int, returned: libc::c_long) -> io::Result<()> {
    match check(returned) {
        Err(why) if why.raw_os_error() != Some(errno) => Err(why),
        _ => Ok(()),
    }
}
