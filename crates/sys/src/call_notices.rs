//! Calls that wait for the answer of this process (seccomp_unotify(2)), and what it may look at and
//! change of their callers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::check;
use crate::other_memory::read_memory;

/// The requests of a listener (linux/seccomp.h).
pub mod requests {
    use super::request;

    /// `SECCOMP_IOCTL_NOTIF_RECV`.
    pub const RECEIVE: u32 = request(true, 0, size_of::<libc::seccomp_notif>());
    /// `SECCOMP_IOCTL_NOTIF_SEND`.
    pub const ANSWER: u32 = request(true, 1, size_of::<libc::seccomp_notif_resp>());
    /// `SECCOMP_IOCTL_NOTIF_ID_VALID`.
    pub const IS_WAITING: u32 = request(false, 2, size_of::<u64>());
    /// `SECCOMP_IOCTL_NOTIF_ADDFD`.
    pub const PUT: u32 = request(false, 3, size_of::<libc::seccomp_notif_addfd>());
}

/// The number of a request that the kernel reads, and with `both` also writes (linux/ioctl.h).
const fn request(both: bool, number: u32, size: usize) -> u32 {
    let (write, read) = (1 << 30, if both { 2 << 30 } else { 0 });
    write | read | (size as u32) << 16 | (b'!' as u32) << 8 | number
}

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallNotice {
    /// The number of the call at its listener.
    pub id: u64,
    /// The thread that makes it, as this process numbers it; 0 if it cannot be seen from here.
    pub thread: i32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a call that waits returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAnswer {
    /// 0.
    Done,
    /// An error.
    Failed(Errno),
    /// What the kernel makes of it: it reads the memory of the caller then, which may have changed.
    Continued,
}

/// Receives the next call of a listener. Does not wait: `None` if there is none, or its caller has
/// just ended.
///
/// # Errors
/// EINTR, ENOMEM.
pub fn receive(listener: BorrowedFd) -> io::Result<Option<CallNotice>> {
    // The request would wait for a call.
    let mut poll = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    if crate::wait::now(&mut poll)? == 0 || !poll[0].revents().contains(PollFlags::IN) {
        return Ok(None);
    }
    // SAFETY: all-zero bytes are a valid `seccomp_notif`, and what the kernel wants to be there.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes a `seccomp_notif`, which lives until it returns.
    match check(unsafe { libc::ioctl(listener.as_raw_fd(), requests::RECEIVE as _, &raw mut notice) }.into())
    {
        Ok(_) => Ok(Some(CallNotice {
            id: notice.id,
            thread: notice.pid.cast_signed(),
            arguments: notice.data.args,
        })),
        Err(why) if why.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(why) => Err(why),
    }
}

/// Whether a call still waits: if so, the thread of the notice was its caller until now.
#[must_use]
pub fn is_waiting(listener: BorrowedFd, id: u64) -> bool {
    // SAFETY: the request reads an integer.
    let asked = unsafe { libc::ioctl(listener.as_raw_fd(), requests::IS_WAITING as _, &raw const id) };
    asked == 0
}

/// Answers a call.
///
/// # Errors
/// ENOENT if it waits no more.
pub fn answer(listener: BorrowedFd, id: u64, answer: CallAnswer) -> io::Result<()> {
    let (error, flags) = match answer {
        CallAnswer::Done => (0, 0),
        CallAnswer::Failed(why) => (-why.raw_os_error(), 0),
        CallAnswer::Continued => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the request reads a `seccomp_notif_resp`, which lives until it returns.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), requests::ANSWER as _, &raw const response) }.into())
        .map(drop)
}

/// Puts a copy of a descriptor in the place of one of the caller.
///
/// # Errors
/// ENOENT if the call waits no more; EMFILE, EBADF.
pub fn put(
    listener: BorrowedFd,
    id: u64,
    descriptor: BorrowedFd,
    place: RawFd,
    close_on_exec: bool,
) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 };
    request_put(listener, id, descriptor.as_raw_fd(), place, flags)
}

fn request_put(
    listener: BorrowedFd,
    id: u64,
    source: RawFd,
    place: RawFd,
    newfd_flags: u32,
) -> io::Result<()> {
    let put = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: source.cast_unsigned(),
        newfd: place.cast_unsigned(),
        newfd_flags,
    };
    // SAFETY: the request reads a `seccomp_notif_addfd`, which lives until it returns. It changes
    // no descriptor of this process.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), requests::PUT as _, &raw const put) }.into()).map(drop)
}

/// Tries what [`put`], [`read_memory`] and [`thread_descriptor`] take, with a listener without a
/// call, on this process.
///
/// # Errors
/// ENOSYS or EINVAL where the kernel has no such request (Linux 5.9); that of a container.
pub fn try_out(listener: BorrowedFd) -> io::Result<()> {
    use rustix::process::{PidfdGetfdFlags, getpid, pidfd_getfd};
    // Of a kernel that has the request, the descriptor is what is wrong.
    match request_put(listener, 0, -1, 0, 0) {
        Err(why) if why.raw_os_error() == Some(libc::EBADF) => {}
        Err(why) => return Err(why),
        Ok(()) => return Err(io::ErrorKind::Unsupported.into()),
    }
    let own = getpid();
    let byte = 0_u8;
    read_memory(own.as_raw_nonzero().get(), (&raw const byte).addr() as u64, &mut [0])?;
    let process = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())?;
    pidfd_getfd(&process, process.as_raw_fd(), PidfdGetfdFlags::empty())?;
    Ok(())
}

/// A descriptor of a thread (pidfd_open(2), `PIDFD_THREAD`, Linux 6.9).
///
/// # Errors
/// EINVAL before Linux 6.9; ESRCH.
pub fn thread_descriptor(thread: i32) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    const OF_A_THREAD: u32 = libc::O_EXCL as u32;
    let thread = Pid::from_raw(thread).ok_or(Errno::SRCH)?;
    Ok(pidfd_open(thread, PidfdFlags::from_bits_retain(OF_A_THREAD))?)
}
