//! Where connections go to, and where they come from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::findings::machine::Machine;

/// An address that can be connected to.
#[derive(Clone, Debug)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(SocketAddrUnix),
}

impl Place {
    /// A socket of the right family, which does not block.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn socket(&self) -> Result<OwnedFd, Errno> {
        let family = match self {
            Place::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Place::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Place::Unix(_) => AddressFamily::UNIX,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None)
    }

    /// Begins to connect; asked again, says how it goes.
    ///
    /// # Errors
    /// Those of connect(2): EINPROGRESS, then EALREADY, until it is decided.
    pub fn connect(&self, socket: &OwnedFd) -> Result<(), Errno> {
        match self {
            Place::Tcp(address) => rustix::net::connect(socket, address),
            Place::Unix(address) => rustix::net::connect(socket, address),
        }
    }

    fn is_loopback(&self) -> bool {
        matches!(self, Place::Tcp(SocketAddr::V4(address)) if address.ip().is_loopback())
    }
}

/// Addresses to connect from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    blocks: Vec<Block>,
    count: u64,
    /// Asked for, so used for whatever they may be; else for loopback alone, when the kernel's own choice has no port left.
    asked_for: bool,
}

/// Addresses that follow each other, as CIDR notation says (RFC 4632).
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
            address.parse().map_err(|_| format!("'{text}' is no address; write 127.0.0.0/24"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 =
            match bits {
                "" if !text.contains('/') => width,
                bits => bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(|| {
                    format!("'{text}' has no prefix length from 0 to {width} after the slash")
                })?,
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

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        write!(f, "{}/{}", self.first, width - self.count.ilog2())
    }
}

impl Block {
    /// The address that comes so many after the one after the first.
    fn host(self, number: u64) -> Block {
        Block { first: self.at(1 + number), count: 1 }
    }

    fn at(&self, number: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_add(number as u32)).into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits().wrapping_add(u128::from(number))).into()
            }
        }
    }
}

/// Sources on loopback where none are asked for and the ports of 127.0.0.1 do not suffice (some servers mind others). Three have 84,000 ports for each destination: enough for
/// 84,000 connections a second that the client closes (loopback may use a port again after one), and fewer than
/// the 131,072 that the kernel keeps in TIME_WAIT before it cuts that short (`tcp_max_tw_buckets`).
const LOOPBACK_SOURCES: u64 = 3;

impl Sources {
    /// Those of these blocks. Without any, the kernel chooses; but on loopback there are three more.
    #[must_use]
    pub fn new(blocks: Vec<Block>, places: &[&Place]) -> Sources {
        let (mut blocks, asked_for) = (blocks.clone(), !blocks.is_empty());
        if blocks.is_empty() && places.iter().any(|place| place.is_loopback()) {
            blocks = vec![Block { first: Ipv4Addr::new(127, 77, 0, 1).into(), count: LOOPBACK_SOURCES }];
        }
        let count = blocks.iter().map(|block| block.count).sum();
        Sources { blocks, count, asked_for }
    }

    /// The source on loopback of a round of a comparison, which the rounds before did not have; after so many
    /// rounds they come again, as together they must have fewer ports than the kernel keeps in TIME_WAIT, and there must
    /// be room for those of one more.
    #[must_use]
    pub fn of_round(round: usize, machine: &Machine) -> Block {
        let rounds = (machine.most_in_time_wait() / machine.ports().max(1)).saturating_sub(1).clamp(1, 200);
        Block { first: Ipv4Addr::new(127, 77, 1, 0).into(), count: 1 }.host(round as u64 % rounds)
    }

    /// The source of a connection to a place; each in turn. `None` leaves it to the kernel.
    fn of(&self, connection: u64, place: &Place) -> Option<SocketAddr> {
        let Place::Tcp(target) = place else { return None };
        let mut at = connection % self.count.max(1);
        let block = self.blocks.iter().find(|block| {
            let found = at < block.count;
            if !found {
                at -= block.count;
            }
            found
        })?;
        let source = block.at(at);
        let fits = source.is_ipv4() == target.is_ipv4();
        (fits && (self.asked_for || place.is_loopback())).then(|| SocketAddr::new(source, 0))
    }

    /// Whether some connection to a place has a source here.
    #[must_use]
    pub fn serve(&self, place: &Place) -> bool {
        (0..self.blocks.len()).any(|at| {
            let before: u64 = self.blocks[..at].iter().map(|block| block.count).sum();
            self.of(before, place).is_some()
        })
    }

    /// Whether there are sources besides the kernel's choice for a place, where that has no port left.
    #[must_use]
    pub fn has_more(&self, place: &Place) -> bool {
        !self.asked_for && self.of(0, place).is_some()
    }

    /// Binds a socket to the source of its connection, without taking a port yet. `need_more`: the kernel's choice has no port
    /// left.
    ///
    /// # Errors
    /// EADDRNOTAVAIL where the address is none of this machine.
    pub fn bind(
        &self,
        socket: &OwnedFd,
        connection: u64,
        place: &Place,
        need_more: bool,
    ) -> Result<(), Errno> {
        if !self.asked_for && !need_more {
            return Ok(());
        }
        let Some(source) = self.of(connection, place) else { return Ok(()) };
        // An older kernel takes the port now, for all destinations: fewer connections, nothing worse.
        let _ = tine_sys::socket::leave_port_to_connect(socket.as_fd());
        rustix::net::bind(socket, &source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Place {
        Place::Tcp(address.parse().expect(address))
    }

    #[test]
    fn blocks() {
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
    fn sources_take_turns() {
        let blocks = ["127.0.1.0/31", "127.0.2.7"].map(|text| text.parse().expect(text));
        let place = tcp("127.0.0.1:80");
        let sources = Sources::new(blocks.to_vec(), &[&place]);
        let of = |number| sources.of(number, &place).expect("a source").ip().to_string();
        assert_eq!([0, 1, 2, 3].map(of), ["127.0.1.0", "127.0.1.1", "127.0.2.7", "127.0.1.0"]);
    }

    #[test]
    fn rounds_have_sources_of_their_own_as_far_as_time_wait_allows() {
        let settings = [("ipv4/ip_local_port_range", "32768 60999"), ("ipv4/tcp_max_tw_buckets", "131072")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let machine = Machine { settings, ..Machine::default() };
        let of = |round| Sources::of_round(round, &machine).to_string();
        assert_eq!(
            [0, 1, 3, 4].map(of),
            ["127.77.1.1/32", "127.77.1.2/32", "127.77.1.1/32", "127.77.1.2/32"]
        );
        assert_eq!(Sources::of_round(9, &Machine::default()).to_string(), "127.77.1.1/32");
    }

    #[test]
    fn loopback_has_three_unless_asked_for() {
        let (near, far, six) = (tcp("127.0.0.1:80"), tcp("192.0.2.1:80"), tcp("[::1]:80"));
        let sources = Sources::new(Vec::new(), &[&near, &far]);
        let of = |number, place| sources.of(number, place).map(|source| source.ip().to_string());
        assert_eq!(of(0, &near).as_deref(), Some("127.77.0.1"));
        assert_eq!(of(5, &near).as_deref(), Some("127.77.0.3"));
        assert_eq!((of(0, &far), of(0, &six)), (None, None));
        assert!(sources.has_more(&near) && !sources.has_more(&far));
        assert_eq!(Sources::new(Vec::new(), &[&far]).of(0, &far), None);
    }
}
