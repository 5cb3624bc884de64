//! Version 2: a signature, a command, a family, a length, addresses and TLVs.

use std::net::{IpAddr, SocketAddr};

use super::crc32c;
use super::header::{Addresses, BadHeader, Header, Parsed};

/// The first bytes.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses.
const FIXED: usize = 16;

/// The type of the TLV with a checksum of the whole header.
const CRC32C: u8 = 3;

/// Parses bytes that begin like the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let is_local = match bytes.get(12) {
        None => return Ok(Parsed::Incomplete(FIXED)),
        Some(byte) if byte >> 4 != 2 => return Err(BadHeader::Version),
        Some(byte) => match byte & 15 {
            0 => true,
            1 => false,
            _ => return Err(BadHeader::Command),
        },
    };
    // The family of a proxy's own connection is ignored.
    if let Some(family) = bytes.get(13).filter(|_| !is_local)
        && (family >> 4 > 3 || family & 15 > 2)
    {
        return Err(BadHeader::Family);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(Parsed::Incomplete(FIXED)) };
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let addresses = if is_local { 0 } else { bytes_of_addresses(fixed[13]) };
    if FIXED + addresses > length {
        return Err(BadHeader::Length);
    }
    let Some(header) = bytes.get(..length) else { return Ok(Parsed::Incomplete(length)) };
    if !is_local {
        check_tlvs(header, FIXED + addresses)?;
    }
    Ok(Parsed::Complete(Header { length, addresses: (!is_local).then(|| addresses_in(header)).flatten() }))
}

/// The bytes of the addresses of a family and protocol; those of an unspecified one are skipped
/// with the TLVs.
fn bytes_of_addresses(family: u8) -> usize {
    match (family >> 4, family & 15) {
        (_, 0) => 0,
        (1, _) => 2 * 4 + 2 * 2,
        (2, _) => 2 * 16 + 2 * 2,
        (3, _) => 2 * 108,
        _ => 0,
    }
}

/// The addresses of a client that is connected over TCP.
fn addresses_in(header: &[u8]) -> Option<Addresses> {
    let block = &header[FIXED..];
    let port = |at: usize| Some(u16::from_be_bytes([*block.get(at)?, *block.get(at + 1)?]));
    let address = |at: usize, port: Option<u16>, is_ipv4: bool| {
        let ip: IpAddr = match is_ipv4 {
            true => (*block.get(at..)?.first_chunk::<4>()?).into(),
            false => (*block.get(at..)?.first_chunk::<16>()?).into(),
        };
        Some(SocketAddr::new(ip, port?))
    };
    let (source, destination) = match header[13] {
        0x11 => (address(0, port(8), true)?, address(4, port(10), true)?),
        0x21 => (address(0, port(32), false)?, address(16, port(34), false)?),
        _ => return None,
    };
    Some(Addresses { source, destination })
}

/// Checks that the TLVs from `start` on fill the header, and the checksum if there is one. An
/// unspecified family has addresses that are not known here, so its TLVs cannot be found.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), BadHeader> {
    if start == FIXED {
        return Ok(());
    }
    let mut at = start;
    while at < header.len() {
        let &[kind, high, low] = header[at..].first_chunk::<3>().ok_or(BadHeader::Tlv)?;
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        if end > header.len() {
            return Err(BadHeader::Tlv);
        }
        if kind == CRC32C {
            let expected = header[value..end].try_into().map_err(|_| BadHeader::Tlv)?;
            check_sum(header, value, expected)?;
        }
        at = end;
    }
    Ok(())
}

/// The checksum is that of the header with zeroes in its place.
fn check_sum(header: &[u8], at: usize, expected: [u8; 4]) -> Result<(), BadHeader> {
    let parts = [&header[..at], &[0; 4], &header[at + 4..]];
    match crc32c::of(&parts) == u32::from_be_bytes(expected) {
        true => Ok(()),
        false => Err(BadHeader::Checksum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0, 80];

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("a header").to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).expect("a TLV").to_be_bytes();
        [&[kind], &length[..], value].concat()
    }

    fn complete(bytes: &[u8]) -> Result<Option<(String, String)>, BadHeader> {
        let followed = [bytes, b"more"].concat();
        match parse(&followed)? {
            Parsed::Incomplete(needed) => panic!("{needed} bytes are needed"),
            Parsed::Complete(header) => {
                assert_eq!(header.length, bytes.len());
                Ok(header.addresses.map(|both| (both.source.to_string(), both.destination.to_string())))
            }
        }
    }

    #[test]
    fn families() {
        let ipv6: Vec<u8> = [&[0; 15][..], &[1], &[0xff; 16], &[0, 1, 0xff, 0xff]].concat();
        let both = |source: &str, destination: &str| Some((source.to_owned(), destination.to_owned()));
        let tcp4 = both("192.0.2.1:4711", "198.51.100.2:80");
        let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        for (command, family, block, addresses) in [
            (0x21, 0x11, IPV4, tcp4),
            (0x21, 0x21, &ipv6[..], both("[::1]:1", &format!("[{all}]:65535"))),
            // Clients over UDP and Unix sockets, and of an unknown kind, are served as the proxy.
            (0x21, 0x12, IPV4, None),
            (0x21, 0x22, &ipv6, None),
            (0x21, 0x31, &[b'/'; 216], None),
            (0x21, 0x32, &[0; 216], None),
            (0x21, 0x00, &[], None),
            (0x21, 0x00, &[1, 2, 3], None),
            (0x21, 0x10, &[], None),
            (0x21, 0x01, &[], None),
            // LOCAL: the family, which is ignored, can be any.
            (0x20, 0x00, &[], None),
            (0x20, 0x11, IPV4, None),
            (0x20, 0x11, &[], None),
            (0x20, 0xff, &[9; 300], None),
        ] {
            let bytes = header(command, family, block);
            assert_eq!(complete(&bytes), Ok(addresses), "{command:x} {family:x} {}", block.len());
        }
    }

    #[test]
    fn tlvs_are_skipped() {
        let expected = complete(&header(0x21, 0x11, IPV4));
        for tlvs in [
            tlv(4, b""),
            tlv(1, b"http/1.1"),
            tlv(2, b"example.com"),
            [tlv(5, &[7; 128]), tlv(0x20, &[1; 50]), tlv(0xe0, &[])].concat(),
            tlv(0xea, &[0; u16::MAX as usize - 12 - 3]),
        ] {
            assert_eq!(complete(&header(0x21, 0x11, &[IPV4, &tlvs].concat())), expected);
        }
    }

    #[test]
    fn a_checksum_is_that_of_the_header_with_zeroes_in_its_place() {
        let with = |sum: [u8; 4]| {
            let tlvs = [tlv(CRC32C, &sum), tlv(2, b"example.com")].concat();
            header(0x21, 0x11, &[IPV4, &tlvs].concat())
        };
        let sum = crc32c::of(&[&with([0; 4])]).to_be_bytes();
        assert_eq!(complete(&with(sum)), complete(&header(0x21, 0x11, IPV4)));
        for bit in 0..32 {
            let wrong = (u32::from_be_bytes(sum) ^ 1 << bit).to_be_bytes();
            assert_eq!(complete(&with(wrong)), Err(BadHeader::Checksum), "{bit}");
        }
        for short in [&[][..], &[0; 3], &[0; 5]] {
            let bytes = header(0x21, 0x11, &[IPV4, &tlv(CRC32C, short)].concat());
            assert_eq!(complete(&bytes), Err(BadHeader::Tlv));
        }
    }

    #[test]
    fn headers_that_differ_from_the_specification() {
        for (bytes, why) in [
            (header(0x11, 0x11, IPV4), BadHeader::Version),
            (header(0x31, 0x11, IPV4), BadHeader::Version),
            (header(0x01, 0x11, IPV4), BadHeader::Version),
            (header(0x22, 0x11, IPV4), BadHeader::Command),
            (header(0x2f, 0x11, IPV4), BadHeader::Command),
            (header(0x21, 0x41, IPV4), BadHeader::Family),
            (header(0x21, 0x13, IPV4), BadHeader::Family),
            (header(0x21, 0xff, IPV4), BadHeader::Family),
            (header(0x21, 0x11, &IPV4[..11]), BadHeader::Length),
            (header(0x21, 0x12, &[]), BadHeader::Length),
            (header(0x21, 0x21, &[0; 35]), BadHeader::Length),
            (header(0x21, 0x31, &[0; 215]), BadHeader::Length),
            (header(0x21, 0x11, &[IPV4, &[4]].concat()), BadHeader::Tlv),
            (header(0x21, 0x11, &[IPV4, &[4, 0]].concat()), BadHeader::Tlv),
            (header(0x21, 0x11, &[IPV4, &[4, 0, 1]].concat()), BadHeader::Tlv),
            (header(0x21, 0x11, &[IPV4, &tlv(1, b"h2"), &[4, 0xff, 0xff, 0]].concat()), BadHeader::Tlv),
        ] {
            assert_eq!(complete(&bytes), Err(why), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_bytes_needed_are_known_from_the_length() {
        let bytes = header(0x21, 0x11, &[IPV4, &tlv(4, &[0; 1000])].concat());
        for length in 0..bytes.len() {
            let needed = if length < FIXED { FIXED } else { bytes.len() };
            assert_eq!(parse(&bytes[..length]), Ok(Parsed::Incomplete(needed)), "{length}");
        }
    }
}
