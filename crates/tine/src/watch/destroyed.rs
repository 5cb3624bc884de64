//! The byte counts of sockets that the kernel has destroyed (`ss -E`): those of programs, which
//! count none themselves.
//!
//! The kernel sends a message for each TCP socket that it destroys, a little after both ends are
//! closed (`SKNLGRP_INET_TCP_DESTROY`, linux/sock_diag.h). It has the peer, but no inode, and does
//! not say whether the client's end of the stream is among the bytes received, where it counts as
//! one. If the client has ended its stream first, the socket leaves nothing; otherwise it leaves
//! one in TIME-WAIT, which is looked for. If both end it at the same moment, it is counted.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::diag::{ClosedSocket, Diag, SocketInfo, closed_sockets};
use crate::system::clock::now;

/// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`, as bits.
const GROUPS: u32 = 1 << 0 | 1 << 2;

/// Bytes of messages that the kernel keeps for us.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Sockets whose process has not been reaped, at most: the oldest are forgotten.
const MAX_SOCKETS: usize = 16_384;

/// Receives the messages.
#[derive(Debug)]
pub(crate) struct DestroyedSockets {
    socket: OwnedFd,
    diag: Diag,
    ports: Vec<u16>,
    buffer: Vec<u8>,
    /// Each with the time when its message was read: monotonic clock, nanoseconds.
    by_peer: HashMap<(IpAddr, u16), (u64, ClosedSocket)>,
    /// The peers in the order of their messages.
    order: VecDeque<(IpAddr, u16)>,
}

impl DestroyedSockets {
    /// Subscribes to the messages about sockets with these local ports. `place` moves descriptors
    /// to where the server's are. `None` where the kernel has no such messages or denies them.
    pub(crate) fn new(
        ports: &[(bool, u16)],
        place: impl Fn(OwnedFd) -> std::io::Result<OwnedFd>,
    ) -> Option<DestroyedSockets> {
        let mut ports: Vec<u16> = ports.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() {
            return None;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = Some(netlink::SOCK_DIAG);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, kind).ok()?;
        // Before the first message. Without a filter, others would be read for nothing.
        tine_sys::socket_filter::filter_by_port(socket.as_fd(), &ports).ok()?;
        use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
        // The first needs CAP_NET_ADMIN; the second is cut to net.core.rmem_max.
        let _ = set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER));
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS)).ok()?;
        let diag = Diag::new(place(Diag::socket().ok()?).ok()?);
        let socket = place(socket).ok()?;
        let (by_peer, order) = (HashMap::new(), VecDeque::new());
        Some(DestroyedSockets { socket, diag, ports, buffer: vec![0; 8192], by_peer, order })
    }

    /// The socket, which is readable when there are messages.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads the messages that there are.
    pub(crate) fn read(&mut self) {
        loop {
            match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => self.note(length),
                // Messages were lost, for want of memory; others may follow.
                Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, length: usize) {
        let at = now();
        for closed in closed_sockets(&self.buffer[..length]) {
            // The filter lets no other through, if the kernel has applied it.
            if self.ports.contains(&closed.id.local_port()) {
                self.by_peer.insert(closed.peer, (at, closed));
                self.order.push_back(closed.peer);
            }
        }
        while self.order.len() > MAX_SOCKETS {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.by_peer.remove(&oldest));
        }
    }

    /// Takes the bytes received from a peer and acknowledged by it, if the socket of its connection
    /// is destroyed, which began at `start` (monotonic clock, nanoseconds).
    pub(crate) fn take(&mut self, peer: SocketAddr, start: u64) -> Option<(u64, u64)> {
        let (at, closed) = self.by_peer.remove(&(peer.ip(), peer.port()))?;
        if at < start {
            // That of an earlier client with this address, which was rejected.
            return None;
        }
        let sent = closed.sent.unwrap_or(closed.acked);
        // A client that has reset the connection has not acknowledged our end of the stream, and
        // has sent none.
        let has_closed = closed.sent.is_none_or(|sent| closed.acked > sent);
        let has_ended = has_closed && !self.diag.is_in_time_wait(&closed.id);
        Some((closed.received.saturating_sub(u64::from(has_ended)), closed.acked.min(sent)))
    }

    /// Whether the socket with this peer is destroyed.
    pub(crate) fn has(&self, peer: SocketAddr) -> bool {
        self.by_peer.contains_key(&(peer.ip(), peer.port()))
    }

    /// The bytes of the sockets that are not destroyed yet, by peer: their client has not
    /// acknowledged everything, or a process still has them.
    pub(crate) fn remaining(&mut self, ports: &[(bool, u16)]) -> HashMap<(IpAddr, u16), (u64, u64)> {
        let mut found = HashMap::new();
        for (ipv6, port) in ports {
            let sockets = self.diag.by_peer(*ipv6, *port).unwrap_or_default();
            let counts = |info: SocketInfo| (info.payload_received(), info.payload_sent());
            found.extend(sockets.into_iter().map(|(peer, info)| (peer, counts(info))));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    /// Reads messages until there is that of a peer.
    fn wait_for(destroyed: &mut DestroyedSockets, peer: SocketAddr) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !destroyed.by_peer.contains_key(&(peer.ip(), peer.port())) {
            assert!(Instant::now() < deadline, "no message");
            std::thread::sleep(Duration::from_millis(1));
            destroyed.read();
        }
    }

    /// The bytes of a connection, of which `end` ends the server's side and may return the client.
    fn counted(address: &str, end: impl Fn(TcpStream, TcpStream) -> Option<TcpStream>) -> (u64, u64) {
        let listener = TcpListener::bind(address).expect("a port");
        let local = listener.local_addr().expect("bound");
        let ports = [(local.is_ipv6(), local.port())];
        let mut destroyed = DestroyedSockets::new(&ports, Ok).expect("the kernel has the messages");
        let start = now();
        let mut client = TcpStream::connect(local).expect("listens");
        let peer = client.local_addr().expect("bound");
        let (mut server, _) = listener.accept().expect("a client");
        client.write_all(b"hello").expect("sends");
        server.read_exact(&mut [0; 5]).expect("arrives");
        server.write_all(b"abc").expect("sends");
        client.read_exact(&mut [0; 3]).expect("arrives");
        let _client = end(server, client);
        wait_for(&mut destroyed, peer);
        destroyed.take(peer, start).expect("a message")
    }

    #[test]
    fn the_ends_of_the_stream_are_not_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let client_first = |mut server: TcpStream, client: TcpStream| {
                client.shutdown(Shutdown::Write).expect("connected");
                assert_eq!(server.read(&mut [0; 9]).expect("the end"), 0);
                drop(server);
                Some(client)
            };
            let server_first = |server: TcpStream, client: TcpStream| {
                drop(server);
                Some(client)
            };
            let reset = |mut server: TcpStream, client: TcpStream| {
                rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set");
                drop(client);
                server.read(&mut [0; 9]).expect_err("reset");
                None
            };
            assert_eq!(counted(address, client_first), (5, 3), "the client ends first");
            assert_eq!(counted(address, server_first), (5, 3), "the server ends first");
            assert_eq!(counted(address, reset), (5, 3), "the client resets");
        }
    }

    #[test]
    fn the_message_of_an_earlier_client_is_not_that_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("bound");
        let ports = [(false, local.port())];
        let mut destroyed = DestroyedSockets::new(&ports, Ok).expect("the kernel has the messages");
        let client = TcpStream::connect(local).expect("listens");
        let peer = client.local_addr().expect("bound");
        assert_eq!(destroyed.remaining(&ports).get(&(peer.ip(), peer.port())), Some(&(0, 0)));
        drop(listener.accept().expect("a client"));
        wait_for(&mut destroyed, peer);
        assert_eq!(destroyed.take(peer, now()), None);
        assert_eq!(destroyed.take(peer, 0), None, "it is forgotten");
        assert!(DestroyedSockets::new(&[], Ok).is_none(), "no TCP port");
    }
}
