//! The kernel's table of TCP sockets (sock_diag(7)), read through a netlink socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::answers::AnswerInfo;

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
/// Length of `struct inet_diag_msg`, and the offsets of the state, the peer's port, its address and
/// the inode.
const MESSAGE: usize = 72;
const STATE_AT: usize = 1;
const PEER_PORT_AT: usize = 6;
const PEER_ADDRESS_AT: usize = 24;
const INODE_AT: usize = 68;
/// Offsets in `struct tcp_info`; times are in milliseconds.
const PROBES_AT: usize = 3;
const UNACKED_AT: usize = 24;
const LAST_DATA_SENT_AT: usize = 44;
const LAST_ACK_RECEIVED_AT: usize = 56;
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;

/// The peer of a socket and, where requested, its byte counts and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketInfo {
    /// The address of the peer, and its port. IPv4 also on a dual-stack socket.
    pub(crate) peer: (IpAddr, u16),
    /// Bytes received from the peer.
    pub(crate) received: u64,
    /// Bytes that the peer has acknowledged.
    pub(crate) acked: u64,
    pub(crate) answers: AnswerInfo,
    /// The state of the connection, as in linux/tcp_states.h.
    state: u8,
}

impl SocketInfo {
    /// A socket of which only the peer is known.
    pub(super) fn of_peer(peer: (IpAddr, u16)) -> SocketInfo {
        SocketInfo { peer, received: 0, acked: 0, answers: AnswerInfo::default(), state: 0 }
    }

    /// Bytes received from the peer, without its end of the stream, which the kernel counts as one.
    pub(crate) fn payload_received(&self) -> u64 {
        // CLOSE-WAIT, LAST-ACK and CLOSING follow on that end.
        self.received.saturating_sub(u64::from(matches!(self.state, 8 | 9 | 11)))
    }

    /// Bytes that the peer has acknowledged, without the end of the stream, which counts as one.
    pub(crate) fn payload_sent(&self) -> u64 {
        // FIN-WAIT-2 follows on the acknowledgement of that end.
        self.acked.saturating_sub(u64::from(self.state == 5))
    }

    /// The name of the state (RFC 9293, 3.3.2), as `ss` has it.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            1 => "ESTAB",
            4 => "FIN-WAIT-1",
            5 => "FIN-WAIT-2",
            8 => "CLOSE-WAIT",
            9 => "LAST-ACK",
            11 => "CLOSING",
            _ => "UNKNOWN",
        }
    }
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
        let timeout = Some(Duration::from_secs(1));
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, timeout)?;
        Ok(socket)
    }

    pub(crate) fn new(socket: OwnedFd) -> Diag {
        Diag { socket, buffer: Vec::new() }
    }

    /// Whether the kernel answers requests about each of these families and ports.
    pub(crate) fn answers(&mut self, ports: &[(bool, u16)]) -> bool {
        ports.iter().all(|(ipv6, port)| self.connected(*ipv6, *port, false).is_ok())
    }

    /// The connected sockets with this local port, by inode. Counts and answers are zero unless
    /// `details` requests them.
    pub(crate) fn connected(
        &mut self,
        ipv6: bool,
        port: u16,
        details: bool,
    ) -> Result<HashMap<u64, SocketInfo>, Errno> {
        let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request(family, port, details), SendFlags::empty(), &kernel)?;
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
fn request(family: AddressFamily, port: u16, details: bool) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend(72u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    let wanted = if details { 1 << (ATTRIBUTE_INFO - 1) } else { 0 };
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
                    let info = parse_info(peer(message), &message[MESSAGE..]);
                    found.insert(inode, SocketInfo { state: message[STATE_AT], ..info });
                }
            }
            _ => {}
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(false)
}

/// The peer in a message.
fn peer(message: &[u8]) -> (IpAddr, u16) {
    let port = u16::from_be_bytes([message[PEER_PORT_AT], message[PEER_PORT_AT + 1]]);
    let mut address = [0; 16];
    address.copy_from_slice(&message[PEER_ADDRESS_AT..PEER_ADDRESS_AT + 16]);
    let ip = match AddressFamily::from_raw(u16::from(message[0])) {
        AddressFamily::INET => {
            let [a, b, c, d, ..] = address;
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => Ipv6Addr::from(address).to_canonical(),
    };
    (ip, port)
}

/// Parses the attributes of a message.
fn parse_info(peer: (IpAddr, u16), mut attributes: &[u8]) -> SocketInfo {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        if length < 4 || length > attributes.len() {
            break;
        }
        if kind == ATTRIBUTE_INFO {
            let info = &attributes[4..length];
            let ago = |at: usize| Duration::from_millis(u32_at(info, at).into());
            return SocketInfo {
                peer,
                received: u64_at(info, BYTES_RECEIVED_AT),
                acked: u64_at(info, BYTES_ACKED_AT),
                answers: AnswerInfo {
                    unacked: u32_at(info, UNACKED_AT),
                    probes: info.get(PROBES_AT).copied().unwrap_or(0),
                    data_sent_ago: ago(LAST_DATA_SENT_AT),
                    answered_ago: ago(LAST_ACK_RECEIVED_AT),
                },
                state: 0,
            };
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    SocketInfo::of_peer(peer)
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
            let mut look =
                |details| diag.connected(local.is_ipv6(), local.port(), details).expect("an answer");
            let inode = inode(&server);
            let peer = client.local_addr().expect("bound");
            assert_eq!(look(false)[&inode].peer, (peer.ip(), peer.port()));
            assert_eq!(look(true).get(&inode).map(|info| info.received), Some(0));
            client.write_all(b"hello").expect("sends");
            server.read_exact(&mut [0; 5]).expect("arrives");
            assert_eq!(look(true)[&inode].received, 5);
            let answers = look(true)[&inode].answers;
            assert_eq!((answers.unacked, answers.probes), (0, 0));
            assert!(answers.answered_ago < Duration::from_secs(60), "{answers:?}");
            assert_eq!(
                (look(false)[&inode].received, look(false)[&inode].answers),
                (0, AnswerInfo::default())
            );
            assert_eq!(look(false).len(), 1, "only sockets of the port");
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set");
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
        let peer = (IpAddr::from([192, 0, 2, 1]), 80);
        let nothing = SocketInfo::of_peer(peer);
        assert_eq!(parse_info(peer, &[0; 8]), nothing);
        let short = SocketInfo { answers: AnswerInfo { probes: 1, ..nothing.answers }, ..nothing };
        assert_eq!(parse_info(peer, &[8, 0, 2, 0, 1, 1, 1, 1]), short);
    }
}
