//! The kernel's table of TCP sockets (sock_diag(7)), read through a netlink socket.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, linux/tcp.h.
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Types of messages: `NLMSG_DONE`, `NLMSG_ERROR`, `SOCK_DIAG_BY_FAMILY`.
const DONE: u16 = 3;
const ERROR: u16 = 2;
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// The requested states: every state of a connected socket, but not `TIME_WAIT` or listening ones.
const STATES: u32 = !(1 << 6 | 1 << 7 | 1 << 10 | 1 << 3 | 1 << 12);
/// The attribute with `struct tcp_info` (`INET_DIAG_INFO`).
const ATTRIBUTE_INFO: u16 = 2;
/// Length of `struct inet_diag_msg`, and the offset of its inode.
const MESSAGE: usize = 72;
const INODE_AT: usize = 68;
/// Offsets in `struct tcp_info`.
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;

/// The byte counts of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketInfo {
    /// Bytes received from the peer.
    pub(crate) received: u64,
    /// Bytes that the peer has acknowledged.
    pub(crate) acked: u64,
}

/// A sock_diag socket, and the buffer of its answers.
#[derive(Debug)]
pub(crate) struct Diag {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Diag {
    /// A netlink socket for [`Diag::new`].
    pub(crate) fn socket() -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(netlink::SOCK_DIAG),
        )?;
        // The kernel answers at once; if it ever did not, the supervisor must not block for ever.
        let timeout = Some(std::time::Duration::from_secs(1));
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, timeout)?;
        Ok(socket)
    }

    pub(crate) fn new(socket: OwnedFd) -> Diag {
        Diag { socket, buffer: Vec::new() }
    }

    /// The connected sockets with this local port, by inode. The counts are zero unless `bytes`
    /// requests them.
    pub(crate) fn connected(
        &mut self,
        ipv6: bool,
        port: u16,
        bytes: bool,
    ) -> Result<HashMap<u64, SocketInfo>, Errno> {
        let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request(family, port, bytes), SendFlags::empty(), &kernel)?;
        self.buffer.resize(64 * 1024, 0);
        let mut found = HashMap::new();
        loop {
            let (_, length) = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            if read_messages(&self.buffer[..length], &mut found)? {
                return Ok(found);
            }
        }
    }
}

/// A request for the sockets of a family with this local port: `nlmsghdr` and `inet_diag_req_v2`.
fn request(family: AddressFamily, port: u16, bytes: bool) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend(72u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    let wanted = if bytes { 1 << (ATTRIBUTE_INFO - 1) } else { 0 };
    request.extend([family.as_raw() as u8, TCP, wanted, 0]);
    request.extend(STATES.to_ne_bytes());
    request.extend(port.to_be_bytes());
    request.resize(HEADER + 56, 0);
    request
}

/// Parses the messages of one datagram. True after the last message of the answer.
fn read_messages(mut rest: &[u8], found: &mut HashMap<u64, SocketInfo>) -> Result<bool, Errno> {
    while rest.len() >= HEADER {
        let length = u32_at(rest, 0) as usize;
        if length < HEADER || length > rest.len() {
            return Err(Errno::PROTO);
        }
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        let message = &rest[HEADER..length];
        match kind {
            DONE => return Ok(true),
            ERROR => {
                // The kernel sends the negated number of an error, from 1 to 4095.
                let errno = (u32_at(message, 0) as i32).wrapping_neg();
                return Err(match errno {
                    1..=4095 => Errno::from_raw_os_error(errno),
                    _ => Errno::PROTO,
                });
            }
            BY_FAMILY if message.len() >= MESSAGE => {
                let inode = u64::from(u32_at(message, INODE_AT));
                // Inode 0: the process has closed the socket.
                if inode != 0 {
                    found.insert(inode, parse_info(&message[MESSAGE..]));
                }
            }
            _ => {}
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(false)
}

/// Parses the attributes of a message.
fn parse_info(mut attributes: &[u8]) -> SocketInfo {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        if length < 4 || length > attributes.len() {
            break;
        }
        if kind == ATTRIBUTE_INFO {
            let info = &attributes[4..length];
            return SocketInfo {
                received: u64_at(info, BYTES_RECEIVED_AT),
                acked: u64_at(info, BYTES_ACKED_AT),
            };
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    SocketInfo::default()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..offset + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn inode(stream: &TcpStream) -> u64 {
        use std::os::fd::AsRawFd;
        std::fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).expect("open").ino()
    }

    #[test]
    fn sockets_are_listed_with_their_byte_counts_until_they_are_reset() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a port");
            let local = listener.local_addr().expect("bound");
            let mut client = TcpStream::connect(local).expect("listens");
            let (mut server, _) = listener.accept().expect("a client");
            let mut diag = Diag::new(Diag::socket().expect("a socket"));
            let mut look = |bytes| diag.connected(local.is_ipv6(), local.port(), bytes).expect("an answer");
            let inode = inode(&server);
            assert_eq!(look(true).get(&inode).map(|info| info.received), Some(0));
            client.write_all(b"hello").expect("sends");
            server.read_exact(&mut [0; 5]).expect("arrives");
            assert_eq!(look(true)[&inode].received, 5);
            assert_eq!(look(false)[&inode], SocketInfo::default());
            assert_eq!(look(false).len(), 1, "only sockets of the port");
            rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).expect("set");
            drop(client);
            assert!(server.read(&mut [0; 5]).is_err(), "reset");
            assert_eq!(look(true).get(&inode), None);
        }
    }

    #[test]
    fn malformed_messages_are_errors_or_ignored() {
        let mut found = HashMap::new();
        assert_eq!(read_messages(&[0; 16], &mut found), Err(Errno::PROTO));
        assert_eq!(read_messages(&[1, 2, 3], &mut found), Ok(false));
        for (number, error) in [(-1, Errno::PERM), (0, Errno::PROTO), (i32::MIN, Errno::PROTO)] {
            let mut message = [0; 20];
            message[0] = 20;
            message[4] = ERROR as u8;
            message[16..].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(read_messages(&message, &mut found), Err(error), "{number}");
        }
        assert_eq!(parse_info(&[0; 8]), SocketInfo::default());
        assert_eq!(parse_info(&[8, 0, 2, 0, 1, 1, 1, 1]), SocketInfo::default());
    }
}
