//! The standard error of a connection: lines for the log, and the last ones for a crash report.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;

use crate::log::limit::{Emit, LineLimit};
use crate::log::{Log, whole_characters};

/// A longer line is split: escaped, each part is still written as a whole (`PIPE_BUF`, pipe(7)).
const MAX_LINE: usize = 512;

/// Lines of a connection a second in the log; the rest is counted.
const LINES_PER_SECOND: u64 = 100;

/// Bytes of the last lines that are remembered for a crash report, at most: enough for a message
/// with its backtrace.
const LAST_BYTES: usize = 16 << 10;

/// Bytes of a read, at most.
const READ: usize = 4096;

/// Where standard error goes.
#[derive(Debug)]
pub(super) enum LineDestination {
    /// Into the log, line by line.
    Log,
    /// As it is, to the standard error of the server.
    Server,
}

/// Whether a pipe can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeState {
    Open,
    Ended,
}

/// A connection's standard error, and the line that has not ended yet.
#[derive(Debug)]
pub(super) struct PipeReader {
    pub(super) pipe: OwnedFd,
    pub(super) connection: u64,
    line: Vec<u8>,
    limit: LineLimit,
    /// Where they are remembered.
    last: Option<LastLines>,
}

/// The last lines, within a number of bytes.
#[derive(Debug, Default)]
struct LastLines {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl LastLines {
    fn push(&mut self, line: Vec<u8>) {
        // With the newline, which each has.
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > LAST_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len() + 1;
        }
    }
}

impl PipeReader {
    /// A reader; one that `remembers` keeps the last lines.
    pub(super) fn new(pipe: OwnedFd, connection: u64, remembers: bool) -> PipeReader {
        // This end alone: a read that finds nothing must not hold up the others. It cannot fail for
        // a pipe.
        let _ = rustix::io::ioctl_fionbio(&pipe, true);
        let limit = LineLimit::of(LINES_PER_SECOND);
        PipeReader { pipe, connection, line: Vec::new(), limit, last: remembers.then(LastLines::default) }
    }

    /// Reads once.
    pub(super) fn read(&mut self, destination: &LineDestination, log: &mut Log) -> PipeState {
        let mut bytes = [0; READ];
        match rustix::io::read(&self.pipe, &mut bytes) {
            Ok(length @ 1..) => {
                let bytes = &bytes[..length];
                if matches!(destination, LineDestination::Server) {
                    pass_on(bytes);
                }
                for line in lines(&mut self.line, bytes) {
                    self.take_line(line, destination, log);
                }
                PipeState::Open
            }
            Err(Errno::INTR | Errno::AGAIN) => PipeState::Open,
            Ok(_) | Err(_) => PipeState::Ended,
        }
    }

    /// Handles what is left at the end of the pipe.
    pub(super) fn end(&mut self, destination: &LineDestination, log: &mut Log) {
        let rest = std::mem::take(&mut self.line);
        if !rest.is_empty() {
            self.take_line(rest, destination, log);
        }
        if let Some(count) = self.limit.rest() {
            log.stderr_suppressed(self.connection, count);
        }
    }

    /// Reads what is in the pipe by now. What a process adds meanwhile is left for later, so that
    /// one that writes without end does not hold up the others.
    pub(super) fn drain(&mut self, destination: &LineDestination, log: &mut Log) -> PipeState {
        let waiting = rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0);
        for _ in 0..waiting.div_ceil(READ as u64) {
            if self.read(destination, log) == PipeState::Ended {
                return PipeState::Ended;
            }
        }
        PipeState::Open
    }

    /// The last lines so far, with that which has not ended.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let unfinished = (!self.line.is_empty()).then_some(&self.line);
        let all = self.last.iter().flat_map(|last| &last.lines).chain(unfinished);
        all.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    fn take_line(&mut self, line: Vec<u8>, destination: &LineDestination, log: &mut Log) {
        if matches!(destination, LineDestination::Log) {
            self.log_line(&line, log);
        }
        if let Some(last) = &mut self.last {
            last.push(line);
        }
    }

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
}

/// Writes to the standard error of the server. What that does not take is lost, as it would be if
/// the program wrote there.
fn pass_on(bytes: &[u8]) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), bytes);
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
    use crate::log::{Format, LogLevel};

    #[test]
    fn a_pipe_that_stays_open_holds_up_nothing() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut log = Log::new(Format::Off, LogLevel::Quiet, None, None);
        let mut reader = PipeReader::new(reader, 1, true);
        let to = LineDestination::Log;
        for text in [&b"one\n"[..], b"tw", b""] {
            rustix::io::write(&writer, text).expect("written");
            assert_eq!(reader.drain(&to, &mut log), PipeState::Open);
        }
        assert_eq!(reader.read(&to, &mut log), PipeState::Open, "there is nothing");
        assert_eq!(reader.last_lines(), ["one", "tw"]);
        drop(writer);
        assert_eq!(reader.read(&to, &mut log), PipeState::Ended);
    }

    #[test]
    fn the_last_lines_are_remembered_within_a_number_of_bytes() {
        let mut last = LastLines::default();
        for number in 0..LAST_BYTES {
            last.push(number.to_string().into_bytes());
            last.push(Vec::new());
        }
        let bytes: usize = last.lines.iter().map(|line| line.len() + 1).sum();
        assert!(bytes == last.bytes && (LAST_BYTES - 8..=LAST_BYTES).contains(&bytes), "{bytes}");
        assert_eq!(last.lines.iter().rev().nth(1), Some(&(LAST_BYTES - 1).to_string().into_bytes()));
    }

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
