//! The header of the PROXY protocol, by which a proxy tells a server the address of its client
//! (haproxy/doc/proxy-protocol.txt). Versions 1 and 2, as a sender.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, getsockname};

use super::ProxyVersion;
use super::endpoint::Endpoint;
use super::sources::{Block, in_turn};

/// The headers of all connections of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeaders {
    /// The version.
    pub version: ProxyVersion,
    /// Source addresses, each connection the next. Empty: each connection's own.
    pub sources: Vec<Block>,
}

impl ProxyHeaders {
    /// Returns the header of a connection. `own`: the local and the remote address of its socket;
    /// `None` for a Unix socket.
    #[must_use]
    pub fn of(&self, connection: u64, own: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
        let addresses = match in_turn(&self.sources, connection) {
            Some(source) => Some(from_source(source, connection, own)),
            None => own,
        };
        match self.version {
            ProxyVersion::V1 => version_1(addresses),
            ProxyVersion::V2 => version_2(addresses),
        }
    }

    /// Sends the header of a new connection to an endpoint. `more`: a message follows at once. Then
    /// the kernel keeps the header until that comes, so that both are one segment; in a segment of
    /// its own, the header would delay the message until it is acknowledged (RFC 896).
    ///
    /// # Errors
    /// Those of getsockname(2) and send(2).
    pub fn send(
        &self,
        socket: &OwnedFd,
        endpoint: &Endpoint,
        connection: u64,
        more: bool,
    ) -> Result<(), Errno> {
        let header = self.of(connection, addresses(socket, endpoint)?);
        let more = if more { SendFlags::MORE } else { SendFlags::empty() };
        // The send buffer of a new connection is larger than any header (socket(7)).
        match rustix::net::send(socket, &header, SendFlags::NOSIGNAL | more)? {
            sent if sent == header.len() => Ok(()),
            _ => Err(Errno::NOBUFS),
        }
    }
}

/// Returns the local and the remote address of a TCP socket, `None` for others. The remote address
/// is the endpoint's: getpeername(2) fails if the server has reset the connection by now.
fn addresses(socket: &OwnedFd, endpoint: &Endpoint) -> Result<Option<(SocketAddr, SocketAddr)>, Errno> {
    let Endpoint::Tcp(remote) = endpoint else { return Ok(None) };
    let local = SocketAddr::try_from(getsockname(socket)?).ok();
    Ok(local.map(|local| (local, *remote)))
}

/// Returns source and destination for a given source. The port is that of the connection. The
/// destination is the connection's, if it is of the same family; a header has one family, and the
/// source is what it is sent for.
fn from_source(
    source: IpAddr,
    connection: u64,
    own: Option<(SocketAddr, SocketAddr)>,
) -> (SocketAddr, SocketAddr) {
    let unspecified: IpAddr = match source {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A Unix socket has no port.
    let number = 1024 + (connection % (65_536 - 1024)) as u16;
    let (port, destination) = own.map_or((number, SocketAddr::new(unspecified, 0)), |(local, remote)| {
        let ip = remote.ip().to_canonical();
        let fits = ip.is_ipv4() == source.is_ipv4();
        (local.port(), SocketAddr::new(if fits { ip } else { unspecified }, remote.port()))
    });
    (SocketAddr::new(source, port), destination)
}

/// Converts IPv4 addresses in IPv6 form to IPv4, if both are: version 1 has no such form.
fn canonical((source, destination): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    match from.is_ipv4() == to.is_ipv4() {
        true => (SocketAddr::new(from, source.port()), SocketAddr::new(to, destination.port())),
        false => (source, destination),
    }
}

/// Section 2.1 of the specification.
fn version_1(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = addresses.map(canonical) else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// The first bytes of version 2, section 2.2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
/// TCP over IPv4, over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Section 2.2 of the specification. Without addresses, the family is AF_UNSPEC: the receiver uses
/// those of the connection.
fn version_2(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let (family, block) = match addresses.map(canonical) {
        Some((SocketAddr::V4(source), SocketAddr::V4(destination))) => {
            (TCP4, [source.ip().octets(), destination.ip().octets()].concat())
        }
        Some((source, destination)) => {
            let octets = |address: SocketAddr| match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            (TCP6, [octets(source), octets(destination)].concat())
        }
        None => (UNSPEC, Vec::new()),
    };
    let ports = addresses.map_or(Vec::new(), |(source, destination)| {
        [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat()
    });
    let length = (block.len() + ports.len()) as u16;
    [&SIGNATURE[..], &[PROXY, family], &length.to_be_bytes(), &block, &ports].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(local: &str, remote: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((local.parse().expect(local), remote.parse().expect(remote)))
    }

    fn header(
        version: ProxyVersion,
        sources: &[&str],
        number: u64,
        own: Option<(SocketAddr, SocketAddr)>,
    ) -> Vec<u8> {
        let sources = sources.iter().map(|text| text.parse().expect(text)).collect();
        ProxyHeaders { version, sources }.of(number, own)
    }

    #[test]
    fn version_1_is_a_line() {
        let (four, six) = (own("127.0.0.1:40000", "127.0.0.2:80"), own("[::1]:65535", "[fe80::2]:1"));
        let mapped = own("[::ffff:10.0.0.1]:9", "[::ffff:10.0.0.2]:8");
        for (sources, own, line) in [
            (&[][..], four, "PROXY TCP4 127.0.0.1 127.0.0.2 40000 80\r\n"),
            (&[], six, "PROXY TCP6 ::1 fe80::2 65535 1\r\n"),
            (&[], mapped, "PROXY TCP4 10.0.0.1 10.0.0.2 9 8\r\n"),
            (&[], None, "PROXY UNKNOWN\r\n"),
            (&["192.0.2.9"], four, "PROXY TCP4 192.0.2.9 127.0.0.2 40000 80\r\n"),
            (&["192.0.2.9"], six, "PROXY TCP4 192.0.2.9 0.0.0.0 65535 1\r\n"),
            (&["192.0.2.9"], mapped, "PROXY TCP4 192.0.2.9 10.0.0.2 9 8\r\n"),
            (&["2001:db8::/127"], four, "PROXY TCP6 2001:db8::1 :: 40000 80\r\n"),
            (&["192.0.2.9"], None, "PROXY TCP4 192.0.2.9 0.0.0.0 1029 0\r\n"),
        ] {
            let header = header(ProxyVersion::V1, sources, 5, own);
            assert_eq!(String::from_utf8_lossy(&header), line);
            // The longest line of the specification.
            assert!(header.len() <= 107);
        }
    }

    #[test]
    fn version_2_is_binary() {
        let start = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
        let four = own("127.0.0.1:40000", "127.0.0.2:80");
        let six = own("[::1]:65535", "[fe80::2]:1");
        let loopback = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
        let link_local = b"\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x02";
        let six_bytes = [&b"\x21\x21\x00\x24"[..], loopback, link_local, b"\xff\xff\x00\x01"].concat();
        for (sources, own, rest) in [
            (&[][..], four, &b"\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x02\x9c\x40\x00\x50"[..]),
            (&[], six, &six_bytes),
            (&[], None, b"\x21\x00\x00\x00"),
            (&["192.0.2.9"], four, b"\x21\x11\x00\x0c\xc0\x00\x02\x09\x7f\x00\x00\x02\x9c\x40\x00\x50"),
            (&["192.0.2.9"], None, b"\x21\x11\x00\x0c\xc0\x00\x02\x09\0\0\0\0\x04\x05\x00\x00"),
        ] {
            let header = header(ProxyVersion::V2, sources, 5, own);
            assert_eq!(header, [&start[..], rest].concat());
        }
    }

    #[test]
    fn connections_take_the_given_sources_in_turn() {
        let line = |number| {
            let header = header(ProxyVersion::V1, &["192.0.2.0/31", "192.0.2.9"], number, None);
            String::from_utf8(header).expect("text").split(' ').nth(2).map(str::to_owned)
        };
        let sources: Vec<String> = (0..4).filter_map(line).collect();
        assert_eq!(sources, ["192.0.2.0", "192.0.2.1", "192.0.2.9", "192.0.2.0"]);
        // The ports of Unix sockets stay in range.
        let far = header(ProxyVersion::V1, &["192.0.2.9"], u64::MAX, None);
        assert!(far.ends_with(b" 0\r\n"));
    }
}
