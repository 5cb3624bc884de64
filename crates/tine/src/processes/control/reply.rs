//! Replies to a controller: lines of JSON, the last one with `done` or `error`.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde_json::{Value, json};

use crate::shared::steering::OrderSender;

/// The time that a controller has to send its request, and to take more of a reply.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that are collected before they are sent.
const BUFFER: usize = 64 * 1024;

/// The stream to a controller.
pub(super) struct Reply<'a> {
    stream: &'a OwnedFd,
    /// The supervisor's end: when it ends, the server has ended.
    orders: &'a OrderSender,
    buffer: Vec<u8>,
}

impl<'a> Reply<'a> {
    pub(super) fn new(stream: &'a OwnedFd, orders: &'a OrderSender) -> Reply<'a> {
        Reply { stream, orders, buffer: Vec::new() }
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
                    wait_for(self.stream, PollFlags::OUT, self.orders, Instant::now() + TIMEOUT)?;
                }
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
        self.buffer.clear();
        Ok(())
    }
}

/// Waits until the stream is ready.
///
/// # Errors
/// It is not by the deadline, or the server has ended.
pub(super) fn wait_for(
    stream: &OwnedFd,
    flags: PollFlags,
    orders: &OrderSender,
    deadline: Instant,
) -> io::Result<()> {
    loop {
        let mut poll = [PollFd::new(stream, flags), PollFd::new(orders, PollFlags::RDHUP)];
        match tine_sys::wait::until(&mut poll, Some(deadline)) {
            Err(Errno::INTR) => continue,
            Err(why) => return Err(why.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) if !poll[0].revents().is_empty() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
