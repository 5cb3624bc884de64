//! Who is at the other end.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client. An IPv4 client of a dual-stack listener has its IPv4 address here.
    Tcp(SocketAddr),
    /// A process of this machine, over a Unix socket.
    Unix,
}

/// How much of an address is one who comes: limits are for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// A machine, or a home: an address of IPv4, a /64 of IPv6.
    Source,
    /// Its neighbourhood: a /24 of IPv4, a /56 of IPv6.
    Prefix,
}

/// Addresses that a limit takes as one.
pub(crate) type Block = (Reach, [u64; 3]);

impl Peer {
    /// The peer that `accept` told, or a Unix one if it told none that is TCP.
    #[inline]
    pub(crate) fn from_accept(address: Option<rustix::net::SocketAddrAny>) -> Peer {
        match address.and_then(|address| SocketAddr::try_from(address).ok()) {
            Some(address) => Peer::Tcp(canonical(address)),
            None => Peer::Unix,
        }
    }

    /// The part of its words that says where it comes from, so far, without the port; `None` where that means
    /// nothing.
    pub(crate) fn block_of(words: [u64; 3], reach: Reach) -> Option<Block> {
        let family = words[2] & 0xff;
        let without_port = words[2] & !0xff_ff00;
        let is_link_local = words[0] >> 54 == 0xfe80 >> 6;
        let block = match (family, reach) {
            (4, Reach::Source) => [words[0], words[1], without_port],
            (4, Reach::Prefix) => [words[0], words[1] & !0xff, without_port],
            // On a link, each address is a machine.
            (6, Reach::Source) if is_link_local => [words[0], words[1], without_port],
            // Everybody has a /64, and may come from any address of it (RFC 6177).
            (6, Reach::Source) => [words[0], 0, without_port],
            (6, Reach::Prefix) => [words[0] & !0xff, 0, without_port],
            _ => return None,
        };
        Some((reach, block))
    }

    /// The same for this one.
    pub(crate) fn block(self, reach: Reach) -> Option<Block> {
        Peer::block_of(self.to_words(), reach)
    }

    /// As three words, for shared memory.
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

/// An IPv4 address that came in over an IPv6 socket, as IPv4 (RFC 4291, 2.5.5.2).
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
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_back() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:1", "255.255.255.255:0"] {
            let peer = Peer::Tcp(text.parse().expect(text));
            assert_eq!(Peer::from_words(peer.to_words()), peer);
        }
        assert_eq!(Peer::from_words(Peer::Unix.to_words()), Peer::Unix);
    }

    #[test]
    fn the_source_is_the_address_without_the_port() {
        let source = |text: &str| Peer::Tcp(text.parse().expect(text)).block(Reach::Source);
        assert_eq!(source("192.0.2.1:80"), source("192.0.2.1:65535"));
        assert_ne!(source("192.0.2.1:80"), source("192.0.2.2:80"));
        assert_ne!(source("[fe80::1%1]:80"), source("[fe80::1%2]:80"));
        assert_eq!(Peer::Unix.block(Reach::Source), None);
        // Of IPv6, whoever has a /64 has all of its addresses.
        assert_eq!(source("[2001:db8:0:1::1]:80"), source("[2001:db8:0:1:2:3:4:5]:80"));
        assert_ne!(source("[2001:db8:0:1::1]:80"), source("[2001:db8:0:2::1]:80"));
        assert_ne!(source("[fe80::1%1]:80"), source("[fe80::2%1]:80"));
    }

    #[test]
    fn prefixes_are_wider() {
        let prefix = |text: &str| Peer::Tcp(text.parse().expect(text)).block(Reach::Prefix);
        assert_eq!(prefix("192.0.2.1:80"), prefix("192.0.2.255:81"));
        assert_ne!(prefix("192.0.2.1:80"), prefix("192.0.3.1:80"));
        assert_eq!(prefix("[2001:db8:0:1::1]:80"), prefix("[2001:db8:0:ff::1]:80"));
        assert_ne!(prefix("[2001:db8:0:1::1]:80"), prefix("[2001:db8:0:100::1]:80"));
    }

    #[test]
    fn dual_stack_clients_have_their_own_address() {
        let mapped = "[::ffff:192.0.2.1]:5".parse().expect("an address");
        assert_eq!(Peer::Tcp(canonical(mapped)).to_string(), "192.0.2.1:5");
    }
}
