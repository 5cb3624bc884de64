//! Descriptors that come from outside, and ranges of them.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::process::Alone;
use crate::{check, raw};

/// Takes ownership of a descriptor that whoever started this process left open under this number,
/// and sets close-on-exec on it.
///
/// # Errors
/// EBADF if it is not open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer; a number that is not open is answered with EBADF.
    let set = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(libc::c_long::from(set))?;
    // SAFETY: it is open, and by the conventions of LISTEN_FDS and readiness descriptors it is ours;
    // callers take each number once, before they open anything themselves.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes a descriptor as dropping it does, in place: a fresh process need not touch the page of the
/// C library's `close`.
#[inline]
pub fn close(descriptor: OwnedFd) {
    // SAFETY: it is owned, and the owner is consumed without closing it a second time.
    unsafe { raw::close(descriptor.into_raw_fd()) };
}

/// Closes every descriptor from `first` on (close_range(2)), without looking at each number.
///
/// What owned one of them must not be used or dropped afterwards, which is why only a process that
/// has just been forked, or has just started, may call this.
#[inline]
pub fn close_from(first: RawFd) {
    // SAFETY: callers are processes at their start, as said above: the owners of the closed
    // descriptors are never reached again in the child.
    let closed = unsafe { raw::close_range(first, 0) };
    if closed < 0 {
        close_each_from(first);
    }
}

/// Sets close-on-exec on every descriptor from `first` on (close_range(2)). Their owners keep them until
/// this process executes another program.
pub(crate) fn set_close_on_exec_from(first: RawFd) {
    // SAFETY: the flag changes nothing in this process.
    if unsafe { raw::close_range(first, libc::CLOSE_RANGE_CLOEXEC) } < 0 {
        set_close_on_exec_each_from(first);
    }
}

/// The same for kernels before Linux 5.11, one by one.
#[cold]
fn set_close_on_exec_each_from(first: RawFd) {
    for number in open_numbers().into_iter().filter(|number| *number >= first) {
        // SAFETY: as above.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes every descriptor from 3 on but these: what a program that has just started was handed by
/// mistake, and would hand on.
pub fn close_strays(_proof: &Alone, meant: &[RawFd]) {
    let mut meant = meant.to_vec();
    meant.sort_unstable();
    for stray in open_numbers().into_iter().filter(|number| *number >= 3) {
        if meant.binary_search(&stray).is_err() {
            // SAFETY: callers have not opened anything yet, so nobody in this process owns it.
            unsafe { libc::close(stray) };
        }
    }
}

/// For kernels before 5.9: by the list of those that are open.
#[cold]
fn close_each_from(first: RawFd) {
    for number in open_numbers().into_iter().filter(|number| *number >= first) {
        // SAFETY: as above; EBADF for the list's own descriptor is harmless.
        unsafe { libc::close(number) };
    }
}

/// The numbers of the descriptors that are open in this process, in order. Empty where `/proc` is not
/// mounted.
#[must_use]
pub fn open_numbers() -> Vec<RawFd> {
    let Ok(directory) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut numbers: Vec<RawFd> =
        directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    // The listing's own descriptor is among them, and closed by now.
    // SAFETY: F_GETFD on any number only asks.
    numbers.retain(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } != -1);
    numbers
}
