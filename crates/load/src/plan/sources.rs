//! Source addresses: which local address each connection is made from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

use rustix::io::Errno;

use super::endpoint::Endpoint;

/// A block of addresses in CIDR notation (RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    count: u64,
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Block, String> {
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr =
            address.parse().map_err(|_| format!("invalid address '{text}'; write 127.0.0.0/24"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = match bits {
            "" if !text.contains('/') => width,
            bits => {
                let bits = bits.parse().ok().filter(|bits| *bits <= width);
                bits.ok_or_else(|| format!("invalid prefix length in '{text}'; write 0 to {width}"))?
            }
        };
        let free = width - bits;
        let count = if free >= 63 { 1 << 62 } else { 1 << free };
        let first = match address {
            IpAddr::V4(address) => {
                let mask = if free == 32 { 0 } else { u32::MAX << free };
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = if free == 128 { 0 } else { u128::MAX << free };
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Ok(Block { first, count })
    }
}

/// The block of one address.
impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Block {
        Block { first: address, count: 1 }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        write!(f, "{}/{}", self.first, width - self.count.ilog2())
    }
}

impl Block {
    fn at(&self, number: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_add(number as u32)).into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits().wrapping_add(u128::from(number))).into()
            }
        }
    }
}

/// Returns the address of a connection: each of these blocks' addresses in turn. `None` without
/// blocks.
#[must_use]
pub fn in_turn(blocks: &[Block], connection: u64) -> Option<IpAddr> {
    let count: u64 = blocks.iter().map(|block| block.count).sum();
    let mut at = connection % count.max(1);
    for block in blocks {
        if at < block.count {
            return Some(block.at(at));
        }
        at -= block.count;
    }
    None
}

/// Number of additional source addresses on loopback. Three have 84,000 ports for each destination:
/// enough for 84,000 connections a second that the client closes (on loopback the kernel reuses a
/// port after one second), and fewer than the 131,072 sockets that it keeps in TIME_WAIT
/// (`tcp_max_tw_buckets`).
const LOOPBACK_SOURCES: u64 = 3;

/// Addresses to connect from, each in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    blocks: Vec<Block>,
    /// Whether the blocks were given as an option. Others serve loopback alone, once the address
    /// that the kernel chooses has no port left.
    is_explicit: bool,
}

impl Sources {
    /// Creates the sources of these blocks. Without any, the kernel chooses the address, and if an
    /// endpoint is on loopback, three further loopback addresses stand by.
    #[must_use]
    pub fn new(blocks: Vec<Block>, endpoints: &[&Endpoint]) -> Sources {
        let is_explicit = !blocks.is_empty();
        let mut blocks = blocks;
        if blocks.is_empty() && endpoints.iter().any(|endpoint| endpoint.is_loopback()) {
            blocks = vec![Block { first: Ipv4Addr::new(127, 77, 0, 1).into(), count: LOOPBACK_SOURCES }];
        }
        Sources { blocks, is_explicit }
    }

    /// Returns the source of a connection to an endpoint; `None` leaves it to the kernel.
    fn of(&self, connection: u64, endpoint: &Endpoint) -> Option<SocketAddr> {
        let Endpoint::Tcp(target) = endpoint else { return None };
        let source = in_turn(&self.blocks, connection)?;
        let fits = source.is_ipv4() == target.is_ipv4();
        (fits && (self.is_explicit || endpoint.is_loopback())).then(|| in_zone_of(target, source))
    }

    /// Whether some connection to an endpoint has a source here.
    #[must_use]
    pub fn serve(&self, endpoint: &Endpoint) -> bool {
        (0..self.blocks.len()).any(|at| {
            let before: u64 = self.blocks[..at].iter().map(|block| block.count).sum();
            self.of(before, endpoint).is_some()
        })
    }

    /// Whether there are sources for an endpoint besides the one that the kernel chooses, to use
    /// once that one has no port left.
    #[must_use]
    pub fn has_more(&self, endpoint: &Endpoint) -> bool {
        !self.is_explicit && self.of(0, endpoint).is_some()
    }

    /// Binds a socket to the source of its connection, without taking a port yet. `out_of_ports`:
    /// the kernel's choice has no port left.
    ///
    /// # Errors
    /// EADDRNOTAVAIL if the address is not one of this machine.
    pub fn bind(
        &self,
        socket: &OwnedFd,
        connection: u64,
        endpoint: &Endpoint,
        out_of_ports: bool,
    ) -> Result<(), Errno> {
        if !self.is_explicit && !out_of_ports {
            return Ok(());
        }
        let Some(source) = self.of(connection, endpoint) else { return Ok(()) };
        // Older kernels take the port now, for all destinations: fewer connections, nothing worse.
        let _ = tine_sys::socket::leave_port_to_connect(socket.as_fd());
        rustix::net::bind(socket, &source)
    }
}

/// Returns the socket address of a source, without a port. A link-local source has the zone of its
/// target.
fn in_zone_of(target: &SocketAddr, source: IpAddr) -> SocketAddr {
    match (source, target) {
        (IpAddr::V6(ip), SocketAddr::V6(target)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, 0, 0, target.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Endpoint {
        Endpoint::Tcp(address.parse().expect(address))
    }

    #[test]
    fn blocks_are_parsed_in_cidr_notation() {
        for (text, first, count) in [
            ("127.0.0.9", "127.0.0.9", 1),
            ("127.0.0.9/24", "127.0.0.0", 256),
            ("10.0.0.0/8", "10.0.0.0", 1 << 24),
            ("0.0.0.0/0", "0.0.0.0", 1 << 32),
            ("fd00::7/126", "fd00::4", 4),
            ("fd00::/32", "fd00::", 1 << 62),
        ] {
            let block = Block { first: first.parse().expect(first), count };
            assert_eq!(text.parse(), Ok(block), "{text}");
        }
        for text in ["", "127.0.0.0/", "127.0.0.0/33", "127.0.0.0/x", "host", "::/129"] {
            text.parse::<Block>().expect_err(text);
        }
    }

    #[test]
    fn connections_take_the_sources_in_turn() {
        let blocks = ["127.0.1.0/31", "127.0.2.7"].map(|text| text.parse().expect(text));
        let endpoint = tcp("127.0.0.1:80");
        let sources = Sources::new(blocks.to_vec(), &[&endpoint]);
        let of = |number| sources.of(number, &endpoint).expect("a source").ip().to_string();
        assert_eq!([0, 1, 2, 3].map(of), ["127.0.1.0", "127.0.1.1", "127.0.2.7", "127.0.1.0"]);
    }

    #[test]
    fn a_link_local_source_has_the_zone_of_its_target() {
        let target = SocketAddrV6::new("fe80::1".parse().expect("an address"), 80, 0, 7);
        let endpoint = Endpoint::Tcp(target.into());
        let sources = Sources::new(vec!["fe80::2".parse().expect("a block")], &[&endpoint]);
        assert_eq!(sources.of(0, &endpoint).expect("a source").to_string(), "[fe80::2%7]:0");
    }

    #[test]
    fn loopback_has_three_further_sources_unless_some_are_given() {
        let (near, far, six) = (tcp("127.0.0.1:80"), tcp("192.0.2.1:80"), tcp("[::1]:80"));
        let sources = Sources::new(Vec::new(), &[&near, &far]);
        let of = |number, endpoint| sources.of(number, endpoint).map(|source| source.ip().to_string());
        assert_eq!(of(0, &near).as_deref(), Some("127.77.0.1"));
        assert_eq!(of(5, &near).as_deref(), Some("127.77.0.3"));
        assert_eq!((of(0, &far), of(0, &six)), (None, None));
        assert!(sources.has_more(&near) && !sources.has_more(&far));
        assert_eq!(Sources::new(Vec::new(), &[&far]).of(0, &far), None);
    }
}
