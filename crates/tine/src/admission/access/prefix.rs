//! Address blocks. IPv4 and IPv6 share one address space: IPv4 addresses are mapped into IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::Error;

/// An address block: all addresses that begin with the same bits. IPv4 addresses are mapped into
/// IPv6 (RFC 4291, 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    // The derived order puts a block before the blocks that it contains.
    first: u128,
    length: u8,
}

/// The number of bits before the IPv4 address in an IPv4-mapped IPv6 address.
const MAPPED: u8 = 96;

impl Prefix {
    /// The block of this prefix length that contains an address.
    pub(crate) fn new(address: IpAddr, length: u8) -> Prefix {
        let length = if address.is_ipv4() { length.min(32) + MAPPED } else { length.min(128) };
        Prefix { first: bits(address) & mask(length), length }
    }

    /// The block of one address.
    pub(crate) fn of(address: IpAddr) -> Prefix {
        Prefix { first: bits(address), length: 128 }
    }

    /// The block with this first address and prefix length, both in the IPv6 address space; `None`
    /// if there is none.
    pub(crate) fn from_parts(first: u128, length: u8) -> Option<Prefix> {
        (length <= 128 && first & mask(length) == first).then_some(Prefix { first, length })
    }

    /// The first address and the prefix length, both in the IPv6 address space.
    pub(crate) fn to_parts(self) -> (u128, u8) {
        (self.first, self.length)
    }

    /// Whether this block contains all addresses of another.
    pub(crate) fn contains(self, other: Prefix) -> bool {
        self.length <= other.length && other.first & mask(self.length) == self.first
    }
}

/// An address as a number in the IPv6 address space.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A network mask of `length` leading ones.
pub(crate) fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// Parses `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32` or `any`. Rejects an address with bits set
/// beyond the prefix length: one of the two is a mistake.
impl FromStr for Prefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Prefix, Error> {
        let bad = |why: &str| {
            let next = "write an address, a block such as 192.0.2.0/24 or 2001:db8::/32, or any";
            Error::usage(format_args!("invalid address block '{text}': {why}"), next)
        };
        if text == "any" {
            return Ok(Prefix { first: 0, length: 0 });
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            bad(match address.contains('%') {
                true => "a rule has no zone: it matches a link-local address in any",
                false => "not an IP address",
            })
        })?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => width,
            Some(length) => length.parse().ok().filter(|length| *length <= width).ok_or_else(|| {
                bad(if width == 32 {
                    "the prefix length must be 0 to 32"
                } else {
                    "the prefix length must be 0 to 128"
                })
            })?,
        };
        let prefix = Prefix::new(address, length);
        match prefix.first == bits(address) {
            true => Ok(prefix),
            false => Err(bad(&format!("the address has bits set beyond /{length}; its block is {prefix}"))),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == 0 {
            return f.write_str("any");
        }
        let address = Ipv6Addr::from_bits(self.first);
        match (address.to_ipv4_mapped(), self.length.checked_sub(MAPPED)) {
            (Some(address), Some(32)) => write!(f, "{address}"),
            (Some(address), Some(length)) => write!(f, "{address}/{length}"),
            _ if self.length == 128 => write!(f, "{address}"),
            _ => write!(f, "{address}/{}", self.length),
        }
    }
}

/// The fewest blocks that contain exactly the IPv4 addresses from `first` to `last`.
pub(crate) fn blocks_of_range(first: Ipv4Addr, last: Ipv4Addr) -> Vec<Prefix> {
    let (mut next, last) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
    let mut blocks = Vec::new();
    while next <= last {
        // The largest block that begins at `next` and does not exceed `last`.
        let alignment = if next == 0 { 32 } else { next.trailing_zeros().min(32) };
        let remaining = (last - next + 1).ilog2();
        let host_bits = alignment.min(remaining);
        blocks.push(Prefix::new(Ipv4Addr::from_bits(next as u32).into(), (32 - host_bits) as u8));
        next += 1 << host_bits;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_parsed_and_invalid_ones_rejected() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("any", "any"),
            ("::/0", "any"),
        ] {
            assert_eq!(text.parse::<Prefix>().expect(text).to_string(), expected);
        }
        for text in
            ["", "/8", "192.0.2.1/24", "192.0.2.0/33", "::/129", "192.0.2", "host", "any/0", "1.2.3.4/-1"]
        {
            assert_eq!(text.parse::<Prefix>().expect_err(text).exit_code(), 100, "{text}");
        }
        let zone = "fe80::1%eth0".parse::<Prefix>().expect_err("no zones").to_string();
        assert!(zone.contains("a rule has no zone"), "{zone}");
    }

    #[test]
    fn blocks_contain_smaller_blocks_of_the_same_family() {
        let block = |text: &str| text.parse::<Prefix>().expect(text);
        assert!(block("any").contains(block("192.0.2.1")) && block("0.0.0.0/0").contains(block("192.0.2.1")));
        assert!(
            !block("0.0.0.0/0").contains(block("2001:db8::1"))
                && !block("192.0.2.1").contains(block("192.0.2.0/24"))
        );
        assert!(block("192.0.2.0/24").contains(block("192.0.2.0/24")));
    }

    #[test]
    fn the_blocks_of_a_range_contain_exactly_its_addresses() {
        let blocks = |first: &str, last: &str| {
            blocks_of_range(first.parse().expect(first), last.parse().expect(last))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(blocks("1.2.3.37", "1.2.3.39"), ["1.2.3.37", "1.2.3.38/31"]);
        assert_eq!(blocks("1.2.3.0", "1.2.3.255"), ["1.2.3.0/24"]);
        assert_eq!(blocks("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(blocks("1.2.3.255", "1.2.4.0"), ["1.2.3.255", "1.2.4.0"]);
        assert!(blocks("1.2.3.4", "1.2.3.3").is_empty());
    }
}
