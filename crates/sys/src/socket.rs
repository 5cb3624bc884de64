//! Socket options that `rustix` does not offer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The number of connections in the accept queue of a listening TCP socket: for such a socket,
/// `TCP_INFO` returns it in `tcpi_unacked` (linux/net/ipv4/tcp.c, `tcp_get_info`).
///
/// # Errors
/// EOPNOTSUPP if it is not a TCP socket.
pub fn accept_queue(listener: BorrowedFd) -> io::Result<u32> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes; all-zero is a valid tcp_info.
    let (returned, info) = unsafe {
        let returned = libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (returned, info.assume_init())
    };
    crate::check(libc::c_long::from(returned))?;
    Ok(info.tcpi_unacked)
}

/// Makes `bind` leave the choice of the port to `connect`, which knows the destination: the port is
/// then in use for one destination, not for all (`IP_BIND_ADDRESS_NO_PORT`, ip(7), Linux 4.2).
///
/// # Errors
/// ENOPROTOOPT on older kernels, and for sockets that are neither IPv4 nor IPv6.
pub fn leave_port_to_connect(socket: BorrowedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, and the pointer is valid for its size.
    let returned = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    crate::check(libc::c_long::from(returned)).map(drop)
}
