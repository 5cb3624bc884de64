//! What a handler gets: the socket of one client, in the process that serves it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};
use tine_sys::memory::FlagReader;

use crate::lifecycle::timing::CLOSE_LINGER;
use crate::log::Log;
use crate::net::peer::{Peer, canonical};
use crate::shared::stats::ConnStats;

/// Where discarded bytes would go. Static, because it is never touched where the kernel discards: on the
/// stack, every function that holds it would touch all of its pages, in every process.
static DISCARD_BUFFER: Mutex<[u8; 64 * 1024]> = Mutex::new([0; 64 * 1024]);

/// Whether the client of this process has sent anything. Not in shared memory, where others could write it.
static RECEIVED_ANY: AtomicBool = AtomicBool::new(false);

/// Tells that once, for each connection.
pub(crate) fn take_received_any() -> bool {
    RECEIVED_ANY.swap(false, Relaxed)
}

fn discard_buffer() -> MutexGuard<'static, [u8; 64 * 1024]> {
    DISCARD_BUFFER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection, in the process that serves it. Reading and writing block.
///
/// Dropping it ends the stream properly: the client sees the end after the last byte that was written,
/// then what it still sends is discarded, for at most two seconds. A write to a client that has gone
/// is an error ([`io::ErrorKind::BrokenPipe`]), never a signal.
#[derive(Debug)]
pub struct Connection {
    /// Taken only by `into_fd` and at the end.
    socket: Option<OwnedFd>,
    id: u64,
    peer: Peer,
    slot: usize,
    display: ConnStats,
    drain: FlagReader,
    /// The client's side has ended or failed: nothing can be unread.
    ended: bool,
    trace: Option<Box<Log>>,
}

impl Connection {
    pub(crate) fn new(
        socket: OwnedFd,
        (id, peer): (u64, Peer),
        slot: usize,
        display: ConnStats,
        drain: FlagReader,
        trace: Option<Box<Log>>,
    ) -> Connection {
        Connection { socket: Some(socket), id, peer, slot, display, drain, ended: false, trace }
    }

    /// The number that the log knows this connection by.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address that the client connected to; `None` over a Unix socket.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        let name = rustix::net::getsockname(self.as_fd()).ok()?;
        SocketAddr::try_from(name).ok().map(canonical)
    }

    /// Whether the server has begun to drain: a handler that could go on for ever should finish.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.drain.get() != 0
    }

    /// Ends reading, writing, or both; after `Write` the client sees the end of the stream.
    ///
    /// # Errors
    /// ENOTCONN if the client has gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        Ok(rustix::net::shutdown(self, how)?)
    }

    /// How long a read may wait; then it fails with [`io::ErrorKind::WouldBlock`]. `None`: for ever.
    ///
    /// # Errors
    /// EINVAL for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        let which = rustix::net::sockopt::Timeout::Recv;
        Ok(rustix::net::sockopt::set_socket_timeout(self, which, time)?)
    }

    /// How long a write may wait for room; then it fails with [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// EINVAL for a time of zero.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        let which = rustix::net::sockopt::Timeout::Send;
        Ok(rustix::net::sockopt::set_socket_timeout(self, which, time)?)
    }

    /// Reads and throws away up to `most` bytes, without copying them where the protocol allows it
    /// (`MSG_TRUNC`, tcp(7)). Returns how many; 0 at the end of the stream.
    ///
    /// # Errors
    /// As reading.
    pub fn discard(&mut self, most: usize) -> io::Result<usize> {
        let mut discard_buffer = discard_buffer();
        let most = most.min(discard_buffer.len());
        let received = retry_on_intr(|| {
            rustix::net::recv(self.as_fd(), &mut discard_buffer[..most], RecvFlags::TRUNC)
                .map(|(_, bytes)| bytes)
        });
        self.took(received, most)
    }

    /// Gives the socket away, for an async runtime or a C library. From then on bytes are not
    /// counted, and the end of the stream is whatever closing the descriptor makes of it.
    #[must_use]
    pub fn into_fd(mut self) -> OwnedFd {
        self.display.stop_counting(self.slot);
        // Nobody knows.
        RECEIVED_ANY.store(true, Relaxed);
        match self.socket.take() {
            Some(socket) => socket,
            None => unreachable!("the socket is taken by methods that consume the connection only"),
        }
    }

    /// Takes note of what a receive came to; `asked` for nothing, nothing is not the end.
    fn took(&mut self, received: Result<usize, Errno>, asked: usize) -> io::Result<usize> {
        let received = received.map_err(|errno| self.failed(errno))?;
        self.ended |= received == 0 && asked > 0;
        self.display.received(self.slot, received);
        if received > 0 {
            RECEIVED_ANY.store(true, Relaxed);
        }
        Ok(received)
    }

    fn failed(&mut self, errno: Errno) -> io::Error {
        // Out of time is no end of the stream; anything else is.
        self.ended |= errno != Errno::AGAIN;
        if let Errno::CONNRESET | Errno::PIPE = errno {
            self.display.reset(self.slot);
        }
        io::Error::from(errno)
    }
}

impl Read for Connection {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = retry_on_intr(|| {
            rustix::net::recv(self.as_fd(), &mut *buffer, RecvFlags::empty()).map(|(_, bytes)| bytes)
        });
        let received = self.took(received, buffer.len())?;
        if let Some(trace) = self.trace.as_mut().filter(|_| received > 0) {
            trace.receive(self.id, &buffer[..received]);
        }
        Ok(received)
    }
}

impl Write for Connection {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let sent = retry_on_intr(|| rustix::net::send(self.as_fd(), buffer, SendFlags::NOSIGNAL));
        match sent {
            Ok(bytes) => {
                self.display.sent(self.slot, bytes);
                Ok(bytes)
            }
            Err(errno) => Err(self.failed(errno)),
        }
    }

    #[inline]
    fn write_all(&mut self, mut buffer: &[u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let sent = self.write(buffer)?;
            buffer = &buffer[sent..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => unreachable!("the socket is taken by methods that consume the connection only"),
        }
    }
}

impl Drop for Connection {
    #[inline]
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        if !self.ended {
            finish(&socket);
        }
        tine_sys::fd::close(socket);
    }
}

/// Ends a stream whose other side may still send: FIN, then discard for a bounded time. Closing the
/// descriptor is the caller's.
pub(crate) fn finish(socket: &OwnedFd) {
    if rustix::net::shutdown(socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + CLOSE_LINGER;
    while discard_now(socket) == Discarded::AllForNow {
        if Instant::now() >= deadline {
            return;
        }
        let mut ask = [PollFd::new(socket, PollFlags::IN)];
        // Interrupted or out of time: the loop looks at the clock.
        let _ = tine_sys::wait::until(&mut ask, Some(deadline));
    }
}

/// What discarding without waiting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discarded {
    /// Nothing more has come so far.
    AllForNow,
    /// The client's side ended or failed: nothing more will come.
    Ended,
}

/// Discards what has come, at most a few megabytes at a time, without waiting for more.
pub(crate) fn discard_now(socket: impl AsFd) -> Discarded {
    let mut discard_buffer = discard_buffer();
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    for _ in 0..64 {
        match rustix::net::recv(socket.as_fd(), &mut discard_buffer[..], flags) {
            Ok((_, 0)) => return Discarded::Ended,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Discarded::AllForNow,
            Err(_) => return Discarded::Ended,
        }
    }
    Discarded::AllForNow
}
