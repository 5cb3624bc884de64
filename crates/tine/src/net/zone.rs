//! Zones of link-local IPv6 addresses: the network interface after the `%` (RFC 4007, 11).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice};

/// Divides `fe80::1%eth0` into address and zone.
pub(crate) fn divide(text: &str) -> (&str, Option<&str>) {
    match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    }
}

/// Whether an address means nothing without a zone.
pub(crate) fn needs_zone(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

/// The number of a zone: of the network interface of that name, or the number itself.
///
/// # Errors
/// ENODEV if there is no such interface.
pub(crate) fn index(zone: &str) -> Result<u32, Errno> {
    match zone.parse() {
        Ok(number) => Ok(number),
        Err(_) => netdevice::name_to_index(&any_socket()?, zone),
    }
}

/// A socket for questions about interfaces (netdevice(7)).
fn any_socket() -> Result<std::os::fd::OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// A socket address, with the zone by the name of its interface.
pub(crate) struct WithZone<'a>(pub(crate) &'a SocketAddr);

impl fmt::Display for WithZone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                write!(f, "[{}]:{}", IpWithZone(self.0), address.port())
            }
            plain => plain.fmt(f),
        }
    }
}

/// The IP address of a socket address, with its zone.
pub(crate) struct IpWithZone<'a>(pub(crate) &'a SocketAddr);

impl fmt::Display for IpWithZone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.0 {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        match (self.0.ip(), scope) {
            (ip, 0) => ip.fmt(f),
            (IpAddr::V4(ip), _) => ip.fmt(f),
            (IpAddr::V6(ip), scope) => {
                // The number, where the interface is gone.
                match any_socket().and_then(|socket| netdevice::index_to_name(&socket, scope)) {
                    Ok(name) => write!(f, "{ip}%{name}"),
                    Err(_) => write!(f, "{ip}%{scope}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_the_names_of_interfaces() {
        let loopback = index("lo").expect("every machine has it");
        assert_eq!(index(&loopback.to_string()), Ok(loopback));
        assert_eq!(index("no-such-one"), Err(Errno::NODEV));
        for (scope, ip) in [(loopback, "fe80::1%lo"), (0, "fe80::1"), (999_999, "fe80::1%999999")] {
            let address = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), 7, 0, scope);
            let address = SocketAddr::V6(address);
            assert_eq!(IpWithZone(&address).to_string(), ip);
            assert_eq!(WithZone(&address).to_string(), format!("[{ip}]:7"));
        }
        let plain: SocketAddr = "192.0.2.1:7".parse().expect("an address");
        assert_eq!(WithZone(&plain).to_string(), "192.0.2.1:7");
        assert_eq!(IpWithZone(&plain).to_string(), "192.0.2.1");
    }
}
