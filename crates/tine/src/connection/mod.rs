//! The connection that a handler gets: the socket of one client, in the process that serves it.

#[cfg(feature = "async")]
pub(crate) mod asynchronous;
mod close;
mod deadlines;
pub(crate) mod handler;
pub(crate) mod helper;
mod input;
mod lines;
mod stream;
mod timing;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};

use tine_sys::memory::FlagReader;

use crate::ipc::stats::ConnStats;
use crate::log::Log;
use crate::net::peer::{Peer, canonical};
use crate::net::proxied::Proxied;
pub(crate) use close::{Discarded, discard_now, finish};
use deadlines::Deadlines;
use input::Input;

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

/// What only some handlers use, allocated when they do: the page of each process without is saved.
#[derive(Debug, Default)]
struct Extras {
    input: Mutex<Input>,
    deadlines: Deadlines,
}

/// A connection, in the process that serves it. Reading and writing block; `&Connection` reads and
/// writes, too, so that one thread can read while another writes.
///
/// It is a [`BufRead`](io::BufRead), too, for protocols of lines: see [`Connection::next_line`].
/// The buffer is allocated at the first use; all ways of reading return first what is in it.
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
    /// When the connection began: monotonic clock, nanoseconds.
    start: u64,
    slot: usize,
    stats: ConnStats,
    drain: FlagReader,
    /// The client's side has ended or failed: no input can be unread.
    ended: AtomicBool,
    trace: Option<Box<Mutex<Log>>>,
    extras: OnceLock<Box<Extras>>,
}

impl Connection {
    #[inline(always)]
    pub(crate) fn new(
        socket: OwnedFd,
        (id, peer, proxied): (u64, Peer, Option<Box<Proxied>>),
        start: u64,
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
            start,
            slot,
            stats,
            drain,
            ended: AtomicBool::new(false),
            trace,
            extras: OnceLock::new(),
        }
    }

    /// The id of this connection in the log and in `tine list`: a number that no other connection
    /// of the server has.
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
    /// stream. After the end of reading, reads return what has arrived or is buffered, then the end
    /// of the stream.
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

    /// What only some handlers use, allocated now if it is not there yet.
    fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
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
/// closing the descriptor ends the stream. Bytes that are buffered are lost
/// ([`Connection::buffered`]), and deadlines are not kept.
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
mod tests;
