//! The peer of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use rustix::net::AddressFamily;
use tine_sys::vsock::VsockAddress;

use crate::net::zone::WithZone;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP client. An IPv4 client of a dual-stack listener has its IPv4 address here.
    Tcp(SocketAddr),
    /// A process of this machine, over a Unix socket. `None` if the kernel does not tell which, as
    /// with a socket of another family.
    Unix(Option<Credentials>),
    /// A process of a virtual machine, of its host, or of this machine, over a vsock socket
    /// (vsock(7)).
    Vsock {
        /// The context identifier of its machine.
        cid: u32,
        /// Its port.
        port: u32,
    },
}

/// The ids of the process that connected a Unix socket, as they were then (`SO_PEERCRED`, unix(7)).
/// In a user namespace, an id that is not mapped is the overflow id (65534).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The process id; `None` for a process outside the PID namespace of the server.
    pub pid: Option<i32>,
}

/// The family of an encoded client of a Unix socket whose credentials are known; those of TCP
/// clients are 4 and 6.
pub(crate) const UNIX_WITH_CREDENTIALS: u64 = 1;

impl Credentials {
    /// The credentials of the process that connected a Unix socket; `None` for other sockets.
    #[cold]
    pub(crate) fn of_peer(socket: BorrowedFd) -> Option<Credentials> {
        let (uid, gid, pid) = tine_sys::socket::peer_credentials(socket).ok()?;
        (uid != u32::MAX).then(|| Credentials { uid, gid, pid: (pid > 0).then_some(pid) })
    }

    fn to_words(self) -> [u64; 3] {
        let Credentials { uid, gid, pid } = self;
        let pid = pid.unwrap_or_default().cast_unsigned();
        [u64::from(uid), u64::from(gid) | u64::from(pid) << 32, UNIX_WITH_CREDENTIALS]
    }

    fn from_words([uid, rest, _]: [u64; 3]) -> Credentials {
        let pid = ((rest >> 32) as u32).cast_signed();
        Credentials { uid: uid as u32, gid: rest as u32, pid: (pid > 0).then_some(pid) }
    }
}

/// The last byte of the words of a vsock client: its address family (AF_VSOCK).
pub(crate) const VSOCK: u64 = 40;

impl Peer {
    /// The peer from the address that `accept` returned; any address but one of TCP or vsock is
    /// that of a Unix socket, which is asked for the credentials of its client.
    #[inline]
    pub(crate) fn from_accept(address: Option<rustix::net::SocketAddrAny>, socket: BorrowedFd) -> Peer {
        let Some(address) = address else { return Peer::Unix(Credentials::of_peer(socket)) };
        if address.address_family() == AddressFamily::VSOCK {
            return Peer::from_vsock(&address);
        }
        match SocketAddr::try_from(address) {
            Ok(address) => Peer::Tcp(canonical(address)),
            Err(_) => Peer::Unix(Credentials::of_peer(socket)),
        }
    }

    #[cold]
    fn from_vsock(address: &rustix::net::SocketAddrAny) -> Peer {
        match VsockAddress::from_any(address) {
            Some(VsockAddress { cid, port }) => Peer::Vsock { cid, port },
            None => Peer::Unix(None),
        }
    }

    /// Encodes the peer in three words, for shared memory.
    #[inline]
    pub(crate) fn to_words(self) -> [u64; 3] {
        let address = match self {
            Peer::Tcp(address) => address,
            Peer::Unix(credentials) => return credentials.map_or([0; 3], Credentials::to_words),
            Peer::Vsock { cid, port } => return [cid.into(), port.into(), VSOCK],
        };
        let (bits, family) = match address.ip() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 4),
            IpAddr::V6(ip) => (ip.to_bits(), 6),
        };
        let scope = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(address) => u64::from(address.scope_id()),
        };
        let rest = family | u64::from(address.port()) << 8 | scope << 32;
        [(bits >> 64) as u64, bits as u64, rest]
    }

    /// The reverse of [`Peer::to_words`].
    pub(crate) fn from_words(words: [u64; 3]) -> Peer {
        let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
        let port = (words[2] >> 8) as u16;
        match words[2] & 0xff {
            4 => Peer::Tcp(SocketAddr::new(IpAddr::V4((bits as u32).into()), port)),
            6 => {
                let scope = (words[2] >> 32) as u32;
                let ip = Ipv6Addr::from_bits(bits);
                Peer::Tcp(std::net::SocketAddrV6::new(ip, port, 0, scope).into())
            }
            UNIX_WITH_CREDENTIALS => Peer::Unix(Some(Credentials::from_words(words))),
            VSOCK => Peer::Vsock { cid: words[0] as u32, port: words[1] as u32 },
            _ => Peer::Unix(None),
        }
    }
}

/// Converts an IPv4-mapped IPv6 address to IPv4 (RFC 4291, 2.5.5.2).
#[inline]
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Writes the address and port of a TCP client, and the user of a client of a Unix socket as access
/// rules name it (`uid:1000`), or `unix` if that is not known.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => WithZone(address).fmt(f),
            Peer::Unix(Some(Credentials { uid, .. })) => write!(f, "uid:{uid}"),
            Peer::Unix(None) => f.write_str("unix"),
            Peer::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_in_words() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:1", "255.255.255.255:0"] {
            let peer = Peer::Tcp(text.parse().expect(text));
            assert_eq!(Peer::from_words(peer.to_words()), peer);
        }
        let credentials = |uid, gid, pid| Peer::Unix(Some(Credentials { uid, gid, pid }));
        for (peer, text) in [
            (Peer::Unix(None), "unix"),
            (credentials(0, 0, Some(1)), "uid:0"),
            (credentials(1000, u32::MAX - 1, Some(i32::MAX)), "uid:1000"),
            (credentials(u32::MAX - 1, 7, None), "uid:4294967294"),
            (Peer::Vsock { cid: 2, port: 5000 }, "vsock:2:5000"),
            (Peer::Vsock { cid: u32::MAX, port: 0 }, "vsock:4294967295:0"),
        ] {
            assert_eq!((Peer::from_words(peer.to_words()), peer.to_string().as_str()), (peer, text));
        }
    }

    #[test]
    fn the_kernel_tells_the_credentials_of_clients_of_unix_sockets_only() {
        use std::os::fd::AsFd;
        use std::os::unix::net::UnixStream;
        let (server, _client) = UnixStream::pair().expect("a pair");
        let own = Credentials {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: Some(std::process::id().cast_signed()),
        };
        assert_eq!(Credentials::of_peer(server.as_fd()), Some(own));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        assert_eq!(Credentials::of_peer(listener.as_fd()), None);
    }

    #[test]
    fn addresses_from_accept() {
        use std::os::fd::AsFd;

        use rustix::net::addr::SocketAddrArg;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let tcp: SocketAddr = "[::ffff:192.0.2.1]:5".parse().expect("an address");
        let unix = rustix::net::SocketAddrUnix::new("/run/x").expect("a path");
        let vsock = VsockAddress { cid: 3, port: 4_000_000_000 };
        for (address, peer) in [
            (Some(tcp.as_any()), "192.0.2.1:5"),
            (Some(unix.as_any()), "unix"),
            (None, "unix"),
            (Some(vsock.as_any()), "vsock:3:4000000000"),
        ] {
            assert_eq!(Peer::from_accept(address, socket.as_fd()).to_string(), peer);
        }
    }

    #[test]
    fn a_peer_is_as_small_as_a_tcp_address() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped = "[::ffff:192.0.2.1]:5".parse().expect("an address");
        assert_eq!(Peer::Tcp(canonical(mapped)).to_string(), "192.0.2.1:5");
    }
}
