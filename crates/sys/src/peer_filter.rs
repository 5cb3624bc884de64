//! A filter of the packets of a TCP socket, for one that is passed to a process that is not trusted
//! with the network of the socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Offsets from the header of the internet protocol (`SKF_NET_OFF`, linux/filter.h); others are
/// from the TCP header.
const INTERNET: u32 = (-0x10_0000_i32).cast_unsigned();

/// Where the headers have the source: the port of TCP, the addresses of both versions.
const PORT_AT: u32 = 0;
const IPV4_AT: u32 = INTERNET + 12;
const IPV6_AT: u32 = INTERNET + 8;

/// Has a TCP socket receive packets of this peer only, for good (`SO_ATTACH_FILTER`,
/// `SO_LOCK_FILTER`, socket(7)). If the socket is disconnected later, by connect(2) to
/// `AF_UNSPEC`, it can neither be connected to another peer nor accept connections of others.
///
/// # Errors
/// ENOMEM; EPERM if the socket has such a filter already.
pub fn keep_to_peer(socket: BorrowedFd, peer: SocketAddr) -> io::Result<()> {
    let program = program(peer);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` describes `program`, which lives until the call returns; the kernel copies
    // it and checks it.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    crate::check(attached.into())?;
    let locked: libc::c_int = 1;
    // SAFETY: the option takes an int, and the pointer is valid for its size.
    let locked = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LOCK_FILTER,
            (&raw const locked).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    crate::check(locked.into()).map(drop)
}

/// Classic BPF: returns the whole packet if version, port and address are those of the peer.
fn program(peer: SocketAddr) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |width: u32, at: u32| instruction(libc::BPF_LD | width | libc::BPF_ABS, at);
    let (version, words, at): (u32, Vec<u32>, u32) = match peer.ip().to_canonical() {
        IpAddr::V4(address) => (4, vec![address.to_bits()], IPV4_AT),
        IpAddr::V6(address) => {
            let words = address.octets();
            let words = words.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word));
            (6, words.collect(), IPV6_AT)
        }
    };
    let shift = instruction(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 4);
    let mut checks = vec![
        (vec![load(libc::BPF_B, INTERNET), shift], version),
        (vec![load(libc::BPF_H, PORT_AT)], u32::from(peer.port())),
    ];
    for (word, at) in words.into_iter().zip((at..).step_by(4)) {
        checks.push((vec![load(libc::BPF_W, at)], word));
    }
    let mut program = Vec::new();
    for (loads, expected) in checks {
        program.extend(loads);
        // The next two instructions drop the packet.
        let equal = instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, expected);
        program.push(libc::sock_filter { jt: 1, ..equal });
        program.push(instruction(libc::BPF_RET | libc::BPF_K, 0));
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, u32::MAX));
    program
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

    use super::*;

    fn connects(filtered: SocketAddr, to: SocketAddr) -> bool {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        keep_to_peer(socket.as_fd(), filtered).expect("a filter");
        let second = keep_to_peer(socket.as_fd(), to).expect_err("it is locked");
        assert_eq!(second.raw_os_error(), Some(libc::EPERM));
        let wait = std::time::Duration::from_millis(200);
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(wait))
            .expect("a timeout");
        connect(&socket, &to).is_ok()
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
