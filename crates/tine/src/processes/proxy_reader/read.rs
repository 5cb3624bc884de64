//! Reads the header of one proxy from its socket, and not a byte more.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::ipc::messages::Identified;
use crate::net::peer::{Peer, canonical};
use crate::net::proxied::Proxied;
use crate::net::proxy_header::{BadHeader, Header, MAX_HEADER, Parsed, parse};

/// Bytes that are looked at first. Headers without TLVs are shorter; more would be bytes of the
/// client, copied for nothing.
const FIRST_LOOK: usize = 512;

/// The state of a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is not complete.
    Waits,
    /// It is complete, and no byte of it is in the socket any more.
    Done(Header),
    /// There will be none.
    Failed(HeaderFault),
}

/// Why a proxy is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// It has sent something else.
    Bad(BadHeader),
    /// The connection has ended before the end of the header.
    Cut,
    /// The header did not come in time.
    Late,
    /// Too many proxies have not sent theirs.
    TooMany,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderFault::Bad(why) => why.fmt(f),
            HeaderFault::Cut => f.write_str("the connection ended before the end of the PROXY header"),
            HeaderFault::Late => f.write_str("the PROXY header did not come in time"),
            HeaderFault::TooMany => f.write_str("too many proxies have not sent their PROXY header"),
        }
    }
}

/// The buffer for looking at sockets.
pub(super) struct LookBuffer(Vec<u8>);

impl LookBuffer {
    pub(super) fn new() -> LookBuffer {
        LookBuffer(vec![0; MAX_HEADER])
    }

    /// Looks at what a socket has, and takes a complete header from it. `has_ended`: the proxy
    /// sends no more.
    pub(super) fn read(&mut self, socket: impl AsFd, has_ended: bool) -> Reading {
        let mut size = FIRST_LOOK;
        loop {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let seen = match rustix::net::recv(socket.as_fd(), &mut self.0[..size], flags) {
                Ok((_, 0)) => return Reading::Failed(HeaderFault::Cut),
                Ok((_, seen)) => seen,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) if !has_ended => return Reading::Waits,
                Err(_) => return Reading::Failed(HeaderFault::Cut),
            };
            match parse(&self.0[..seen]) {
                Ok(Parsed::Complete(header)) => return self.take(socket, header),
                Ok(Parsed::Incomplete(_)) if seen == size && size < MAX_HEADER => size = MAX_HEADER,
                Ok(Parsed::Incomplete(_)) if has_ended => return Reading::Failed(HeaderFault::Cut),
                Ok(Parsed::Incomplete(_)) => return Reading::Waits,
                Err(why) => return Reading::Failed(HeaderFault::Bad(why)),
            }
        }
    }

    fn take(&mut self, socket: impl AsFd, header: Header) -> Reading {
        let mut left = header.length;
        while left > 0 {
            match rustix::net::recv(socket.as_fd(), &mut self.0[..left], RecvFlags::DONTWAIT) {
                Ok((_, taken @ 1..)) => left -= taken,
                Err(Errno::INTR) => {}
                // What was seen was there; the connection has failed since.
                Ok(_) | Err(_) => return Reading::Failed(HeaderFault::Cut),
            }
        }
        Reading::Done(header)
    }
}

/// The client that a header is about: that of its addresses, or the proxy itself.
pub(super) fn client_of(header: Header, proxy: Peer) -> Identified {
    let peer = header.addresses.map_or(proxy, |addresses| Peer::Tcp(canonical(addresses.source)));
    let local = header.addresses.map(|addresses| canonical(addresses.destination));
    let header = u32::try_from(header.length).unwrap_or(u32::MAX);
    Identified { peer, proxied: Some(Proxied { proxy, local, header }) }
}

/// A client to be passed to the forkers.
pub(super) struct IdentifiedClient {
    pub(super) socket: OwnedFd,
    pub(super) message: Identified,
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_header_is_taken_and_the_rest_stays() {
        let large = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\x20\0"[..], &[7; 0x2000]].concat();
        for header in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 3 4\r\n"[..], b"PROXY UNKNOWN\r\n", &large] {
            let (mut proxy, mut server) = UnixStream::pair().expect("a pair");
            let mut look = LookBuffer::new();
            assert_eq!(look.read(&server, false), Reading::Waits);
            let (last, start) = header.split_last().expect("bytes");
            proxy.write_all(start).expect("room");
            assert_eq!(look.read(&server, false), Reading::Waits);
            assert_eq!(look.read(&server, true), Reading::Failed(HeaderFault::Cut));
            proxy.write_all(&[*last]).and_then(|()| proxy.write_all(b"client")).expect("room");
            drop(proxy);
            let Reading::Done(read) = look.read(&server, true) else { panic!("no header") };
            assert_eq!(read.length, header.len());
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).expect("the end");
            assert_eq!(rest, b"client");
        }
    }

    #[test]
    fn faults_of_a_header() {
        for (bytes, fault) in [
            (&b"SSH-2.0-x\r\n"[..], HeaderFault::Bad(BadHeader::NoHeader)),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", HeaderFault::Bad(BadHeader::Fields)),
            (b"", HeaderFault::Cut),
        ] {
            let (mut proxy, server) = UnixStream::pair().expect("a pair");
            proxy.write_all(bytes).expect("room");
            drop(proxy);
            assert_eq!(LookBuffer::new().read(&server, false), Reading::Failed(fault));
        }
    }

    #[test]
    fn a_client_has_the_addresses_of_the_header_or_those_of_the_socket() {
        let proxy = Peer::Tcp("192.0.2.9:9".parse().expect("an address"));
        let client = |bytes: &[u8]| match parse(bytes) {
            Ok(Parsed::Complete(header)) => client_of(header, proxy),
            other => panic!("{other:?}"),
        };
        let own = client(b"PROXY UNKNOWN\r\n");
        assert_eq!((own.peer, own.proxied), (proxy, Some(Proxied { proxy, local: None, header: 15 })));
        let other = client(b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 4711 80\r\n");
        assert_eq!(other.peer.to_string(), "192.0.2.1:4711", "an IPv4 client is one, however it is written");
        let local = "[2001:db8::1]:80".parse().ok();
        assert_eq!(other.proxied, Some(Proxied { proxy, local, header: 49 }));
    }
}
