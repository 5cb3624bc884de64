//! The filter that has another process answer calls of connect(2) (seccomp_unotify(2)), and refuses
//! the other ways to begin a TCP connection.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::check;

/// The architecture of this binary (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00f3);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ARCHITECTURE: Option<u32> = None;

/// From here on, numbers of calls are those of the x32 interface, on x86-64.
const OTHER_INTERFACE: u32 = 0x4000_0000;

/// Where `struct seccomp_data` has the number of the call and the architecture, and the low half of
/// an argument (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const fn argument(number: u32) -> u32 {
    16 + 8 * number
}

/// The length of the shortest address of an internet socket (`struct sockaddr_in`): with a shorter
/// one, none is connected.
const SHORTEST: u32 = size_of::<libc::sockaddr_in>() as u32;

/// Options by which the packets of a socket go by way of another machine, with their levels:
/// `IP_OPTIONS`, `IPV6_2292PKTOPTIONS` and `IPV6_RTHDR`.
const ROUTES: [(i32, i32); 3] =
    [(libc::IPPROTO_IP, libc::IP_OPTIONS), (libc::IPPROTO_IPV6, 6), (libc::IPPROTO_IPV6, libc::IPV6_RTHDR)];

/// Installs the filter for this process and all that it creates, and returns the listener: a
/// process that has it answers the calls. Without one, they fail with ENOSYS.
///
/// Calls of connect(2) wait for an answer. `MSG_FASTOPEN` sends without connect(2), and is refused
/// with EOPNOTSUPP; options that lead packets by way of other machines with EPERM; calls by the
/// numbers of another architecture with ENOSYS.
///
/// # Errors
/// EACCES without `no_new_privs` and privileges; EINVAL before Linux 5.0; EBUSY if a filter of this
/// process has a listener already; [`io::ErrorKind::Unsupported`] on other architectures.
pub fn install() -> io::Result<OwnedFd> {
    let program = program().ok_or(io::ErrorKind::Unsupported)?;
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `filter` describes `program`, which lives until the call returns; the kernel copies
    // it and checks it. A filter only takes from later calls.
    let listener = check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) })?;
    // SAFETY: the call has opened it for its caller, with close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as libc::c_int) })
}

const fn load(at: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at }
}

const fn end(action: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// Skips as many instructions as are said, if the comparison holds or if it does not.
const fn skip(comparison: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16, jt, jf, k }
}

const fn refuse(errno: i32) -> libc::sock_filter {
    end(libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// Classic BPF, a part for each call; `None` on other architectures.
fn program() -> Option<Vec<libc::sock_filter>> {
    let (equal, at_least, has_bit) = (libc::BPF_JEQ, libc::BPF_JGE, libc::BPF_JSET);
    let mut program = vec![
        load(ARCHITECTURE_AT),
        skip(equal, ARCHITECTURE?, 1, 0),
        refuse(libc::ENOSYS),
        load(NUMBER),
        skip(at_least, OTHER_INTERFACE, 0, 1),
        refuse(libc::ENOSYS),
    ];
    let mut of_call = |call: libc::c_long, part: &[libc::sock_filter]| {
        program.push(load(NUMBER));
        program.push(skip(equal, call as u32, 0, part.len() as u8));
        program.extend_from_slice(part);
    };
    let waits = end(libc::SECCOMP_RET_USER_NOTIF);
    of_call(libc::SYS_connect, &[load(argument(2)), skip(at_least, SHORTEST, 0, 1), waits]);
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        let fast = skip(has_bit, libc::MSG_FASTOPEN as u32, 0, 1);
        of_call(call, &[load(argument(flags)), fast, refuse(libc::EOPNOTSUPP)]);
    }
    let routes = ROUTES.map(|(level, option)| {
        let (level, option) = (skip(equal, level as u32, 0, 3), skip(equal, option as u32, 0, 1));
        [load(argument(1)), level, load(argument(2)), option, refuse(libc::EPERM)]
    });
    of_call(libc::SYS_setsockopt, routes.as_flattened());
    program.push(end(libc::SECCOMP_RET_ALLOW));
    Some(program)
}
