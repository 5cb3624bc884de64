//! Socket options that `rustix` does not offer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::socket_option;

/// The accept queue of a listening TCP socket, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// The connections in it.
    pub length: u32,
    /// The backlog in force, which listen(2) cuts to `net.core.somaxconn`.
    pub backlog: u32,
}

/// Asks for the accept queue of a listening TCP socket: for such a socket, `TCP_INFO` returns its
/// length in `tcpi_unacked` and its backlog in `tcpi_sacked` (linux/net/ipv4/tcp.c,
/// `tcp_get_info`).
///
/// # Errors
/// EOPNOTSUPP if it is not a TCP socket.
pub fn accept_queue(listener: BorrowedFd) -> io::Result<AcceptQueue> {
    // SAFETY: all-zero is a valid `tcp_info`.
    let none = unsafe { std::mem::zeroed::<libc::tcp_info>() };
    let info = socket_option::get(listener, libc::IPPROTO_TCP, libc::TCP_INFO, none)?;
    Ok(AcceptQueue { length: info.tcpi_unacked, backlog: info.tcpi_sacked })
}

/// The state of a TCP socket (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// It has no peer.
    Closed,
    /// It is being connected.
    Connecting,
    /// It is connected, was so until its peer closed it, or listens.
    Other,
}

/// Asks for the state of a TCP socket.
///
/// # Errors
/// EOPNOTSUPP if it is not a TCP socket.
pub fn tcp_state(socket: BorrowedFd) -> io::Result<TcpState> {
    // Of linux/net/tcp_states.h.
    const SYN_SENT: u8 = 2;
    const SYN_RECV: u8 = 3;
    const CLOSE: u8 = 7;
    // `tcpi_state` is the first byte.
    Ok(match socket_option::get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, 0_u8)? {
        CLOSE => TcpState::Closed,
        SYN_SENT | SYN_RECV => TcpState::Connecting,
        _ => TcpState::Other,
    })
}

/// The number of the network namespace of a socket, which no other one has (`SO_NETNS_COOKIE`).
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn network_of(socket: BorrowedFd) -> io::Result<u64> {
    socket_option::get(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, 0_u64)
}

/// The clients that the kernel has dropped at a listening socket, mostly since its accept queue was
/// full (`SO_MEMINFO`, `SK_MEMINFO_DROPS` in linux/sock_diag.h).
///
/// # Errors
/// ENOPROTOOPT before Linux 4.12.
pub fn drops(listener: BorrowedFd) -> io::Result<u32> {
    const SK_MEMINFO_DROPS: usize = 8;
    const SK_MEMINFO_VARS: usize = 9;
    let info = [0_u32; SK_MEMINFO_VARS];
    let info = socket_option::get(listener, libc::SOL_SOCKET, libc::SO_MEMINFO, info)?;
    Ok(info[SK_MEMINFO_DROPS])
}

/// Socket options whose value is an int.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOption {
    /// `SO_MARK` (socket(7)): the mark of sent packets, for routing and packet filters.
    Mark,
    /// `TCP_DEFER_ACCEPT` (tcp(7)): the seconds that a connection may wait for its first byte
    /// before it is accepted.
    DeferAccept,
    /// `IP_TRANSPARENT` (ip(7)): a listener may have an address of another machine.
    Transparent,
    /// `IPV6_TRANSPARENT`: the same for IPv6.
    TransparentIpv6,
}

impl IntOption {
    fn level_and_name(self) -> (libc::c_int, libc::c_int) {
        match self {
            IntOption::Mark => (libc::SOL_SOCKET, libc::SO_MARK),
            IntOption::DeferAccept => (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
            IntOption::Transparent => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
            IntOption::TransparentIpv6 => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
        }
    }
}

/// Sets a socket option whose value is an int.
///
/// # Errors
/// As setsockopt(2): EPERM without the capability that the option takes.
pub fn set_int(socket: BorrowedFd, option: IntOption, value: i32) -> io::Result<()> {
    let (level, name) = option.level_and_name();
    socket_option::set_int(socket, level, name, value)
}

/// The value of a socket option that is an int.
///
/// # Errors
/// As getsockopt(2).
pub fn int(socket: BorrowedFd, option: IntOption) -> io::Result<i32> {
    let (level, name) = option.level_and_name();
    socket_option::get(socket, level, name, 0)
}

/// Binds a socket to a network interface, by its name (`SO_BINDTODEVICE`, socket(7)): it sees only
/// packets that arrive there.
///
/// # Errors
/// ENODEV if there is no such interface; EPERM if it is bound to another one already and the
/// capability CAP_NET_RAW is missing.
pub fn bind_to_device(socket: BorrowedFd, interface: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes of the name.
    let returned = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            interface.as_ptr().cast(),
            interface.len() as libc::socklen_t,
        )
    };
    crate::check(libc::c_long::from(returned)).map(drop)
}

/// Makes `bind` leave the choice of the port to `connect`, which knows the destination: the port is
/// then in use for one destination, not for all (`IP_BIND_ADDRESS_NO_PORT`, ip(7), Linux 4.2).
///
/// # Errors
/// ENOPROTOOPT on older kernels, and for sockets that are neither IPv4 nor IPv6.
pub fn leave_port_to_connect(socket: BorrowedFd) -> io::Result<()> {
    socket_option::set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// The addresses of the listening sockets that this process has open. Empty without `/proc`.
#[must_use]
pub fn own_listeners() -> Vec<rustix::net::SocketAddrAny> {
    let listening = |number: i32| {
        // SAFETY: the number was open a moment ago; the calls only ask, and a closed one is EBADF.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        let listens = rustix::net::sockopt::socket_acceptconn(socket).ok()?;
        listens.then(|| rustix::net::getsockname(socket).ok()).flatten()
    };
    crate::fd::open_numbers().into_iter().filter_map(listening).collect()
}

/// The name of a Unix socket (unix(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixName {
    /// A path in the file system.
    Path(Vec<u8>),
    /// A name in the abstract namespace, without the zero byte in front.
    Abstract(Vec<u8>),
}

/// The name in an address of a Unix socket; `None` if it has none, or if the address is of another
/// family. `SocketAddrUnix` panics at a path of 108 bytes, for which the kernel returns a zero byte
/// beyond `sockaddr_un`.
#[must_use]
pub fn unix_name(address: &rustix::net::SocketAddrAny) -> Option<UnixName> {
    if address.address_family() != rustix::net::AddressFamily::UNIX {
        return None;
    }
    // SAFETY: the address consists of these many bytes, which are initialized.
    let all =
        unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.addr_len() as usize) };
    match all.get(std::mem::offset_of!(libc::sockaddr_un, sun_path)..)? {
        [] => None,
        [0, name @ ..] => Some(UnixName::Abstract(name.to_vec())),
        path => Some(UnixName::Path(path.split(|byte| *byte == 0).next()?.to_vec())),
    }
}

/// User id, group id and process id of the process that connected a Unix socket, as they were then
/// (`SO_PEERCRED`, unix(7)). The process id is 0 for a process of a PID namespace that this one
/// does not see.
///
/// # Errors
/// As getsockopt(2). For a socket that is not a Unix socket, the user id is 4,294,967,295.
pub fn peer_credentials(socket: BorrowedFd) -> io::Result<(u32, u32, i32)> {
    let none = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let found = socket_option::get(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, none)?;
    Ok((found.uid, found.gid, found.pid))
}

/// The supplementary groups of the process that connected a Unix socket (`SO_PEERGROUPS`,
/// linux/net/core/sock.c, Linux 4.13).
///
/// # Errors
/// ENOPROTOOPT on older kernels; ENODATA where the peer is unknown.
pub fn peer_groups(socket: BorrowedFd) -> io::Result<Vec<u32>> {
    // The kernel allows 65,536 groups (NGROUPS_MAX); most processes have a few.
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut length = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which the vector has.
        let returned = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let number = length as usize / size_of::<libc::gid_t>();
        match crate::check(libc::c_long::from(returned)) {
            Ok(_) => {
                groups.truncate(number);
                return Ok(groups);
            }
            // The kernel has set the length that it needs.
            Err(why) if why.raw_os_error() == Some(libc::ERANGE) && number > groups.len() => {
                groups.resize(number, 0);
            }
            Err(why) => return Err(why),
        }
    }
}
