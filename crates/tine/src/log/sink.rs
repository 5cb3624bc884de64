//! Non-blocking writes to standard error, to standard output, or into the channel to the log
//! writer.
//!
//! `O_NONBLOCK` must not be set on it: that would change it for every process that shares it. A
//! pipe or a terminal is opened a second time through `/proc`, which makes a file description of
//! its own; a socket has a flag for each write; a regular file never blocks.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::SendFlags;
use rustix::stdio::{stderr, stdout};

/// Where the lines go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    StandardError,
    StandardOutput,
}

impl Target {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Target::StandardError => stderr(),
            Target::StandardOutput => stdout(),
        }
    }
}

/// Standard error or output, and the number of lines that it did not take.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    mode: SinkMode,
    dropped: u64,
}

#[derive(Debug)]
enum SinkMode {
    /// A non-blocking file description of its own.
    Reopened(OwnedFd),
    /// The target is a socket.
    Socket,
    /// The channel to the log writer, instead of the target.
    Channel(OwnedFd),
    /// A regular file, or one that could not be opened again: poll before each write.
    Poll,
}

impl Sink {
    /// Opens a target of this process in the mode that its kind of file needs.
    pub(super) fn of(target: Target) -> Sink {
        Sink { target, mode: choose_mode(target), dropped: 0 }
    }

    /// Standard error, without a descriptor of the sink's own.
    fn plain() -> Sink {
        Sink { target: Target::StandardError, mode: SinkMode::Poll, dropped: 0 }
    }

    /// The channel to the log writer.
    pub(super) fn channel(socket: OwnedFd) -> Sink {
        Sink { target: Target::StandardError, mode: SinkMode::Channel(socket), dropped: 0 }
    }

    pub(super) fn is_channel(&self) -> bool {
        matches!(self.mode, SinkMode::Channel(_))
    }

    /// A descriptor of its own for the channel, if this is one.
    pub(super) fn copy_of_channel(&self) -> Option<OwnedFd> {
        let SinkMode::Channel(socket) = &self.mode else { return None };
        // Not below the boundary between the descriptors of the server and others.
        fcntl_dupfd_cloexec(socket, socket.as_raw_fd()).ok()
    }

    /// The sink of a connection process: the same channel, or standard error as it is.
    pub(super) fn for_connection(&self) -> Sink {
        self.copy_of_channel().map_or_else(Sink::plain, Sink::channel)
    }

    /// Moves the descriptor, if the sink has one, to this number or a higher one.
    pub(super) fn move_above(&mut self, lowest: i32) {
        if let SinkMode::Reopened(fd) | SinkMode::Channel(fd) = &mut self.mode
            && let Ok(higher) = fcntl_dupfd_cloexec(&*fd, lowest)
        {
            *fd = higher;
        }
    }

    /// Writes a whole line, or drops and counts it. False if it was dropped. Lines are shorter than
    /// `PIPE_BUF`, so a pipe takes all of a line or nothing (pipe(7)).
    pub(super) fn write(&mut self, line: &[u8]) -> bool {
        let written = match &self.mode {
            SinkMode::Reopened(fd) => retry(|| rustix::io::write(fd, line)),
            SinkMode::Socket => send(self.target.fd(), line),
            SinkMode::Channel(socket) => send(socket.as_fd(), line),
            SinkMode::Poll if writable(self.target.fd()) => {
                retry(|| rustix::io::write(self.target.fd(), line))
            }
            SinkMode::Poll => Err(Errno::AGAIN),
        };
        if written.is_err() {
            self.dropped += 1;
        }
        written.is_ok()
    }

    /// Takes the number of dropped lines.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Counts these lines and one more as dropped: the event that was to follow the line with their
    /// count.
    pub(super) fn add_dropped(&mut self, lines: u64) {
        // Not added: `write` has counted the line with the count, which is no event.
        self.dropped = lines + 1;
    }
}

fn send(socket: BorrowedFd, line: &[u8]) -> Result<usize, Errno> {
    retry(|| rustix::net::send(socket, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}

fn retry(mut write: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(&mut write)
}

fn choose_mode(target: Target) -> SinkMode {
    let Ok(stat) = rustix::fs::fstat(target.fd()) else {
        return SinkMode::Poll;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => SinkMode::Socket,
        FileType::Fifo | FileType::CharacterDevice => {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let path = match target {
                Target::StandardError => "/proc/self/fd/2",
                Target::StandardOutput => "/proc/self/fd/1",
            };
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => SinkMode::Reopened(fd),
                Err(_) => SinkMode::Poll,
            }
        }
        _ => SinkMode::Poll,
    }
}

/// Whether a descriptor takes a write without blocking.
fn writable(fd: BorrowedFd) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    matches!(tine_sys::wait::now(&mut poll), Ok(1)) && poll[0].revents().contains(PollFlags::OUT)
}
