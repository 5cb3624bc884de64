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

/// Lets a bound address leave the choice of the port to `connect`, which knows the destination: so a port
/// is taken for one destination, not for all (`IP_BIND_ADDRESS_NO_PORT`, ip(7), Linux 4.2).
///
/// # Errors
/// ENOPROTOOPT on older kernels, and for sockets that are not of the internet.
pub fn leave_port_to_connect(socket: BorrowedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, which is valid for its size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    crate::check(libc::c_long::from(set)).map(drop)
}
