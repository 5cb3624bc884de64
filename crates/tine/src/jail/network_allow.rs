//! The endpoints that a full jail may connect to (`--network-allow`): as they are written, and the
//! addresses that they stand for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::error::Error;

/// An endpoint as it is written: `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedEndpoint {
    host: AllowedHost,
    /// `None` for each port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AllowedHost {
    Network(AddressBlock),
    Name(String),
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AddressBlock {
    first: IpAddr,
    length: u32,
}

impl AddressBlock {
    fn of_one(address: IpAddr) -> AddressBlock {
        AddressBlock { first: address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    fn has(self, address: IpAddr) -> bool {
        self == AddressBlock::around(address, self.length) && self.first.is_ipv4() == address.is_ipv4()
    }

    /// The block of this length that has an address.
    fn around(address: IpAddr, length: u32) -> AddressBlock {
        let first = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        AddressBlock { first, length }
    }
}

impl FromStr for AllowedEndpoint {
    type Err = Error;

    /// Reads `10.0.0.5:443`, `[2001:db8::1]:443`, `10.0.0.0/8:443`, `[2001:db8::]/32:443` or
    /// `[2001:db8::/32]:443`, `db.example:5432`, and `*` for the port.
    fn from_str(text: &str) -> Result<AllowedEndpoint, Error> {
        let wrong = |why: &str| {
            Error::usage(
                format_args!("{text:?} is no endpoint that can be allowed: {why}"),
                "write HOST:PORT, as in db.example:5432, [2001:db8::1]:443 or 10.0.0.0/8:*",
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let port = match port {
            "*" => None,
            port => match port.parse::<u16>() {
                Ok(port) if port != 0 => Some(port),
                _ => return Err(wrong("the port is neither a number from 1 to 65535 nor *")),
            },
        };
        Ok(AllowedEndpoint { host: host.parse().map_err(|why: &str| wrong(why))?, port })
    }
}

impl FromStr for AllowedHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<AllowedHost, &'static str> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        // The brackets are around the address, or around address and length.
        let has_brackets = address.starts_with('[');
        let length = length.map(|length| length.trim_end_matches(']'));
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if has_brackets != text.contains(']') || text.matches(['[', ']']).count() > 2 {
            return Err("a bracket is missing or too much");
        }
        let address = match bare.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) if !has_brackets => return Err("an IPv6 address is written in brackets"),
            Ok(IpAddr::V4(_)) if has_brackets => return Err("only IPv6 addresses are written in brackets"),
            Ok(address) => address,
            Err(_) if has_brackets => return Err("in the brackets is no IPv6 address"),
            Err(_) if length.is_some() => return Err("a network begins with an address"),
            Err(_) if is_name(bare) => return Ok(AllowedHost::Name(bare.to_ascii_lowercase())),
            Err(_) => return Err("its host is neither an address nor a name"),
        };
        let whole = AddressBlock::of_one(address);
        let Some(length) = length else { return Ok(AllowedHost::Network(canonical(whole))) };
        let length = length.parse::<u32>().ok().filter(|length| *length <= whole.length);
        let length = length.ok_or("the length of the network is no number of bits of its address")?;
        let network = AddressBlock::around(address, length);
        if network.first != address {
            return Err("the network has bits of a host behind its length");
        }
        Ok(AllowedHost::Network(canonical(network)))
    }
}

/// An IPv4 address that is written as one of IPv6 (`::ffff:192.0.2.1`) is one of IPv4.
fn canonical(block: AddressBlock) -> AddressBlock {
    match (block.first.to_canonical(), block.length.checked_sub(96)) {
        (first @ IpAddr::V4(_), Some(length)) if block.first.is_ipv6() => AddressBlock { first, length },
        _ => block,
    }
}

/// Whether it can be a host name (RFC 1123, 2.1). One of digits alone is a mistyped address.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 255 && text.bytes().all(is_plain) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl fmt::Display for AllowedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            AllowedHost::Name(name) => f.write_str(name)?,
            AllowedHost::Network(block) => {
                match block.first {
                    IpAddr::V4(first) => write!(f, "{first}")?,
                    IpAddr::V6(first) => write!(f, "[{first}]")?,
                }
                if *block != AddressBlock::of_one(block.first) {
                    write!(f, "/{}", block.length)?;
                }
            }
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

/// The endpoints by their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedAddresses {
    endpoints: Vec<(AddressBlock, Option<u16>)>,
    /// Names, with the addresses that they had at the start.
    names: Vec<(String, IpAddr)>,
}

impl AllowedAddresses {
    /// Those of endpoints; `look_up` has the addresses of a name.
    ///
    /// # Errors
    /// That of `look_up`.
    pub(crate) fn resolve(
        endpoints: &[AllowedEndpoint],
        mut look_up: impl FnMut(&str) -> Result<Vec<IpAddr>, Error>,
    ) -> Result<AllowedAddresses, Error> {
        let mut found = AllowedAddresses::default();
        for endpoint in endpoints {
            match &endpoint.host {
                AllowedHost::Network(block) => found.endpoints.push((*block, endpoint.port)),
                AllowedHost::Name(name) => {
                    for address in look_up(name)?.into_iter().map(|address| address.to_canonical()) {
                        found.endpoints.push((AddressBlock::of_one(address), endpoint.port));
                        let entry = (name.clone(), address);
                        if !found.names.contains(&entry) {
                            found.names.push(entry);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Whether a connection to this address is allowed.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        let host = address.ip().to_canonical();
        self.endpoints
            .iter()
            .any(|(block, port)| block.has(host) && port.is_none_or(|port| port == address.port()))
    }

    /// The names, as lines of `/etc/hosts` (hosts(5)).
    pub(super) fn hosts(&self) -> String {
        self.names.iter().map(|(name, address)| format!("{address} {name}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Names have these addresses.
    fn resolve(endpoints: &[&str]) -> AllowedAddresses {
        let endpoints: Vec<AllowedEndpoint> =
            endpoints.iter().map(|text| text.parse().expect(text)).collect();
        let addresses = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().expect(text));
        AllowedAddresses::resolve(&endpoints, |_| Ok(addresses.to_vec())).expect("addresses")
    }

    #[test]
    fn endpoints_are_read_and_shown() {
        for (text, shown) in [
            ("192.0.2.1:443", "192.0.2.1:443"),
            ("192.0.2.1/32:443", "192.0.2.1:443"),
            ("10.0.0.0/8:*", "10.0.0.0/8:*"),
            ("0.0.0.0/0:53", "0.0.0.0/0:53"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::]/32:443", "[2001:db8::]/32:443"),
            ("[2001:db8::/32]:443", "[2001:db8::]/32:443"),
            ("[::]/0:443", "[::]/0:443"),
            ("[::ffff:192.0.2.1]:443", "192.0.2.1:443"),
            ("[::ffff:10.0.0.0]/104:443", "10.0.0.0/8:443"),
            ("DB.example:5432", "db.example:5432"),
            ("a_b-c:*", "a_b-c:*"),
        ] {
            assert_eq!(text.parse::<AllowedEndpoint>().expect(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        for (text, why) in [
            ("192.0.2.1", "no port"),
            ("192.0.2.1:", "port"),
            ("192.0.2.1:0", "port"),
            ("192.0.2.1:65536", "port"),
            ("192.0.2.1:http", "port"),
            ("2001:db8::1:443", "brackets"),
            ("[192.0.2.1]:443", "brackets"),
            ("[2001:db8::1:443", "bracket"),
            ("2001:db8::1]:443", "bracket"),
            ("[[::1]]:443", "bracket"),
            ("[db.example]:443", "IPv6"),
            ("10.0.0.0/33:443", "length"),
            ("[2001:db8::]/129:443", "length"),
            ("10.0.0.0/x:443", "length"),
            ("10.0.0.1/8:443", "bits"),
            ("db.example/8:443", "address"),
            ("192.0.2.256:443", "neither"),
            ("*:443", "neither"),
            (":443", "neither"),
            ("", "no port"),
        ] {
            let error = text.parse::<AllowedEndpoint>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{text}");
            assert!(error.what().contains(why), "{text}: {}", error.what());
        }
    }

    #[test]
    fn an_address_is_allowed_by_host_and_port() {
        let allowed = resolve(&["192.0.2.1:443", "10.0.0.0/8:*", "[2001:db8::]/32:443", "db:5432"]);
        for (address, expected) in [
            ("192.0.2.1:443", true),
            ("[::ffff:192.0.2.1]:443", true),
            ("192.0.2.1:444", false),
            ("192.0.2.2:443", false),
            ("10.255.0.1:1", true),
            ("11.0.0.0:1", false),
            ("[2001:db8:ffff::1]:443", true),
            ("[2001:db9::1]:443", false),
            ("[2001:db8::1]:80", false),
            ("192.0.2.7:5432", true),
            ("[2001:db8::7]:5432", true),
            ("192.0.2.7:5433", false),
        ] {
            assert_eq!(allowed.has(address.parse().expect(address)), expected, "{address}");
        }
        let all = resolve(&["0.0.0.0/0:443"]);
        assert!(all.has("127.0.0.1:443".parse().expect("an address")));
        assert!(!all.has("[::1]:443".parse().expect("an address")));
        assert!(!AllowedAddresses::default().has("127.0.0.1:443".parse().expect("an address")));
    }

    #[test]
    fn names_are_lines_of_a_hosts_file() {
        let allowed = resolve(&["db:5432", "10.0.0.1:1", "db:80"]);
        assert_eq!(allowed.hosts(), "192.0.2.7 db\n2001:db8::7 db\n");
    }
}
