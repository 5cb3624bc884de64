//! Blocks of addresses, of both families in one space.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::Error;

/// Addresses that begin with the same bits. IPv4 lies in IPv6 as RFC 4291, 2.5.5.2, maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    // In this order, so that blocks come before those within them.
    first: u128,
    length: u8,
}

/// Bits before an IPv4 address.
const MAPPED: u8 = 96;

impl Prefix {
    /// The block of so many leading bits around an address; bits beyond are cut off.
    pub(crate) fn new(address: IpAddr, length: u8) -> Prefix {
        let length = if address.is_ipv4() { length.min(32) + MAPPED } else { length.min(128) };
        Prefix { first: bits(address) & mask(length), length }
    }

    /// The parts, for shared memory.
    pub(crate) fn to_parts(self) -> (u128, u8) {
        (self.first, self.length)
    }

    /// Whether all addresses of another block are in this one.
    pub(crate) fn contains(self, other: Prefix) -> bool {
        self.length <= other.length && other.first & mask(self.length) == self.first
    }
}

/// An address as a number.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// So many leading ones.
pub(crate) fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32` or `any`. An address with bits beyond its prefix is
/// refused: one of the two is a mistake.
impl FromStr for Prefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Prefix, Error> {
        let bad = |why: &str| {
            let next = "write an address, a block such as 192.0.2.0/24 or 2001:db8::/32, or any";
            Error::usage(format_args!("bad block of addresses '{text}': {why}"), next)
        };
        if text == "any" {
            return Ok(Prefix { first: 0, length: 0 });
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad("this is no address"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => width,
            Some(length) => length.parse().ok().filter(|length| *length <= width).ok_or_else(|| {
                bad(if width == 32 {
                    "after the slash comes 0 to 32"
                } else {
                    "after the slash comes 0 to 128"
                })
            })?,
        };
        let prefix = Prefix::new(address, length);
        match prefix.first == bits(address) {
            true => Ok(prefix),
            false => Err(bad(&format!("the address has bits beyond /{length}; its block is {prefix}"))),
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

/// All IPv4 addresses from one to another, as blocks.
pub(crate) fn span(first: Ipv4Addr, last: Ipv4Addr) -> Vec<Prefix> {
    let (mut next, last) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
    let mut blocks = Vec::new();
    while next <= last {
        // The greatest block that begins here and does not reach too far.
        let aligned = if next == 0 { 32 } else { next.trailing_zeros().min(32) };
        let room = (last - next + 1).ilog2();
        let free = aligned.min(room);
        blocks.push(Prefix::new(Ipv4Addr::from_bits(next as u32).into(), (32 - free) as u8));
        next += 1 << free;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_typed() {
        for (text, shown) in [
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
            assert_eq!(text.parse::<Prefix>().expect(text).to_string(), shown);
        }
        for text in
            ["", "/8", "192.0.2.1/24", "192.0.2.0/33", "::/129", "192.0.2", "host", "any/0", "1.2.3.4/-1"]
        {
            assert_eq!(text.parse::<Prefix>().expect_err(text).exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn blocks_within_blocks() {
        let block = |text: &str| text.parse::<Prefix>().expect(text);
        assert!(block("any").contains(block("192.0.2.1")) && block("0.0.0.0/0").contains(block("192.0.2.1")));
        assert!(
            !block("0.0.0.0/0").contains(block("2001:db8::1"))
                && !block("192.0.2.1").contains(block("192.0.2.0/24"))
        );
        assert!(block("192.0.2.0/24").contains(block("192.0.2.0/24")));
    }

    #[test]
    fn spans_are_their_addresses_and_no_other() {
        let span = |first: &str, last: &str| {
            span(first.parse().expect(first), last.parse().expect(last))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(span("1.2.3.37", "1.2.3.39"), ["1.2.3.37", "1.2.3.38/31"]);
        assert_eq!(span("1.2.3.0", "1.2.3.255"), ["1.2.3.0/24"]);
        assert_eq!(span("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(span("1.2.3.255", "1.2.4.0"), ["1.2.3.255", "1.2.4.0"]);
        assert!(span("1.2.3.4", "1.2.3.3").is_empty());
    }
}
