//! A connection for async handlers, with a runtime of its own in the connection process. Nothing of
//! the runtime is in a forker.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use super::Connection;
use crate::error::HandlerError;

/// A connection that an async handler reads and writes
/// ([`AsyncRead`], [`AsyncWrite`]): [`Server::run_async`](crate::Server::run_async).
///
/// Its bytes are counted, and dropping it ends the stream, as those of a [`Connection`]. Timeouts
/// and deadlines of that end no wait here: `tokio::time::timeout` does.
#[derive(Debug)]
pub struct AsyncConnection {
    /// A duplicate of the socket, of whichever family, by which the runtime knows when it is ready.
    /// It is closed first, so that the end of the connection is that of the stream.
    readiness: TcpStream,
    connection: Connection,
}

impl AsyncConnection {
    /// The same connection for this runtime. The socket becomes non-blocking.
    ///
    /// # Errors
    /// EMFILE, ENOMEM, ENOSPC (epoll_ctl(2)).
    ///
    /// # Panics
    /// Outside of a tokio runtime with its I/O driver.
    pub fn new(connection: Connection) -> io::Result<AsyncConnection> {
        rustix::io::ioctl_fionbio(&connection, true)?;
        let duplicate = connection.as_fd().try_clone_to_owned()?;
        Ok(AsyncConnection { readiness: TcpStream::from_std(duplicate.into())?, connection })
    }

    /// The connection: its id, its client, whether the server drains. Its reads and writes do not
    /// wait, and fail with [`io::ErrorKind::WouldBlock`] instead.
    #[must_use]
    pub fn get_ref(&self) -> &Connection {
        &self.connection
    }
}

impl AsyncRead for AsyncConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut connection = self.get_ref();
        if connection.buffered() > 0 {
            let length = connection.read(buffer.initialize_unfilled())?;
            buffer.advance(length);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.readiness.poll_read_ready(cx))?;
            let read = || connection.read(buffer.initialize_unfilled());
            match self.readiness.try_io(Interest::READABLE, read) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|length| buffer.advance(length))),
            }
        }
    }
}

impl AsyncWrite for AsyncConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut connection = self.get_ref();
        loop {
            ready!(self.readiness.poll_write_ready(cx))?;
            match self.readiness.try_io(Interest::WRITABLE, || connection.write(bytes)) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_ref().shutdown(Shutdown::Write))
    }
}

/// Makes a handler of an async function: for [`Services::service`](crate::Services::service), for
/// one. [`Server::run_async`](crate::Server::run_async) does it by itself.
///
/// Each connection process builds a tokio runtime with one thread, after the fork, and ends with
/// the future: tasks that were spawned end, too.
pub fn async_handler<H, F>(mut handler: H) -> impl FnMut(Connection) -> Result<(), HandlerError>
where
    H: FnMut(AsyncConnection) -> F,
    F: Future<Output = Result<(), HandlerError>>,
{
    move |connection| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { handler(AsyncConnection::new(connection)?).await })
    }
}
