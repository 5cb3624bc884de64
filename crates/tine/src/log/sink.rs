//! Standard error, written to without ever blocking.
//!
//! `O_NONBLOCK` cannot be set on it: that would change it for everyone who shares it. A pipe or a
//! terminal is opened a second time through `/proc`, a description of our own; a socket has a flag
//! for each write; a regular file never blocks.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::SendFlags;
use rustix::stdio::stderr;

/// Where lines go, and how many it did not take.
#[derive(Debug)]
pub(super) struct Sink {
    way: Way,
    dropped: u64,
}

#[derive(Debug)]
enum Way {
    /// A non-blocking description of our own.
    Own(OwnedFd),
    /// Standard error is a socket.
    Socket,
    /// A regular file, or something that could not be opened again: ask first, then write.
    Ask,
}

impl Sink {
    pub(super) fn standard_error() -> Sink {
        Sink { way: way(), dropped: 0 }
    }

    /// Without a descriptor of its own.
    pub(super) fn plain() -> Sink {
        Sink { way: Way::Ask, dropped: 0 }
    }

    pub(super) fn move_above(&mut self, lowest: i32) {
        if let Way::Own(fd) = &self.way
            && let Ok(higher) = fcntl_dupfd_cloexec(fd, lowest)
        {
            self.way = Way::Own(higher);
        }
    }

    /// Writes a line as a whole, or drops it, counts it and says false. Lines are shorter than
    /// `PIPE_BUF`, so a pipe takes all of it or nothing (pipe(7)).
    pub(super) fn write(&mut self, line: &[u8]) -> bool {
        let written = match &self.way {
            Way::Own(fd) => retry(|| rustix::io::write(fd, line)),
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                retry(|| rustix::net::send(stderr(), line, flags))
            }
            Way::Ask if writable() => retry(|| rustix::io::write(stderr(), line)),
            Way::Ask => Err(Errno::AGAIN),
        };
        if written.is_err() {
            self.dropped += 1;
        }
        written.is_ok()
    }

    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn add_dropped(&mut self, lines: u64) {
        // The line that told of them was itself counted, but it is no news.
        self.dropped = lines + 1;
    }
}

fn retry(mut write: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(&mut write)
}

fn way() -> Way {
    let Ok(stat) = rustix::fs::fstat(stderr()) else {
        return Way::Ask;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => Way::Socket,
        FileType::Fifo | FileType::CharacterDevice => {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
                Ok(fd) => Way::Own(fd),
                Err(_) => Way::Ask,
            }
        }
        _ => Way::Ask,
    }
}

fn writable() -> bool {
    let stderr = stderr();
    let mut ask = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
    matches!(tine_sys::wait::now(&mut ask), Ok(1)) && ask[0].revents().contains(PollFlags::OUT)
}
