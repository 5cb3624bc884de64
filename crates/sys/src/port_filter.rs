//! A filter of the kernel's messages about destroyed sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where a message has the local port: behind `struct nlmsghdr` (linux/netlink.h) and the first
/// four bytes of `struct inet_diag_msg` (linux/inet_diag.h), in network byte order.
const PORT_AT: u32 = 16 + 4;

/// The most instructions of a filter (`BPF_MAXINSNS`, linux/bpf_common.h).
const MAX_LENGTH: usize = 4096;

/// Has a netlink socket receive messages about sockets with these local ports only
/// (`SO_ATTACH_FILTER`, socket(7)): the kernel drops the others.
///
/// # Errors
/// EINVAL for more than 2,000 ports; ENOMEM.
pub fn filter_by_port(socket: BorrowedFd, ports: &[u16]) -> io::Result<()> {
    let program = program(ports);
    if program.len() > MAX_LENGTH {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` describes `program`, which lives until the call returns; the kernel copies
    // it and checks it.
    let returned = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    crate::check(libc::c_long::from(returned)).map(drop)
}

/// Classic BPF: loads the port, and returns the whole message if it is one of these.
fn program(ports: &[u16]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, PORT_AT)];
    for port in ports {
        let equal = instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, u32::from(*port));
        let accept = instruction(libc::BPF_RET | libc::BPF_K, u32::MAX);
        program.extend([libc::sock_filter { jf: 1, ..equal }, accept]);
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0));
    program
}
