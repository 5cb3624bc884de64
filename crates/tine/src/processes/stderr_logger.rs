//! The stderr logger: with `--stderr log` it writes what programs print on standard error into the
//! log, with the id of the connection.
//!
//! The text comes from programs that are not trusted, so a process of its own reads it. Forkers
//! pass it the reading end of each connection's pipe.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::process::{Alone, exit_now};

use crate::error::next_move;
use crate::log::limit::{Emit, LineLimit};
use crate::log::{Log, whole_characters};
use crate::processes::start::{StartReport, cannot, start_helper};
use crate::shared::messages::{Receiver, StderrPipe};
use crate::system::users::Identity;

/// A longer line is split: escaped, each part is still written as a whole (`PIPE_BUF`, pipe(7)).
const MAX_LINE: usize = 512;

/// Lines of a connection a second; the rest is counted.
const LINES_PER_SECOND: u64 = 100;

/// The number of the event of a new pipe; other numbers are pipes.
const NEW_PIPE_EVENT: u64 = u64::MAX;

/// What the supervisor hands to the stderr logger: everything that it keeps.
pub(crate) struct LoggerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    pub(crate) pipes: Receiver<StderrPipe>,
    pub(crate) log: Log,
    pub(crate) report: StartReport,
}

/// A connection's standard error, and the line that has not ended yet.
struct PipeReader {
    pipe: OwnedFd,
    connection: u64,
    line: Vec<u8>,
    limit: LineLimit,
}

struct StderrLogger {
    queue: OwnedFd,
    channel: Receiver<StderrPipe>,
    log: Log,
    readers: HashMap<u64, PipeReader>,
    last_number: u64,
    /// A process exists that can pass pipes.
    open: bool,
}

/// Runs as the stderr logger until no process is left that could write to it.
pub(crate) fn run(start: LoggerStart) -> ! {
    let entered = start_helper(start.alone, start.identity.as_ref(), start.supervisor, c"tine: logger");
    let entered = entered
        .and_then(|()| event_queue(&start.pipes).map_err(cannot("wait for lines", next_move::of_call)));
    let queue = start.report.finish(entered);
    let readers = HashMap::new();
    let mut logger =
        StderrLogger { queue, channel: start.pipes, log: start.log, readers, last_number: 0, open: true };
    while logger.open || !logger.readers.is_empty() {
        logger.turn();
    }
    exit_now(0)
}

fn event_queue(channel: &Receiver<StderrPipe>) -> Result<OwnedFd, Errno> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&queue, channel, epoll::EventData::new_u64(NEW_PIPE_EVENT), epoll::EventFlags::IN)?;
    Ok(queue)
}

impl StderrLogger {
    /// Waits, and reads once from each pipe that has data, so that no connection holds up the
    /// others.
    fn turn(&mut self) {
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        // Interrupted: no event, and the loop waits again.
        let Ok((events, _)) = epoll::wait(&self.queue, &mut buffer, None) else { return };
        let numbers: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        for number in numbers {
            match number {
                NEW_PIPE_EVENT => self.receive_pipes(),
                number => self.read(number),
            }
        }
    }

    fn receive_pipes(&mut self) {
        loop {
            match self.channel.receive() {
                Ok(Some((pipe, StderrPipe { connection }))) => self.add(pipe, connection),
                Ok(None) => {
                    self.open = false;
                    let _ = epoll::delete(&self.queue, &self.channel);
                    return;
                }
                Err(Errno::AGAIN) => return,
                // Out of descriptors: that pipe is closed, and its program gets SIGPIPE.
                Err(_) => {}
            }
        }
    }

    fn add(&mut self, pipe: OwnedFd, connection: u64) {
        self.last_number += 1;
        let number = epoll::EventData::new_u64(self.last_number);
        // If the pipe cannot be watched, it is closed, and its program gets SIGPIPE.
        if epoll::add(&self.queue, &pipe, number, epoll::EventFlags::IN).is_ok() {
            let limit = LineLimit::of(LINES_PER_SECOND);
            let reader = PipeReader { pipe, connection, line: Vec::new(), limit };
            self.readers.insert(self.last_number, reader);
        }
    }

    fn read(&mut self, number: u64) {
        let Some(reader) = self.readers.get_mut(&number) else { return };
        let mut bytes = [0; 4096];
        match rustix::io::read(&reader.pipe, &mut bytes) {
            Ok(length @ 1..) => {
                for line in lines(&mut reader.line, &bytes[..length]) {
                    reader.log_line(&line, &mut self.log);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => {
                reader.log_rest(&mut self.log);
                // Closing the pipe removes it from the queue.
                self.readers.remove(&number);
            }
        }
    }
}

impl PipeReader {
    /// Logs a line. A program that prints much must not push the server's own lines out of the log.
    fn log_line(&mut self, line: &[u8], log: &mut Log) {
        let now = Instant::now();
        if let Some(count) = self.limit.due(now) {
            log.stderr_suppressed(self.connection, count);
        }
        if self.limit.event(now) == Emit::Line {
            log.stderr(self.connection, line);
        }
    }

    /// Logs what is left at the end of the pipe.
    fn log_rest(&mut self, log: &mut Log) {
        let rest = std::mem::take(&mut self.line);
        if !rest.is_empty() {
            self.log_line(&rest, log);
        }
        if let Some(count) = self.limit.rest() {
            log.stderr_suppressed(self.connection, count);
        }
    }
}

/// Returns the lines that end within these bytes or have reached the limit; `rest` is the line that
/// has not ended.
fn lines(rest: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut ended = Vec::new();
    for byte in bytes {
        match byte {
            b'\n' => ended.push(std::mem::take(rest)),
            byte => {
                if rest.len() == MAX_LINE {
                    let begun = rest.split_off(whole_characters(rest));
                    ended.push(std::mem::replace(rest, begun));
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
    fn lines_are_joined_and_long_ones_split() {
        let mut rest = Vec::new();
        assert!(lines(&mut rest, b"a b").is_empty());
        assert_eq!(lines(&mut rest, b"c\n\nd\ne"), [&b"a bc"[..], b"", b"d"]);
        assert_eq!(lines(&mut rest, b"\n"), [b"e"]);
        let long = vec![b'x'; 2 * MAX_LINE + 1];
        let parts = lines(&mut rest, &long);
        assert_eq!((parts.len(), parts[1].len(), rest.len()), (2, MAX_LINE, 1));
        // No part ends within a character.
        rest.clear();
        let characters = format!("{}é{}", "x".repeat(MAX_LINE - 1), "y".repeat(MAX_LINE - 2));
        let parts = lines(&mut rest, characters.as_bytes());
        assert_eq!((parts.len(), parts[0].len(), rest.len()), (1, MAX_LINE - 1, MAX_LINE));
        // A line of exactly the limit is one line.
        rest.clear();
        lines(&mut rest, &long[..MAX_LINE]);
        assert_eq!(lines(&mut rest, b"\n").len(), 1);
    }
}
