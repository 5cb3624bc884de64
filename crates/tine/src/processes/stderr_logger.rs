//! The scribe: writes what programs say on standard error into the log, a line for a line, with the
//! connection's id.
//!
//! What comes is a stranger's text, so a process of its own reads it. Forkers send it the reading end of
//! each connection's pipe.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::process::exit_now;

use crate::log::Log;
use crate::log::limit::{Emit, LineLimit};
use crate::processes::start::enter;
use crate::settings::Settings;
use crate::shared::fd_passing::{self, Wait};

/// A longer line is written in parts: escaped, each is still written as a whole (`PIPE_BUF`).
const LONGEST: usize = 512;

/// Lines of a connection a second; the rest is summed up.
const LINES: u64 = 100;

/// The number of the event that is a new pipe.
const NEWS: u64 = u64::MAX;

/// Sends the scribe the reading end of a connection's standard error, from a forker.
pub(crate) fn hand_over(stderr_logger: &OwnedFd, pipe: &OwnedFd, connection: u64) {
    fd_passing::send(stderr_logger, pipe.as_fd(), [connection], Wait::ForRoom);
}

/// A connection's standard error, and the line that has not ended yet.
struct Source {
    pipe: OwnedFd,
    connection: u64,
    line: Vec<u8>,
    tally: LineLimit,
}

impl Source {
    /// A stranger's flood must not push the server's own lines out of the log.
    fn say(&mut self, line: &[u8], log: &mut Log) {
        let now = Instant::now();
        if let Some(more) = self.tally.due(now) {
            log.stderr_suppressed(self.connection, more);
        }
        if self.tally.event(now) == Emit::Line {
            log.stderr(self.connection, line);
        }
    }
}

/// Lives as the scribe until the last process that could write to it has gone.
pub(crate) fn run(channel: &OwnedFd, settings: &Settings, supervisor: Pid, log: &mut Log) -> ! {
    enter(settings, supervisor, c"tine: logger");
    let mut stderr_logger = match StderrLogger::new(channel) {
        Ok(stderr_logger) => stderr_logger,
        Err(why) => {
            log.trouble(
                "standard error cannot be read",
                &crate::error::reason(&why.into()),
                "raise the limits",
            );
            exit_now(111)
        }
    };
    while stderr_logger.open || !stderr_logger.sources.is_empty() {
        stderr_logger.turn(channel, log);
    }
    exit_now(0)
}

struct StderrLogger {
    queue: OwnedFd,
    sources: HashMap<u64, Source>,
    last: u64,
    open: bool,
}

impl StderrLogger {
    fn new(channel: &OwnedFd) -> Result<StderrLogger, Errno> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&queue, channel, epoll::EventData::new_u64(NEWS), epoll::EventFlags::IN)?;
        Ok(StderrLogger { queue, sources: HashMap::new(), last: 0, open: true })
    }

    /// Waits, and reads once from each that has something: nobody is heard twice while others wait.
    fn turn(&mut self, channel: &OwnedFd, log: &mut Log) {
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        // Interrupted: nothing has come, and it is waited again.
        let Ok((events, _)) = epoll::wait(&self.queue, &mut buffer, None) else { return };
        let numbers: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        for number in numbers {
            match number {
                NEWS => self.hear(channel),
                number => self.read(number, log),
            }
        }
    }

    fn hear(&mut self, channel: &OwnedFd) {
        loop {
            match fd_passing::receive(channel) {
                Ok(Some((pipe, [connection]))) => {
                    self.last += 1;
                    let number = epoll::EventData::new_u64(self.last);
                    // Without room to wait for it, its program is told by a broken pipe.
                    if epoll::add(&self.queue, &pipe, number, epoll::EventFlags::IN).is_ok() {
                        self.sources.insert(
                            self.last,
                            Source { pipe, connection, line: Vec::new(), tally: LineLimit::of(LINES) },
                        );
                    }
                }
                Ok(None) => {
                    self.open = false;
                    let _ = epoll::delete(&self.queue, channel);
                    return;
                }
                Err(Errno::AGAIN) => return,
                // Out of descriptors: that pipe is closed, and the next one may be had.
                Err(_) => {}
            }
        }
    }

    fn read(&mut self, number: u64, log: &mut Log) {
        let Some(source) = self.sources.get_mut(&number) else { return };
        let mut bytes = [0; 4096];
        match rustix::io::read(&source.pipe, &mut bytes) {
            Ok(length @ 1..) => {
                for line in lines(&mut source.line, &bytes[..length]) {
                    source.say(&line, log);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => {
                let rest = std::mem::take(&mut source.line);
                if !rest.is_empty() {
                    source.say(&rest, log);
                }
                if let Some(more) = source.tally.rest() {
                    log.stderr_suppressed(source.connection, more);
                }
                // Closing it takes it out of the queue.
                self.sources.remove(&number);
            }
        }
    }
}

/// The lines that have ended with these bytes, or are too long to go on; `rest` is what has not ended.
fn lines(rest: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut ended = Vec::new();
    for byte in bytes {
        match byte {
            b'\n' => ended.push(std::mem::take(rest)),
            byte => {
                if rest.len() == LONGEST {
                    ended.push(std::mem::take(rest));
                }
                rest.push(*byte);
            }
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_long_ones_cut() {
        let mut rest = Vec::new();
        assert!(lines(&mut rest, b"a b").is_empty());
        assert_eq!(lines(&mut rest, b"c\n\nd\ne"), [&b"a bc"[..], b"", b"d"]);
        assert_eq!(lines(&mut rest, b"\n"), [b"e"]);
        let long = vec![b'x'; 2 * LONGEST + 1];
        let parts = lines(&mut rest, &long);
        assert_eq!((parts.len(), parts[1].len(), rest.len()), (2, LONGEST, 1));
        // A line of exactly that length is one line.
        rest.clear();
        lines(&mut rest, &long[..LONGEST]);
        assert_eq!(lines(&mut rest, b"\n").len(), 1);
    }
}
