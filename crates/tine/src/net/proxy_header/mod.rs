//! The header of the PROXY protocol, versions 1 and 2 (HAProxy's `doc/proxy-protocol.txt`): what a
//! proxy sends before the bytes of its client. Bytes in, meaning out; no system call here.

mod crc32c;
mod header;
mod v1;
mod v2;

use header::begins_like;
pub(crate) use header::{BadHeader, Header, Parsed};

/// The most bytes that a header can have: version 2 has 16, and a length of 16 bits.
pub(crate) const MAX_HEADER: usize = 16 + u16::MAX as usize;

/// Parses the first bytes of a connection. The number of [`Parsed::Incomplete`] is larger than the
/// number of these bytes, and the result never depends on bytes after the header.
///
/// # Errors
/// As soon as no continuation of the bytes could be a header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    if begins_like(bytes, v2::SIGNATURE) {
        return v2::parse(bytes);
    }
    if begins_like(bytes, v1::SIGNATURE) {
        return v1::parse(bytes);
    }
    Err(BadHeader::NoHeader)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a growing number of bytes: each incomplete result asks for more, and the final result
    /// comes with the last byte that it needs.
    fn parse_bytewise(bytes: &[u8]) -> Result<(Header, usize), (BadHeader, usize)> {
        for length in 0..=bytes.len() {
            match parse(&bytes[..length]) {
                Ok(Parsed::Incomplete(needed)) => assert!(needed > length, "{needed} after {length}"),
                Ok(Parsed::Complete(header)) => return Ok((header, length)),
                Err(why) => return Err((why, length)),
            }
        }
        panic!("incomplete: {}", bytes.escape_ascii())
    }

    #[test]
    fn bytes_that_are_no_header_are_recognized_at_once() {
        for (bytes, at) in [
            (&b"GET / HTTP/1.1\r\n"[..], 1),
            (b"\x16\x03\x01", 1),
            (b"proxy TCP4 ", 1),
            (b"PROXYTCP4 ", 6),
            (b"PRO\r\n", 4),
            (b"\r\n\r\nGET", 5),
            (b"\r\n\r\n\0\r\nQUIT\r", 12),
            (b"\0", 1),
        ] {
            assert_eq!(parse_bytewise(bytes), Err((BadHeader::NoHeader, at)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_header_is_complete_with_its_last_byte() {
        let v1 = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n".to_vec();
        let v2 = [v2::SIGNATURE, b"\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02GET"].concat();
        let local = [v2::SIGNATURE, b"\x20\0\0\0GET"].concat();
        for (bytes, length) in [(v1, 47), (v2, 28), (local, 16)] {
            let (header, seen) = parse_bytewise(&bytes).expect("a header");
            assert_eq!((header.length, seen), (length, length));
            assert_eq!(parse(&bytes), Ok(Parsed::Complete(header)), "whatever follows");
        }
    }
}
