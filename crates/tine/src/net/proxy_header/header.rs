//! What the bytes of a header mean.

use std::fmt;
use std::net::SocketAddr;

/// The meaning of the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// They can be the begin of a header; it has at least this many bytes.
    Incomplete(usize),
    /// They begin with this header.
    Complete(Header),
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its bytes; those of the client follow.
    pub(crate) length: usize,
    /// `None` if the addresses of the connection itself are to be used: the proxy speaks for
    /// itself, or its client is not connected over TCP.
    pub(crate) addresses: Option<Addresses>,
}

/// The addresses of the client's connection to the proxy, of the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The client.
    pub(crate) source: SocketAddr,
    /// The address that the client connected to.
    pub(crate) destination: SocketAddr,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// They begin like neither version.
    NoHeader,
    /// Version 1: the protocol is none of TCP4, TCP6 and UNKNOWN.
    Protocol,
    /// Version 1: no CRLF in the first 107 bytes.
    LineTooLong,
    /// Version 1: the line ends with a CR or LF alone.
    LineEnd,
    /// Version 1: the line does not have two addresses of its family and two ports.
    Fields,
    /// The version is not 2.
    Version,
    /// Version 2: the command is neither LOCAL nor PROXY.
    Command,
    /// Version 2: the family or the protocol is unassigned.
    Family,
    /// Version 2: the length is too small for the addresses.
    Length,
    /// Version 2: a TLV goes beyond the header.
    Tlv,
    /// Version 2: the checksum differs from that of the header.
    Checksum,
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHeader::NoHeader => "no PROXY header",
            BadHeader::Protocol => "unknown protocol in the PROXY header",
            BadHeader::LineTooLong => "no CRLF in the first 107 bytes of the PROXY header",
            BadHeader::LineEnd => "the PROXY header does not end with CRLF",
            BadHeader::Fields => "bad address or port in the PROXY header",
            BadHeader::Version => "unknown version of the PROXY header",
            BadHeader::Command => "unknown command in the PROXY header",
            BadHeader::Family => "unknown address family in the PROXY header",
            BadHeader::Length => "the PROXY header is too short for its addresses",
            BadHeader::Tlv => "a TLV is longer than the PROXY header",
            BadHeader::Checksum => "wrong checksum of the PROXY header",
        })
    }
}

/// Whether one of the two is the begin of the other.
pub(super) fn begins_like(bytes: &[u8], wanted: &[u8]) -> bool {
    let common = bytes.len().min(wanted.len());
    bytes[..common] == wanted[..common]
}
