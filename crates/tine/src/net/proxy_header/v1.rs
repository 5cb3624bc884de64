//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::{Addresses, BadHeader, Header, Parsed, begins_like};

/// The first bytes.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The most bytes of a line, with its CRLF.
const MAX_LINE: usize = 107;

/// What follows the signature.
const TCP4: &[u8] = b"TCP4 ";
const TCP6: &[u8] = b"TCP6 ";
const UNKNOWN: &[u8] = b"UNKNOWN";

/// Parses bytes that begin like the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let rest = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    if ![TCP4, TCP6, UNKNOWN].iter().any(|protocol| begins_like(rest, protocol)) {
        return Err(BadHeader::Protocol);
    }
    let line = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return incomplete(line);
    };
    let (length, rest) = (end + 2, &line[SIGNATURE.len().min(end)..end]);
    let addresses = match rest {
        _ if rest.starts_with(UNKNOWN) => match rest.get(UNKNOWN.len()) {
            None | Some(b' ') => None,
            Some(_) => return Err(BadHeader::Protocol),
        },
        _ => Some(addresses(rest)?),
    };
    Ok(Parsed::Complete(Header { length, addresses }))
}

/// A line without its CRLF, so far.
fn incomplete(line: &[u8]) -> Result<Parsed, BadHeader> {
    let rest = line.get(SIGNATURE.len()..).unwrap_or_default();
    if let Some(after) = rest.strip_prefix(UNKNOWN) {
        // The rest is ignored, whatever it is; but the word has ended.
        if !matches!(after.first(), None | Some(b' ' | b'\r')) {
            return Err(BadHeader::Protocol);
        }
        if after.first() == Some(&b'\r') && after.len() > 1 {
            return Err(BadHeader::LineEnd);
        }
    } else if line.contains(&b'\n') || line[..line.len().saturating_sub(1)].contains(&b'\r') {
        return Err(BadHeader::LineEnd);
    }
    match line.len() {
        MAX_LINE.. => Err(BadHeader::LineTooLong),
        length => Ok(Parsed::Incomplete(length + 1)),
    }
}

/// The four fields after the protocol.
fn addresses(rest: &[u8]) -> Result<Addresses, BadHeader> {
    // Whatever is no text has no such fields.
    let text = std::str::from_utf8(rest).map_err(|_| BadHeader::Fields)?;
    let mut fields = text.split(' ');
    let family = fields.next();
    let (source, destination) = (fields.next(), fields.next());
    let ports = (fields.next(), fields.next());
    let address = |ip: Option<&str>, digits: Option<&str>| {
        Some(SocketAddr::new(ip_of(family? == "TCP4", ip?)?, port(digits?)?))
    };
    let found = address(source, ports.0).zip(address(destination, ports.1));
    match (found, fields.next()) {
        (Some((source, destination)), None) => Ok(Addresses { source, destination }),
        _ => Err(BadHeader::Fields),
    }
}

/// An address of a family. The parsers of the standard library are as strict as the specification:
/// no zero in front of a number of an IPv4 address, at most four digits between colons, no scope.
fn ip_of(is_ipv4: bool, text: &str) -> Option<IpAddr> {
    match is_ipv4 {
        true => text.parse().ok().map(|ip: Ipv4Addr| ip.into()),
        false => text.parse().ok().map(|ip: Ipv6Addr| ip.into()),
    }
}

/// A port in decimal, without a sign or a zero in front.
fn port(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|_| is_plain && is_canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Parsed, BadHeader> {
        parse(text.as_bytes())
    }

    #[test]
    fn lines_with_addresses() {
        for (line, source, destination) in [
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443", "192.168.0.1:56324", "192.168.0.11:443"),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
                "255.255.255.255:65535",
                "255.255.255.255:65535",
            ),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", "0.0.0.0:0", "0.0.0.0:0"),
            ("PROXY TCP6 2001:db8::1 ::1 4711 80", "[2001:db8::1]:4711", "[::1]:80"),
            ("PROXY TCP6 :: 2001:DB8:0:0:0:0:0:1 1 2", "[::]:1", "[2001:db8::1]:2"),
            ("PROXY TCP6 0001::0002 ::ffff:192.0.2.1 1 2", "[1::2]:1", "[::ffff:192.0.2.1]:2"),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            let addresses = Addresses { source: address(source), destination: address(destination) };
            let header = Header { length: line.len() + 2, addresses: Some(addresses) };
            assert_eq!(parsed(&format!("{line}\r\nmore")), Ok(Parsed::Complete(header)), "{line}");
        }
    }

    #[test]
    fn unknown_clients_have_no_addresses() {
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535";
        assert_eq!(longest.len() + 2, MAX_LINE);
        for line in ["PROXY UNKNOWN", "PROXY UNKNOWN ", "PROXY UNKNOWN a\nb\rc", longest] {
            let header = Header { length: line.len() + 2, addresses: None };
            assert_eq!(parsed(&format!("{line}\r\n")), Ok(Parsed::Complete(header)), "{line}");
        }
    }

    #[test]
    fn lines_that_differ_from_the_specification() {
        let fields = |fields: &str| (format!("PROXY {fields}\r\n"), BadHeader::Fields);
        let mut bad: Vec<(String, BadHeader)> = [
            "TCP4 192.168.0.1 192.168.0.11 56324",
            "TCP4 192.168.0.1 192.168.0.11 56324 443 ",
            "TCP4 192.168.0.1 192.168.0.11 56324 443 7",
            "TCP4  192.168.0.1 192.168.0.11 56324 443",
            "TCP4 192.168.0.1  192.168.0.11 56324 443",
            "TCP4 192.168.0.01 192.168.0.11 56324 443",
            "TCP4 192.168.0.256 192.168.0.11 56324 443",
            "TCP4 192.168.1 192.168.0.11 56324 443",
            "TCP4 192.168.0.1 192.168.0.11 65536 443",
            "TCP4 192.168.0.1 192.168.0.11 +1 443",
            "TCP4 192.168.0.1 192.168.0.11 -1 443",
            "TCP4 192.168.0.1 192.168.0.11 01 443",
            "TCP4 192.168.0.1 192.168.0.11 00 443",
            "TCP4 192.168.0.1 192.168.0.11 0x1 443",
            "TCP4 192.168.0.1 192.168.0.11  443",
            "TCP4 ::1 ::1 1 2",
            "TCP4 ::1 192.168.0.1 1 2",
            "TCP4 host 192.168.0.1 1 2",
            "TCP4 \u{e9} 192.168.0.1 1 2",
            "TCP4 192.168.0.1\t192.168.0.11 56324 443",
            "TCP6 192.168.0.1 192.168.0.11 1 2",
            "TCP6 1:2:3:4:5:6:7 ::1 1 2",
            "TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2",
            "TCP6 1::2::3 ::1 1 2",
            "TCP6 12345::1 ::1 1 2",
            "TCP6 fe80::1%1 ::1 1 2",
            "TCP6 [::1] ::1 1 2",
            "TCP4 ",
        ]
        .into_iter()
        .map(fields)
        .collect();
        for (text, why) in [
            ("PROXY TCP4\r\n", BadHeader::Protocol),
            ("PROXY TCP5 1 2 3 4\r\n", BadHeader::Protocol),
            ("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", BadHeader::Protocol),
            ("PROXY tcp4 1.1.1.1 1.1.1.1 1 1\r\n", BadHeader::Protocol),
            ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", BadHeader::Protocol),
            ("PROXY UNKNOWNS\r\n", BadHeader::Protocol),
            ("PROXY UNKNOWNS", BadHeader::Protocol),
            ("PROXY UNKNOWN\n", BadHeader::Protocol),
            ("PROXY \r\n", BadHeader::Protocol),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", BadHeader::LineEnd),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r", BadHeader::LineEnd),
            ("PROXY UNKNOWN\r", BadHeader::LineEnd),
        ] {
            // What follows a CR decides about it.
            let more = if text.ends_with('\r') { "G" } else { "" };
            bad.push((format!("{text}{more}"), why));
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 15));
        bad.push((long, BadHeader::LineTooLong));
        bad.push((format!("PROXY TCP4 {}", "1".repeat(MAX_LINE)), BadHeader::LineTooLong));
        for (text, why) in bad {
            assert_eq!(parsed(&text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn cut_lines_are_incomplete() {
        for line in ["PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "PROXY UNKNOWN\r\n"] {
            for length in 0..line.len() {
                assert!(matches!(parsed(&line[..length]), Ok(Parsed::Incomplete(_))), "{line} {length}");
            }
        }
    }
}
