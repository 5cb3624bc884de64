//! The peer of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::net::zone::WithZone;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP client. An IPv4 client of a dual-stack listener has its IPv4 address here.
    Tcp(SocketAddr),
    /// A process of this machine, over a Unix socket.
    Unix,
}

impl Peer {
    /// The peer from the address that `accept` returned; any address but a TCP one is that of a
    /// Unix socket.
    #[inline]
    pub(crate) fn from_accept(address: Option<rustix::net::SocketAddrAny>) -> Peer {
        match address.and_then(|address| SocketAddr::try_from(address).ok()) {
            Some(address) => Peer::Tcp(canonical(address)),
            None => Peer::Unix,
        }
    }

    /// Encodes the peer in three words, for shared memory.
    #[inline]
    pub(crate) fn to_words(self) -> [u64; 3] {
        let Peer::Tcp(address) = self else {
            return [0; 3];
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
            _ => Peer::Unix,
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

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => WithZone(address).fmt(f),
            Peer::Unix => f.write_str("unix"),
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
        assert_eq!(Peer::from_words(Peer::Unix.to_words()), Peer::Unix);
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped = "[::ffff:192.0.2.1]:5".parse().expect("an address");
        assert_eq!(Peer::Tcp(canonical(mapped)).to_string(), "192.0.2.1:5");
    }
}
