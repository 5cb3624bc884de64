//! The connection that a handler gets: the socket of one client, in the process that serves it.

mod close;
mod stream;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tine_sys::memory::FlagReader;

use crate::ipc::stats::ConnStats;
use crate::log::Log;
use crate::net::peer::{Peer, canonical};
use crate::net::proxied::Proxied;
pub(crate) use close::{Discarded, discard_now, finish};

/// What this process knows of its client beside the connection. Not in shared memory, where others
/// could write it. In one place, because each page that a new process writes costs a fault.
struct ClientNotes {
    /// Whether the client has sent anything.
    received_any: AtomicBool,
    /// Whether the time of its first byte is noted.
    notes_first_byte: AtomicBool,
}

static NOTES: ClientNotes =
    ClientNotes { received_any: AtomicBool::new(false), notes_first_byte: AtomicBool::new(false) };

/// Has the time of the first byte of each client noted, here and in processes forked from here.
pub(crate) fn note_first_bytes() {
    NOTES.notes_first_byte.store(true, Relaxed);
}

/// Whether the client of this process has sent anything, since the last call.
pub(crate) fn take_received_any() -> bool {
    NOTES.received_any.swap(false, Relaxed)
}

/// A connection, in the process that serves it. Reading and writing block; `&Connection` reads and
/// writes, too, so that one thread can read while another writes.
///
/// Dropping it ends the stream properly: the client receives the end after the last byte that was
/// written, and what it still sends is discarded, for at most two seconds. Writing to a client that
/// is gone is an error ([`io::ErrorKind::BrokenPipe`]), never a signal.
#[derive(Debug)]
pub struct Connection {
    /// `None` only after `into_fd`, and at the end.
    socket: Option<OwnedFd>,
    id: u64,
    peer: Peer,
    proxied: Option<Box<Proxied>>,
    slot: usize,
    stats: ConnStats,
    drain: FlagReader,
    /// The client's side has ended or failed: no input can be unread.
    ended: AtomicBool,
    trace: Option<Box<Mutex<Log>>>,
}

impl Connection {
    #[inline(always)]
    pub(crate) fn new(
        socket: OwnedFd,
        (id, peer, proxied): (u64, Peer, Option<Box<Proxied>>),
        slot: usize,
        stats: ConnStats,
        drain: FlagReader,
        trace: Option<Box<Log>>,
    ) -> Connection {
        let trace = trace.map(|trace| Box::new(Mutex::new(*trace)));
        Connection {
            socket: Some(socket),
            id,
            peer,
            proxied,
            slot,
            stats,
            drain,
            ended: AtomicBool::new(false),
            trace,
        }
    }

    /// The id of this connection in the log.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client: with [`Server::proxy_protocol`](crate::Server::proxy_protocol), the one that the
    /// proxy speaks for.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The proxy that speaks for the client, at the other end of the socket; `None` if the client
    /// has connected itself.
    #[must_use]
    pub fn proxy(&self) -> Option<Peer> {
        self.proxied.as_ref().map(|proxied| proxied.proxy)
    }

    /// The address of the client. That of an IPv4 client is an IPv4 address, also on a dual-stack
    /// listener.
    ///
    /// # Errors
    /// A client over a Unix or vsock socket has no such address ([`io::ErrorKind::Unsupported`]).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.peer {
            Peer::Tcp(address) => Ok(address),
            Peer::Unix(_) | Peer::Vsock { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The address that the client connected to. If a proxy speaks for the client, that is an
    /// address of the proxy; this end of the socket is `getsockname(2)` of the descriptor.
    ///
    /// # Errors
    /// A Unix or vsock socket has no such address ([`io::ErrorKind::Unsupported`]).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if let Some(local) = self.proxied.as_ref().and_then(|proxied| proxied.local) {
            return Ok(local);
        }
        let name = rustix::net::getsockname(self.socket())?;
        SocketAddr::try_from(name).map(canonical).map_err(|_| io::ErrorKind::Unsupported.into())
    }

    /// Whether the server drains: a handler that could go on for ever should finish.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.get() != 0
    }

    /// Ends reading, writing, or both. After the end of writing, the client receives the end of the
    /// stream.
    ///
    /// # Errors
    /// ENOTCONN if the client is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        Ok(rustix::net::shutdown(self.socket(), how)?)
    }

    /// Sets how long a read may wait; then it fails with [`io::ErrorKind::WouldBlock`]. `None`: for
    /// ever.
    ///
    /// # Errors
    /// EINVAL for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        let which = rustix::net::sockopt::Timeout::Recv;
        Ok(rustix::net::sockopt::set_socket_timeout(self.socket(), which, time)?)
    }

    /// Sets how long a write may wait; then it fails with [`io::ErrorKind::WouldBlock`]. `None`:
    /// for ever.
    ///
    /// # Errors
    /// EINVAL for a time of zero.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        let which = rustix::net::sockopt::Timeout::Send;
        Ok(rustix::net::sockopt::set_socket_timeout(self.socket(), which, time)?)
    }

    #[inline]
    fn socket(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => unreachable!("only methods that consume the connection take the socket"),
        }
    }

    /// Takes the socket out. From now on the bytes are not counted, and nothing ends the stream
    /// properly.
    fn into_socket(mut self) -> OwnedFd {
        self.stats.stop_counting(self.slot);
        // Nobody can know whether the client sends anything.
        NOTES.received_any.store(true, Relaxed);
        match self.socket.take() {
            Some(socket) => socket,
            None => unreachable!("only methods that consume the connection take the socket"),
        }
    }
}

/// The socket, for an async runtime or a C library. The log does not count its bytes any more, and
/// closing the descriptor ends the stream.
impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> OwnedFd {
        connection.into_socket()
    }
}

/// The stream of a TCP client, under the conditions of `OwnedFd::from`. The connection of a client
/// over a Unix or vsock socket is the error.
impl TryFrom<Connection> for TcpStream {
    type Error = Connection;

    fn try_from(connection: Connection) -> Result<TcpStream, Connection> {
        // The other end of the socket, which a proxy can have instead of the client.
        match connection.proxy().unwrap_or(connection.peer) {
            Peer::Tcp(_) => Ok(TcpStream::from(connection.into_socket())),
            Peer::Unix(_) | Peer::Vsock { .. } => Err(connection),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl Drop for Connection {
    #[inline]
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        if !*self.ended.get_mut() {
            finish(&socket);
        }
        tine_sys::fd::close(socket);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, IoSliceMut, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A connection and its client.
    fn pair() -> (Connection, TcpStream, ConnStats) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (server, address) = listener.accept().expect("a client");
        let stats = ConnStats::new(1).expect("memory");
        let (_, [drain]) = tine_sys::memory::flags().expect("memory");
        (Connection::new(server.into(), (7, Peer::Tcp(address), None), 0, stats, drain, None), client, stats)
    }

    #[test]
    fn addresses_have_the_names_of_the_standard_library() {
        let (connection, client, _) = pair();
        assert_eq!(connection.peer_addr().expect("TCP"), client.local_addr().expect("TCP"));
        assert_eq!(connection.local_addr().expect("TCP"), client.peer_addr().expect("TCP"));
        assert!(!connection.is_draining());
        assert_eq!(connection.as_raw_fd(), connection.as_fd().as_raw_fd());
    }

    #[test]
    fn a_proxied_connection_has_the_addresses_of_its_header() {
        let (mut connection, client, _) = pair();
        assert_eq!(connection.proxy(), None);
        let proxy = Peer::Tcp(client.local_addr().expect("TCP"));
        let own = connection.local_addr().expect("TCP");
        connection.proxied = Some(Box::new(Proxied { proxy, local: None, header: 16 }));
        assert_eq!((connection.proxy(), connection.local_addr().expect("TCP")), (Some(proxy), own));
        let local = "192.0.2.1:25".parse().expect("an address");
        connection.proxied = Some(Box::new(Proxied { proxy, local: Some(local), header: 28 }));
        assert_eq!(connection.local_addr().expect("TCP"), local);
        // A client over TCP whose proxy is connected over a Unix socket.
        connection.proxied =
            Some(Box::new(Proxied { proxy: Peer::Unix(None), local: Some(local), header: 28 }));
        TcpStream::try_from(connection).expect_err("a Unix socket");
    }

    #[test]
    fn every_way_of_reading_and_writing_is_counted() {
        let (connection, mut client, stats) = pair();
        client.write_all(b"abcdefgh").expect("sent");
        let mut buffer = [0; 3];
        assert_eq!(connection.peek(&mut buffer).expect("bytes"), 3);
        assert_eq!(stats.bytes(0), Some((0, 0)), "peeked bytes are still to be read");
        (&connection).read_exact(&mut buffer).expect("bytes");
        assert_eq!(&buffer, b"abc");
        let (mut one, mut two) = ([0; 1], [0; 2]);
        let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!((&connection).read_vectored(&mut parts).expect("bytes"), 3);
        assert_eq!((&one, &two), (b"d", b"ef"));
        assert_eq!(connection.discard(10).expect("bytes"), 2);
        assert_eq!(stats.bytes(0), Some((8, 0)));
        (&connection).write_all(b"12").expect("sent");
        let parts = [IoSlice::new(b"3"), IoSlice::new(b"45")];
        assert_eq!((&connection).write_vectored(&parts).expect("sent"), 3);
        assert_eq!(stats.bytes(0), Some((8, 5)));
        let mut received = [0; 5];
        client.read_exact(&mut received).expect("bytes");
        assert_eq!(&received, b"12345");
    }

    #[test]
    fn one_thread_reads_while_another_writes() {
        let (connection, mut client, _) = pair();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut text = String::new();
                (&connection).read_to_string(&mut text).map(|_| text)
            });
            (&connection).write_all(b"question").expect("sent");
            let mut question = [0; 8];
            client.read_exact(&mut question).expect("bytes");
            client.write_all(b"answer").expect("sent");
            client.shutdown(Shutdown::Write).expect("connected");
            assert_eq!(reader.join().expect("no panic").expect("text"), "answer");
        });
    }

    #[test]
    fn a_socket_that_is_taken_out_is_not_counted() {
        let (connection, mut client, stats) = pair();
        let mut stream = TcpStream::try_from(connection).expect("TCP");
        stream.write_all(b"x").expect("sent");
        assert_eq!(stats.bytes(0), None);
        drop(stream);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the end of the stream");
        assert_eq!(rest, b"x");
        let (connection, _client, _) = pair();
        let number = connection.as_raw_fd();
        assert_eq!(OwnedFd::from(connection).as_raw_fd(), number);
    }

    #[test]
    fn writing_to_a_client_that_is_gone_is_an_error() {
        let (connection, client, _) = pair();
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("a socket");
        drop(client);
        let failed = loop {
            if let Err(error) = (&connection).write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]) {
                break error.kind();
            }
        };
        assert!(matches!(failed, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{failed}");
    }
}
