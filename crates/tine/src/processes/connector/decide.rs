//! Decides what a call of connect(2) comes to. No system call here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::io::Errno;
use tine_sys::socket::TcpState;

use crate::jail::network_allow::AllowedAddresses;

/// Bytes of an address, at most (`struct sockaddr_storage`).
pub(super) const MAX_ADDRESS: usize = 128;

/// `AF_INET` and `AF_INET6` (address_families(7)).
const VERSION_4: u16 = 2;
const VERSION_6: u16 = 10;

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The address, if it is one of the internet protocols.
    pub(super) destination: Option<SocketAddr>,
    /// The socket, if it is one of TCP.
    pub(super) socket: Option<AskedSocket>,
}

/// The TCP socket of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AskedSocket {
    pub(super) state: TcpState,
    /// The error of an earlier connection or attempt, which was not told yet.
    pub(super) error: Option<Errno>,
    /// It is one of the machine's network, which was passed into the jail.
    pub(super) is_of_machine: bool,
}

/// What is allowed.
#[derive(Debug)]
pub(super) struct ConnectRules {
    pub(super) allowed: AllowedAddresses,
    /// Whether jails have loopback addresses of their own.
    pub(super) has_loopback: bool,
}

/// What a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectVerdict {
    /// What the kernel makes of it, in the network of the jail.
    Continue,
    Refuse(Errno),
    Connect(SocketAddr),
}

pub(super) fn decide(asked: &Asked, rules: &ConnectRules) -> ConnectVerdict {
    let (Some(to), Some(socket)) = (asked.destination, asked.socket) else {
        return ConnectVerdict::Continue;
    };
    // A connection that was reset, or disconnected by its owner, is no attempt that has failed.
    let error = socket.error.filter(|error| *error != Errno::CONNRESET);
    match (socket.state, error) {
        (TcpState::Connecting, _) => ConnectVerdict::Refuse(Errno::ALREADY),
        (TcpState::Other, _) => ConnectVerdict::Refuse(Errno::ISCONN),
        (TcpState::Closed, Some(error)) => ConnectVerdict::Refuse(error),
        (TcpState::Closed, None) if rules.allowed.has(to) => ConnectVerdict::Connect(to),
        (TcpState::Closed, None) => {
            let is_own = rules.has_loopback && to.ip().to_canonical().is_loopback();
            match is_own && !socket.is_of_machine {
                true => ConnectVerdict::Continue,
                false => ConnectVerdict::Refuse(Errno::ACCESS),
            }
        }
    }
}

/// The address in the bytes of a `struct sockaddr`, if it is one of the internet protocols, as the
/// kernel reads it. The scope of an IPv6 address is left out: it is the number of an interface,
/// which the network of the jail has not.
pub(super) fn destination(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        // 16 bytes, of which the last 8 are not used (ip(7)).
        VERSION_4 if bytes.len() >= 16 => {
            let address = Ipv4Addr::from_octets(*bytes.get(4..)?.first_chunk()?);
            let here = if address.is_unspecified() { Ipv4Addr::LOCALHOST } else { address };
            Some(SocketAddr::from((here, port)))
        }
        // Without the scope, 24 bytes (RFC 2133).
        VERSION_6 => {
            let address = Ipv6Addr::from_octets(*bytes.get(8..)?.first_chunk()?);
            let here = match address.to_canonical() {
                IpAddr::V4(mapped) if mapped.is_unspecified() => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
                IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST,
                _ => address,
            };
            Some(SocketAddr::V6(SocketAddrV6::new(here, port, 0, 0)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an address, as connect(2) gets them.
    fn bytes(family: u16, address: &[u8], length: usize) -> Vec<u8> {
        let port = 443_u16.to_be_bytes();
        let mut bytes = [&family.to_ne_bytes()[..], &port, address].concat();
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn addresses_are_read_as_the_kernel_does() {
        let six = |text: &str| {
            let address: Ipv6Addr = text.parse().expect(text);
            [&[0; 4][..], &address.octets()].concat()
        };
        for (family, address, length, expected) in [
            (2, vec![192, 0, 2, 1], 16, Some("192.0.2.1:443")),
            (2, vec![192, 0, 2, 1], 128, Some("192.0.2.1:443")),
            (2, vec![192, 0, 2, 1], 15, None),
            (2, vec![0; 4], 16, Some("127.0.0.1:443")),
            (10, six("2001:db8::1"), 28, Some("[2001:db8::1]:443")),
            (10, six("2001:db8::1"), 24, Some("[2001:db8::1]:443")),
            (10, six("2001:db8::1"), 23, None),
            (10, six("::"), 28, Some("[::1]:443")),
            (10, six("::ffff:0.0.0.0"), 28, Some("[::ffff:127.0.0.1]:443")),
            (10, six("::ffff:192.0.2.1"), 28, Some("[::ffff:192.0.2.1]:443")),
            // AF_UNSPEC, AF_UNIX, AF_NETLINK.
            (0, vec![192, 0, 2, 1], 16, None),
            (1, b"/run/socket".to_vec(), 110, None),
            (16, vec![], 12, None),
        ] {
            let expected = expected.map(|text| text.parse::<SocketAddr>().expect(text));
            assert_eq!(destination(&bytes(family, &address, length)), expected, "{family} {address:?}");
        }
        for length in 0..4 {
            assert_eq!(destination(&[0, 0, 0, 0][..length]), None);
        }
    }

    #[test]
    fn a_call_is_continued_refused_or_made_from_here() {
        use ConnectVerdict::{Connect, Continue, Refuse};
        let endpoints = ["192.0.2.1:443", "127.0.0.1:5432"].map(|text| text.parse().expect(text));
        let allowed = AllowedAddresses::resolve(&endpoints, |_| Ok(Vec::new())).expect("addresses");
        let rules = |has_loopback| ConnectRules { allowed: allowed.clone(), has_loopback };
        let (empty, loopback) = (rules(false), rules(true));
        let new = AskedSocket { state: TcpState::Closed, error: None, is_of_machine: false };
        let passed = AskedSocket { is_of_machine: true, ..new };
        let in_state = |state| Some(AskedSocket { state, ..passed });
        let with_error = |error| Some(AskedSocket { error: Some(error), ..passed });
        let failed = with_error(Errno::CONNREFUSED);
        let to = |text: &str| text.parse::<SocketAddr>().expect(text);
        let (web, other) = (to("192.0.2.1:443"), to("192.0.2.1:80"));
        let (database, own) = (to("127.0.0.1:5432"), to("127.0.0.1:80"));
        for (destination, socket, in_empty, in_loopback) in [
            (None, Some(new), Continue, Continue),
            (None, None, Continue, Continue),
            // A datagram, or no socket.
            (Some(web), None, Continue, Continue),
            (Some(web), Some(new), Connect(web), Connect(web)),
            (Some(web), Some(passed), Connect(web), Connect(web)),
            (Some(other), Some(new), Refuse(Errno::ACCESS), Refuse(Errno::ACCESS)),
            (Some(database), Some(new), Connect(database), Connect(database)),
            (Some(own), Some(new), Refuse(Errno::ACCESS), Continue),
            // The kernel would connect it in the network of the machine.
            (Some(own), Some(passed), Refuse(Errno::ACCESS), Refuse(Errno::ACCESS)),
            (Some(web), in_state(TcpState::Connecting), Refuse(Errno::ALREADY), Refuse(Errno::ALREADY)),
            (Some(web), in_state(TcpState::Other), Refuse(Errno::ISCONN), Refuse(Errno::ISCONN)),
            (Some(web), failed, Refuse(Errno::CONNREFUSED), Refuse(Errno::CONNREFUSED)),
            (Some(web), with_error(Errno::CONNRESET), Connect(web), Connect(web)),
        ] {
            let asked = Asked { destination, socket };
            assert_eq!(decide(&asked, &empty), in_empty, "{asked:?}");
            assert_eq!(decide(&asked, &loopback), in_loopback, "{asked:?}");
        }
    }
}
