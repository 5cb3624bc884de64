//! Facts about sockets that only `getsockopt` with C structures tells.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many clients wait in the accept queue of a listening TCP socket: for such a socket, `TCP_INFO`
/// has it in `tcpi_unacked` (linux/net/ipv4/tcp.c, `tcp_get_info`).
///
/// # Errors
/// EOPNOTSUPP if it is no TCP socket.
pub fn accept_queue(listener: BorrowedFd) -> io::Result<u32> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes; all-zero is a valid tcp_info.
    let (got, info) = unsafe {
        let got = libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (got, info.assume_init())
    };
    crate::check(libc::c_long::from(got))?;
    Ok(info.tcpi_unacked)
}
