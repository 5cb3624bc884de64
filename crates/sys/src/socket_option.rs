//! Reading and setting one option of a socket (getsockopt(2), setsockopt(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A value of which the kernel may write every byte, or the first ones.
///
/// # Safety
/// All bytes together are a value of the type, whatever they are.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers, and lists of them.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: a structure of integers.
unsafe impl Plain for libc::tcp_info {}
// SAFETY: as above.
unsafe impl Plain for libc::ucred {}

/// The value of an option. What the kernel does not write of it stays as it is in `value`.
///
/// # Errors
/// As getsockopt(2).
pub(crate) fn get<T: Plain>(
    socket: BorrowedFd,
    level: libc::c_int,
    name: libc::c_int,
    mut value: T,
) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which are those of the value.
    let returned = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    crate::check(libc::c_long::from(returned)).map(|_| value)
}

/// Sets an option.
///
/// # Errors
/// As setsockopt(2).
///
/// # Safety
/// If the option is a structure with pointers, these have to be valid until this returns.
pub(crate) unsafe fn set<T>(
    socket: BorrowedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes, which are those of the value, and what they point
    // to.
    let returned = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    crate::check(libc::c_long::from(returned)).map(drop)
}

/// Sets an option that is an int.
///
/// # Errors
/// As setsockopt(2).
pub(crate) fn set_int(
    socket: BorrowedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel takes no int for a pointer.
    unsafe { set(socket, level, name, &value) }
}
