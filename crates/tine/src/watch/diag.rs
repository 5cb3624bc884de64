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
/// `NLM_F_REQUEST`, and with `NLM_F_DUMP`.
const REQUEST: u16 = 1;
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
/// Offset and length of `struct inet_diag_sockid` in it, and the offset in that of the cookie.
const ID_AT: usize = 4;
const ID: usize = 48;
const COOKIE_AT: usize = 40;
/// States of a socket in TIME-WAIT, before and after the peer's end of the stream.
const TIME_WAIT: [u8; 2] = [5, 6];
/// Offsets in `struct tcp_info`; times are in milliseconds.
const PROBES_AT: usize = 3;
const UNACKED_AT: usize = 24;
const LAST_DATA_SENT_AT: usize = 44;
const LAST_ACK_RECEIVED_AT: usize = 56;
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;
/// Since Linux 4.19; the second has the bytes that were sent again.
const BYTES_SENT_AT: usize = 200;
const BYTES_RETRANSMITTED_AT: usize = 208;

/// The addresses and ports of a socket, as the kernel writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId {
    family: u8,
    id: [u8; ID],
}

impl SocketId {
    fn of(message: &[u8]) -> SocketId {
        let mut id = [0; ID];
        id.copy_from_slice(&message[ID_AT..ID_AT + ID]);
        SocketId { family: message[0], id }
    }

    pub(super) fn local_port(&self) -> u16 {
        u16::from_be_bytes([self.id[0], self.id[1]])
    }
}

/// A socket that is no more, and its byte counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClosedSocket {
    pub(super) id: SocketId,
    pub(super) peer: (IpAddr, u16),
    /// With the peer's end of the stream, which counts as one.
    pub(super) received: u64,
    /// With our end of the stream, once it is acknowledged.
    pub(super) acked: u64,
    /// Without it; `None` where the kernel does not count it.
    pub(super) sent: Option<u64>,
}

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
        let mut found = HashMap::new();
        self.dump(&request(family(ipv6), port, details), |message| {
            let inode = u64::from(u32_at(message, INODE_AT));
            // Inode 0: the process has closed the socket.
            if inode != 0 {
                found.insert(inode, info(message));
            }
        })?;
        Ok(found)
    }

    /// The connected sockets with this local port, also those that their process has closed, by
    /// peer, with their counts. Sockets in TIME-WAIT have none.
    pub(super) fn by_peer(
        &mut self,
        ipv6: bool,
        port: u16,
    ) -> Result<HashMap<(IpAddr, u16), SocketInfo>, Errno> {
        let mut found = HashMap::new();
        self.dump(&request(family(ipv6), port, true), |message| {
            if attribute_info(&message[MESSAGE..]).is_some() {
                found.insert(peer(message), info(message));
            }
        })?;
        Ok(found)
    }

    /// Whether there is a socket in TIME-WAIT with these addresses and ports.
    pub(super) fn is_in_time_wait(&mut self, id: &SocketId) -> bool {
        let mut state = None;
        let asked = self.ask(&request_one(id)).and_then(|length| {
            each_message(&self.buffer[..length], |message| state = Some(message[STATE_AT]))
        });
        asked.is_ok() && state.is_some_and(|state| TIME_WAIT.contains(&state))
    }

    /// Sends a request, and returns the length of the first part of the answer.
    fn ask(&mut self, request: &[u8]) -> Result<usize, Errno> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, request, SendFlags::empty(), &kernel)?;
        self.buffer.resize(64 * 1024, 0);
        Ok(rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?.1)
    }

    /// Sends a request, and handles each socket of the answer.
    fn dump(&mut self, request: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Errno> {
        let mut length = self.ask(request)?;
        while !each_message(&self.buffer[..length], &mut each)? {
            length = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?.1;
        }
        Ok(())
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET }
}

/// The sockets in a datagram about destroyed ones.
pub(super) fn closed_sockets(datagram: &[u8]) -> Vec<ClosedSocket> {
    let mut found = Vec::new();
    // What is malformed ends it.
    let _ = each_message(datagram, |message| {
        let Some(info) = attribute_info(&message[MESSAGE..]) else { return };
        let sent = u64_at(info, BYTES_SENT_AT).saturating_sub(u64_at(info, BYTES_RETRANSMITTED_AT));
        found.push(ClosedSocket {
            id: SocketId::of(message),
            peer: peer(message),
            received: u64_at(info, BYTES_RECEIVED_AT),
            acked: u64_at(info, BYTES_ACKED_AT),
            sent: (info.len() >= BYTES_RETRANSMITTED_AT + 8).then_some(sent),
        });
    });
    found
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

/// A request for the socket with these addresses and ports, in any state.
fn request_one(id: &SocketId) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend(72u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([id.family, TCP, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(&id.id[..COOKIE_AT]);
    // The cookie of the socket in TIME-WAIT is another one (`INET_DIAG_NOCOOKIE`).
    request.extend([0xff; ID - COOKIE_AT]);
    request
}

/// Handles the sockets in one datagram. True after the last message of the answer.
fn each_message(mut rest: &[u8], mut each: impl FnMut(&[u8])) -> Result<bool, Errno> {
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
            BY_FAMILY if message.len() >= MESSAGE => each(message),
            _ => {}
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(false)
}

/// What a message says of a socket.
fn info(message: &[u8]) -> SocketInfo {
    SocketInfo { state: message[STATE_AT], ..parse_info(peer(message), &message[MESSAGE..]) }
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
fn parse_info(peer: (IpAddr, u16), attributes: &[u8]) -> SocketInfo {
    let Some(info) = attribute_info(attributes) else { return SocketInfo::of_peer(peer) };
    let ago = |at: usize| Duration::from_millis(u32_at(info, at).into());
    SocketInfo {
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
    }
}

/// The `struct tcp_info` among the attributes of a message.
fn attribute_info(mut attributes: &[u8]) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        if length < 4 || length > attributes.len() {
            break;
        }
        if kind == ATTRIBUTE_INFO {
            return Some(&attributes[4..length]);
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    None
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
        let read = |datagram: &[u8]| each_message(datagram, |message| panic!("{message:?}"));
        assert_eq!(read(&[0; 16]), Err(Errno::PROTO));
        assert_eq!(read(&[1, 2, 3]), Ok(false));
        assert_eq!(closed_sockets(&[7; 300]), []);
        for (number, error) in [(-1, Errno::PERM), (0, Errno::PROTO), (i32::MIN, Errno::PROTO)] {
            let mut message = [0; 20];
            message[0] = 20;
            message[4] = ERROR as u8;
            message[16..].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(read(&message), Err(error), "{number}");
        }
        let peer = (IpAddr::from([192, 0, 2, 1]), 80);
        let nothing = SocketInfo::of_peer(peer);
        assert_eq!(parse_info(peer, &[0; 8]), nothing);
        let short = SocketInfo { answers: AnswerInfo { probes: 1, ..nothing.answers }, ..nothing };
        assert_eq!(parse_info(peer, &[8, 0, 2, 0, 1, 1, 1, 1]), short);
    }
}
