//! Filters of what sockets receive (socket(7), `SO_ATTACH_FILTER`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::io::Errno;
use rustix::net::AddressFamily;

use crate::socket_option;

/// Where a message about a destroyed socket has the local port: behind `struct nlmsghdr`
/// (linux/netlink.h) and the first four bytes of `struct inet_diag_msg` (linux/inet_diag.h), in
/// network byte order.
const DIAG_PORT: u32 = 16 + 4;

/// Where a packet of TCP has the port of its receiver, and its flags: the filter sees the packet
/// from its TCP header on.
const RECEIVER_PORT: u32 = 2;
const FLAGS: u32 = 13;

/// Where it has the port of its sender, and the header of IP before it (`SKF_NET_OFF`,
/// linux/filter.h) the version, in half a byte, and the address of the sender.
const SENDER_PORT: u32 = 0;
const IP_HEADER: u32 = (-0x10_0000_i32).cast_unsigned();
const IPV4_SENDER: u32 = IP_HEADER + 12;
const IPV6_SENDER: u32 = IP_HEADER + 8;

/// The flags SYN and ACK, with which a listener accepts a connection (RFC 9293).
const SYN_ACK: u32 = 0x02 | 0x10;

/// The most instructions of a filter (`BPF_MAXINSNS`, linux/bpf_common.h).
const MAX_LENGTH: usize = 4096;

/// Has a netlink socket receive messages about sockets with these local ports only: the kernel
/// drops the others.
///
/// # Errors
/// EINVAL for more than 2,000 ports; ENOMEM.
pub fn filter_by_port(socket: BorrowedFd, ports: &[u16]) -> io::Result<()> {
    let mut program = vec![load(libc::BPF_H, DIAG_PORT)];
    for port in ports {
        program.extend([unless_equal(u32::from(*port), 1), RECEIVE]);
    }
    program.push(DROP);
    attach(socket, &program)
}

/// Has a TCP socket serve the connections of its present port, and make no other, for good
/// (`SO_LOCK_FILTER`): it receives what is sent to this port, and no answer to a connection that it
/// makes itself. What a listener accepts from then on has the same filter. A socket of another
/// family than AF_INET and AF_INET6 stays as it is, as one that has its filter for good.
///
/// Without it, a process can dissolve the connection of a socket (connect(2), AF_UNSPEC), and
/// connect or listen with it in the network that the socket was made in.
///
/// # Errors
/// EPERM, on recent kernels, without CAP_NET_ADMIN over that network; ENOMEM at the limit
/// `net.core.optmem_max`.
pub fn hold_to_port(socket: BorrowedFd) -> io::Result<()> {
    let is_tcp = || {
        let family = rustix::net::sockopt::socket_domain(socket)?;
        io::Result::Ok([AddressFamily::INET, AddressFamily::INET6].contains(&family))
    };
    if is_locked(socket)? || !is_tcp()? {
        return Ok(());
    }
    let own = SocketAddr::try_from(rustix::net::getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    attach(socket, &of_port(own.port()))?;
    lock(socket)
}

/// Has a TCP socket receive packets of this peer only, for good. If the socket is disconnected
/// later, by connect(2) to `AF_UNSPEC`, it can neither be connected to another peer nor accept
/// connections of others.
///
/// # Errors
/// As [`hold_to_port`]; EPERM if the socket has such a filter already.
pub fn keep_to_peer(socket: BorrowedFd, peer: SocketAddr) -> io::Result<()> {
    attach(socket, &of_peer(peer))?;
    lock(socket)
}

/// Whether this process may hold sockets of TCP to their port: it tries it.
///
/// # Errors
/// As [`hold_to_port`].
pub fn can_hold() -> io::Result<()> {
    use rustix::net::{SocketFlags, SocketType, socket_with};
    match socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
        Ok(socket) => hold_to_port(socket.as_fd()),
        // Then there is none to hold.
        Err(Errno::AFNOSUPPORT) => Ok(()),
        Err(why) => Err(why.into()),
    }
}

/// Receives what is sent to a port, but no acceptance of a connection.
fn of_port(port: u16) -> [libc::sock_filter; 7] {
    [
        load(libc::BPF_H, RECEIVER_PORT),
        unless_equal(u32::from(port), 4),
        load(libc::BPF_B, FLAGS),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN_ACK),
        libc::sock_filter { jt: 1, ..unless_equal(SYN_ACK, 0) },
        RECEIVE,
        DROP,
    ]
}

/// Receives what comes from a peer: with the version of its address, its port and its address.
fn of_peer(peer: SocketAddr) -> Vec<libc::sock_filter> {
    let (version, words, at): (u32, Vec<u32>, u32) = match peer.ip().to_canonical() {
        IpAddr::V4(address) => (4, vec![address.to_bits()], IPV4_SENDER),
        IpAddr::V6(address) => {
            let words = address.octets();
            let words = words.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word));
            (6, words.collect(), IPV6_SENDER)
        }
    };
    let shift = instruction(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 4);
    let mut checks = vec![
        (vec![load(libc::BPF_B, IP_HEADER), shift], version),
        (vec![load(libc::BPF_H, SENDER_PORT)], u32::from(peer.port())),
    ];
    for (word, at) in words.into_iter().zip((at..).step_by(4)) {
        checks.push((vec![load(libc::BPF_W, at)], word));
    }
    let mut program = Vec::new();
    for (loads, expected) in checks {
        program.extend(loads);
        program.extend([libc::sock_filter { jt: 1, ..unless_equal(expected, 0) }, DROP]);
    }
    program.push(RECEIVE);
    program
}

/// Classic BPF: receives the whole of the packet or message.
const RECEIVE: libc::sock_filter = instruction(libc::BPF_RET | libc::BPF_K, u32::MAX);

/// Drops it.
const DROP: libc::sock_filter = instruction(libc::BPF_RET | libc::BPF_K, 0);

const fn instruction(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(size: u32, at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, at)
}

/// Skips so many instructions unless what was loaded is this.
fn unless_equal(value: u32, skipped: u8) -> libc::sock_filter {
    libc::sock_filter { jf: skipped, ..instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}

fn attach(socket: BorrowedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    if program.len() > MAX_LENGTH {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` describes `program`, which lives until the call returns; the kernel copies
    // it and checks it.
    unsafe { socket_option::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter) }
}

/// Keeps the filter from being replaced or removed.
fn lock(socket: BorrowedFd) -> io::Result<()> {
    socket_option::set_int(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)
}

/// Whether the filter, or that there is none, is for good.
fn is_locked(socket: BorrowedFd) -> io::Result<bool> {
    socket_option::get(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 0).map(|locked: i32| locked != 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use rustix::net::{SocketFlags, SocketType, socket_with};

    use super::*;

    /// A client and the socket that accepted it, over addresses of a family.
    fn connected(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (client, listener.accept().expect("a client").0)
    }

    fn connect(socket: &TcpStream, to: SocketAddr) -> rustix::io::Result<()> {
        rustix::net::connect(socket, &to)
    }

    fn dissolve(socket: &TcpStream) {
        rustix::net::connect_unspec(socket).expect("dissolved");
        // Instead of minutes.
        rustix::net::sockopt::set_socket_timeout(
            socket,
            rustix::net::sockopt::Timeout::Send,
            Some(Duration::from_millis(100)),
        )
        .expect("a timeout");
    }

    #[test]
    fn a_held_socket_serves_its_client_and_nobody_else() {
        for address in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((address, 0)).expect("a port");
            hold_to_port(listener.as_fd()).expect("held");
            let own = listener.local_addr().expect("an address");
            let mut client = TcpStream::connect(own).expect("connected");
            let mut served = listener.accept().expect("a client").0;
            assert!(is_locked(served.as_fd()).expect("an option"), "inherited");
            client.write_all(b"question").expect("sent");
            let mut question = [0; 8];
            served.read_exact(&mut question).expect("received");
            served.write_all(b"answer").expect("sent");
            let mut answer = [0; 6];
            client.read_exact(&mut answer).expect("received");
            assert_eq!((&question, &answer), (b"question", b"answer"));
            assert_is_useless(&served, address);
            // Also with the port that the filter lets through.
            drop(listener);
            dissolve(&served);
            rustix::net::sockopt::set_socket_reuseaddr(&served, true).expect("an option");
            rustix::net::bind(&served, &own).expect("bound");
            let other = TcpListener::bind((address, 0)).expect("a port");
            assert_no_answer(connect(&served, other.local_addr().expect("an address")));
        }
    }

    /// Neither connects elsewhere nor listens.
    fn assert_is_useless(served: &TcpStream, address: &str) {
        let other = TcpListener::bind((address, 0)).expect("a port");
        dissolve(served);
        assert_no_answer(connect(served, other.local_addr().expect("an address")));
        dissolve(served);
        rustix::net::listen(served, 1).expect("a listener");
        let own = served.local_addr().expect("an address");
        TcpStream::connect_timeout(&own, Duration::from_millis(100)).expect_err("no answer");
    }

    fn assert_no_answer(connected: rustix::io::Result<()>) {
        let why = connected.expect_err("no answer");
        assert!([Errno::INPROGRESS, Errno::AGAIN, Errno::TIMEDOUT].contains(&why), "{why}");
    }

    #[test]
    fn a_socket_that_is_not_held_reaches_others() {
        let (_client, served) = connected("127.0.0.1");
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        dissolve(&served);
        connect(&served, other.local_addr().expect("an address")).expect("the control");
    }

    #[test]
    fn an_accepted_socket_is_held_for_good() {
        let (_client, served) = connected("127.0.0.1");
        hold_to_port(served.as_fd()).expect("held");
        hold_to_port(served.as_fd()).expect("it is already");
        assert_eq!(
            attach(served.as_fd(), &[RECEIVE]).expect_err("locked").kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_is_useless(&served, "127.0.0.1");
    }

    #[test]
    fn other_sockets_stay_as_they_are() {
        let (pair, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        hold_to_port(pair.as_fd()).expect("nothing to do");
        attach(pair.as_fd(), &[RECEIVE]).expect("not locked");
    }

    fn connects(filtered: SocketAddr, to: SocketAddr) -> bool {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        keep_to_peer(socket.as_fd(), filtered).expect("a filter");
        let second = keep_to_peer(socket.as_fd(), to).expect_err("it is locked");
        assert_eq!(second.raw_os_error(), Some(libc::EPERM));
        let wait = Duration::from_millis(200);
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(wait))
            .expect("a timeout");
        rustix::net::connect(&socket, &to).is_ok()
    }

    #[test]
    fn a_socket_is_connected_to_its_peer_and_to_no_other() {
        for host in ["127.0.0.1", "[::1]"] {
            let listen = || TcpListener::bind(format!("{host}:0")).expect("a port");
            let (one, other) = (listen(), listen());
            let [one, other] = [&one, &other].map(|listener| listener.local_addr().expect("an address"));
            assert!(connects(one, one), "{host}");
            assert!(!connects(other, one), "another port than that of {host}");
            let elsewhere: IpAddr =
                if one.is_ipv4() { [127, 0, 0, 2].into() } else { "::2".parse().expect("an address") };
            assert!(!connects(SocketAddr::new(elsewhere, one.port()), one), "another address than {host}");
        }
    }

    #[test]
    fn an_address_of_version_4_is_one_in_either_family() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().expect("an address");
        assert!(connects(mapped, mapped));
        assert!(TcpStream::connect(mapped).is_ok());
    }
}
