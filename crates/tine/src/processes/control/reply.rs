//! Replies to a controller: lines of JSON, the last one with `done` or `error`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde_json::{Value, json};

use crate::ipc::steering::OrderSender;

/// The time that a controller has to send its request, and to take more of a reply.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Exit codes of commands: a request that is wrong, and one that cannot be done now.
pub(super) const USAGE: u8 = 100;
pub(super) const SYSTEM: u8 = 111;

/// Bytes that are collected before they are sent.
const BUFFER: usize = 64 * 1024;

/// The stream to a controller.
pub(super) struct Reply<'a> {
    stream: &'a OwnedFd,
    /// The supervisor's end: when it ends, the server has ended.
    orders: &'a OrderSender,
    buffer: Vec<u8>,
    /// The time that the controller has to take more; `None` is for ever.
    timeout: Option<Duration>,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A source has something, or the time is over.
    Over,
    /// The server has ended.
    ServerEnded,
}

impl<'a> Reply<'a> {
    pub(super) fn new(stream: &'a OwnedFd, orders: &'a OrderSender) -> Reply<'a> {
        Reply { stream, orders, buffer: Vec::new(), timeout: Some(TIMEOUT) }
    }

    /// Lets the controller take all the time that it needs, until it closes its end.
    pub(super) fn be_patient(&mut self) {
        self.timeout = None;
    }

    /// Waits until one of the sources can be read, for a time at most.
    ///
    /// # Errors
    /// The controller has closed its end.
    pub(super) fn wait(&self, sources: &[BorrowedFd<'_>], time: Duration) -> io::Result<Wait> {
        // One that has only ended its requests can still read: that is no HUP.
        let controller = PollFd::new(self.stream, PollFlags::empty());
        let mut poll = vec![controller, PollFd::new(self.orders, PollFlags::RDHUP)];
        poll.extend(sources.iter().map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)));
        match tine_sys::wait::until(&mut poll, Some(Instant::now() + time)) {
            Err(Errno::INTR) => Ok(Wait::Over),
            Err(why) => Err(why.into()),
            Ok(_) if !poll[0].revents().is_empty() => Err(io::ErrorKind::BrokenPipe.into()),
            Ok(_) if !poll[1].revents().is_empty() => Ok(Wait::ServerEnded),
            Ok(_) => Ok(Wait::Over),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// The controller has gone or does not read, or the server has ended.
    pub(super) fn line(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.buffer, value)?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Adds a line that is complete already.
    ///
    /// # Errors
    /// As [`Reply::line`].
    pub(super) fn raw(&mut self, line: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(line);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Adds the last line of a request that is done.
    ///
    /// # Errors
    /// As [`Reply::line`].
    pub(super) fn done(&mut self, count: u64) -> io::Result<()> {
        self.line(&json!({ "done": true, "count": count }))?;
        self.flush()
    }

    /// Adds the last line of a request that is not done. `code` is the exit code of a command: 100
    /// for what is wrong with the request, 111 for what may be possible later.
    ///
    /// # Errors
    /// As [`Reply::line`].
    pub(super) fn error(&mut self, code: u8, why: &str) -> io::Result<()> {
        self.line(&json!({ "error": why, "code": code }))?;
        self.flush()
    }

    /// Sends what is collected.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            match rustix::net::send(self.stream, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::AGAIN) => {
                    let deadline = self.timeout.map(|time| Instant::now() + time);
                    wait_for(self.stream, PollFlags::OUT, self.orders, deadline)?;
                }
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
        self.buffer.clear();
        Ok(())
    }
}

/// The meaning of the last line of a reply: the count, or code and reason.
pub(super) type Last = Result<u64, (u8, String)>;

/// Reads the last line of a reply.
pub(super) fn last(line: &str) -> Last {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    if value["done"] == true {
        return Ok(value["count"].as_u64().unwrap_or(0));
    }
    let code = if value["code"] == u64::from(USAGE) { USAGE } else { SYSTEM };
    Err((code, value["error"].as_str().unwrap_or("no reply").to_owned()))
}

/// Waits until the stream is ready.
///
/// # Errors
/// It is not by the deadline, if there is one, or the server has ended.
pub(super) fn wait_for(
    stream: &OwnedFd,
    flags: PollFlags,
    orders: &OrderSender,
    deadline: Option<Instant>,
) -> io::Result<()> {
    loop {
        let mut poll = [PollFd::new(stream, flags), PollFd::new(orders, PollFlags::RDHUP)];
        match tine_sys::wait::until(&mut poll, deadline) {
            Err(Errno::INTR) => continue,
            Err(why) => return Err(why.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) if !poll[0].revents().is_empty() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
