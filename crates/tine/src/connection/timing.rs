//! How long a connection may wait and last, by the word of its handler, and whether its client is
//! still there.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};

use super::Connection;
use super::deadlines::{Deadlines, nanoseconds};
use crate::lifecycle::outcome::PassedDeadline;
use crate::system::clock::now;

/// Deadlines. They are kept in this process, by its reads and writes. The supervisor keeps those of
/// [`Server::idle_timeout`](crate::Server::idle_timeout) and
/// [`Server::max_lifetime`](crate::Server::max_lifetime), also for a handler that does neither.
impl Connection {
    /// Sets how long a read may wait; then it fails with [`io::ErrorKind::WouldBlock`]. `None`: for
    /// ever.
    ///
    /// # Errors
    /// EINVAL for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(self.socket(), Timeout::Recv, time)?)
    }

    /// Sets how long a write may wait; then it fails with [`io::ErrorKind::WouldBlock`]. `None`:
    /// for ever.
    ///
    /// # Errors
    /// EINVAL for a time of zero.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(self.socket(), Timeout::Send, time)?)
    }

    /// Sets how long nothing may be read or written: a read or write that waits, and finds that no
    /// byte has passed in either direction for this time, fails with [`io::ErrorKind::TimedOut`].
    /// It counts from now. A handler that returns this error ends with `timeout idle` in the log.
    /// `None`: for ever.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a time of zero.
    pub fn set_idle_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        refuse_zero(time)?;
        self.extras().deadlines.set_idle(time, now());
        Ok(())
    }

    /// Sets how long the connection may last, counted from its accept: later, every read and write
    /// fails with [`io::ErrorKind::TimedOut`], also one that waits already. A handler that returns
    /// this error ends with `timeout lifetime` in the log. `None`: for ever.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a time of zero.
    pub fn set_max_lifetime(&self, time: Option<Duration>) -> io::Result<()> {
        refuse_zero(time)?;
        let end = time.map(|time| self.start.saturating_add(nanoseconds(time)));
        self.extras().deadlines.set_end(end);
        Ok(())
    }

    /// Whether the client is gone: it has reset the connection, its host has stopped answering, or
    /// both directions have ended. Whatever is written is lost. It neither waits nor reads, so what
    /// the client sent before can still be unread.
    ///
    /// A client over TCP that closes its socket looks as one that half-closes, and waits for the
    /// rest of the response, until something is sent to it: [`Connection::is_half_closed`].
    #[must_use]
    pub fn is_peer_gone(&self) -> bool {
        // The kernel reports both in any case.
        self.poll_now(PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Whether the client sends nothing any more: it has ended its direction of the stream, or is
    /// gone. It may still read. It neither waits nor reads: what the client sent before can still
    /// be unread.
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.poll_now(PollFlags::RDHUP).intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }

    fn poll_now(&self, events: PollFlags) -> PollFlags {
        let mut ask = [PollFd::from_borrowed_fd(self.socket(), events)];
        // It can fail for lack of memory only: then the next read or write tells.
        let _ = tine_sys::wait::now(&mut ask);
        ask[0].revents()
    }
}

fn refuse_zero(time: Option<Duration>) -> io::Result<()> {
    match time {
        Some(Duration::ZERO) => Err(io::Error::new(io::ErrorKind::InvalidInput, "the time is zero")),
        _ => Ok(()),
    }
}

/// The direction of a call that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Connection {
    /// Makes a call that can wait, within the deadlines. The call is to wait itself only if its
    /// argument is false.
    pub(super) fn within(
        &self,
        deadlines: &Deadlines,
        direction: Direction,
        mut call: impl FnMut(bool) -> Result<usize, Errno>,
    ) -> io::Result<Result<usize, Errno>> {
        if !deadlines.are_any() {
            return Ok(rustix::io::retry_on_intr(|| call(false)));
        }
        deadlines.check_end(now()).map_err(timed_out)?;
        let mut own_deadline = None;
        loop {
            match call(true) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let own = match own_deadline {
                        Some(own) => own,
                        None => match self.own_deadline(direction) {
                            Ok(own) => *own_deadline.insert(own),
                            Err(errno) => return Ok(Err(errno)),
                        },
                    };
                    if own.is_some_and(|own| own <= Instant::now()) {
                        return Ok(Err(Errno::AGAIN));
                    }
                    self.wait_until_ready(deadlines, direction, own)?;
                }
                result => return Ok(result),
            }
        }
    }

    /// Until when a call may wait by the options of the socket.
    ///
    /// # Errors
    /// EAGAIN: it may not wait.
    fn own_deadline(&self, direction: Direction) -> Result<Option<Instant>, Errno> {
        if rustix::fs::fcntl_getfl(self.socket())?.contains(OFlags::NONBLOCK) {
            return Err(Errno::AGAIN);
        }
        let which = if direction == Direction::Read { Timeout::Recv } else { Timeout::Send };
        let time = socket_timeout(self.socket(), which)?;
        Ok(time.and_then(|time| Instant::now().checked_add(time)))
    }

    /// Waits until the socket is ready, or a time has passed.
    fn wait_until_ready(
        &self,
        deadlines: &Deadlines,
        direction: Direction,
        own: Option<Instant>,
    ) -> io::Result<()> {
        let left = deadlines.left(now()).map_err(timed_out)?;
        let deadline = left.and_then(|left| Instant::now().checked_add(left));
        let events = if direction == Direction::Read { PollFlags::IN } else { PollFlags::OUT };
        let mut ask = [PollFd::from_borrowed_fd(self.socket(), events)];
        match tine_sys::wait::until(&mut ask, [deadline, own].into_iter().flatten().min()) {
            // The caller looks at the socket and at the clock.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn timed_out(which: PassedDeadline) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, which)
}
