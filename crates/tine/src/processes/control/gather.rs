//! The log of a server with several services, as one: the lines that the services send and those of
//! the master, in the order of their dates.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde_json::json;

use super::logs::{DatedLine, INTERVAL, MatchingLines, become_follower, send};
use super::reply::{Reply, SYSTEM, Wait, last};
use super::request::LogRequest;
use crate::ipc::steering::OrderSender;
use crate::log::ring::LogRing;

/// The time that the services have for the last lines.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest line of a service: one of the log has less than `PIPE_BUF` bytes before they are
/// escaped.
const MAX_LINE: usize = 64 * 1024;

/// How far a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It sends the last lines.
    Last,
    /// It sends the lines that follow.
    Following,
    /// It has sent everything.
    Over,
}

/// A service that sends lines.
struct LineSource {
    name: String,
    stream: OwnedFd,
    progress: Progress,
    /// What it has sent of a line.
    partial: Vec<u8>,
}

/// Answers the request by the lines of these services, by name, which have got it, and of the
/// master.
///
/// # Errors
/// The controller has gone, or the server has ended while the controller did not read.
pub(super) fn logs(
    request: &LogRequest,
    services: impl Iterator<Item = (String, OwnedFd)>,
    master: Option<LogRing>,
    orders: &OrderSender,
    reply: &mut Reply,
) -> io::Result<()> {
    if request.follow {
        if let Err(why) = become_follower(orders) {
            return reply.error(SYSTEM, why);
        }
        reply.be_patient();
    }
    let mut sources: Vec<LineSource> = services.map(|(name, stream)| LineSource::new(name, stream)).collect();
    let mut own = master.map(|ring| MatchingLines::new(ring, request, None, None));
    let mut lines: Vec<DatedLine> = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    while sources.iter().any(|source| source.progress == Progress::Last) {
        if reply.wait(&open(&sources), INTERVAL)? == Wait::ServerEnded {
            return reply.error(SYSTEM, "the server has ended");
        }
        if let Err((code, why)) = read_all(&mut sources, &mut lines) {
            return reply.error(code, &why);
        }
        if Instant::now() > deadline {
            return reply.error(SYSTEM, "a service does not answer; its log says why");
        }
    }
    if let Some(own) = &mut own {
        lines.extend(own.last(reply)?);
    }
    lines.sort_by(|a, b| a.date.cmp(&b.date));
    let surplus = lines.len().saturating_sub(request.lines.unwrap_or(usize::MAX));
    let mut count = send(reply, lines.drain(..).skip(surplus))?;
    if request.follow {
        reply.line(&json!({ "type": "follow" }))?;
    }
    while request.follow && sources.iter().any(|source| source.progress != Progress::Over) {
        reply.flush()?;
        // The master ends after its services: they send what is left.
        let _ = reply.wait(&open(&sources), INTERVAL)?;
        let read = read_all(&mut sources, &mut lines);
        lines.extend(own.iter_mut().flat_map(|own| own.next(Instant::now())));
        lines.sort_by(|a, b| a.date.cmp(&b.date));
        count += send(reply, lines.drain(..))?;
        if let Err((code, why)) = read {
            return reply.error(code, &why);
        }
    }
    reply.done(count)
}

/// The streams of the sources that may send more.
fn open(sources: &[LineSource]) -> Vec<BorrowedFd<'_>> {
    let open = sources.iter().filter(|source| source.progress != Progress::Over);
    open.map(|source| source.stream.as_fd()).collect()
}

/// Reads from each source once.
fn read_all(sources: &mut [LineSource], lines: &mut Vec<DatedLine>) -> Result<(), (u8, String)> {
    let open = sources.iter_mut().filter(|source| source.progress != Progress::Over);
    for source in open {
        source.read(lines).map_err(|(code, why)| (code, format!("service {}: {why}", source.name)))?;
    }
    Ok(())
}

impl LineSource {
    fn new(name: String, stream: OwnedFd) -> LineSource {
        LineSource { name, stream, progress: Progress::Last, partial: Vec::new() }
    }

    /// Reads what has arrived, without blocking.
    fn read(&mut self, lines: &mut Vec<DatedLine>) -> Result<(), (u8, String)> {
        let mut part = [0; 16 * 1024];
        match rustix::net::recv(&self.stream, &mut part[..], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Ok((_, length @ 1..)) => {
                self.partial.extend_from_slice(&part[..length]);
                self.take_lines(lines)
            }
            Ok(_) | Err(_) => {
                Err((SYSTEM, "its supervisor has ended; the master starts it again".to_owned()))
            }
        }
    }

    /// Takes the lines that are complete.
    fn take_lines(&mut self, lines: &mut Vec<DatedLine>) -> Result<(), (u8, String)> {
        let mut taken = 0;
        while let Some(length) = self.partial[taken..].iter().position(|byte| *byte == b'\n') {
            let line = &self.partial[taken..=taken + length];
            taken += length + 1;
            if let Some(rest) = line.strip_prefix(b"{\"type\":\"log\",\"time\":\"") {
                let date = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
                let date = String::from_utf8_lossy(date).into_owned();
                lines.push(DatedLine { date, line: line.to_vec() });
            } else if line.starts_with(b"{\"type\":") {
                self.progress = Progress::Following;
            } else {
                self.progress = Progress::Over;
                last(&String::from_utf8_lossy(line))?;
            }
        }
        self.partial.drain(..taken);
        match self.partial.len() > MAX_LINE {
            true => Err((SYSTEM, "it sent what is no line".to_owned())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn lines_are_taken_once_they_are_complete() {
        let flags = SocketFlags::CLOEXEC;
        let (stream, service) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("sockets");
        let mut source = LineSource::new("git".into(), stream);
        let mut lines = Vec::new();
        let mut read = |text: &str| {
            rustix::net::send(&service, text.as_bytes(), SendFlags::empty()).expect("room");
            let result = source.read(&mut lines);
            let dates: Vec<String> = lines.drain(..).map(|line| line.date).collect();
            (result.map_err(|(code, _)| code), dates.join(" "), source.progress)
        };
        let log = |date: &str| format!("{{\"type\":\"log\",\"time\":\"{date}\",\"event\":\"e\"}}\n");
        let last = Progress::Last;
        assert_eq!(read(&log("1")), (Ok(()), "1".into(), last));
        assert_eq!(read(&log("2").replace('\n', "")), (Ok(()), String::new(), last));
        assert_eq!(read(&format!("\n{}", log("3"))), (Ok(()), "2 3".into(), last));
        assert_eq!(read("{\"type\":\"follow\"}\n"), (Ok(()), String::new(), Progress::Following));
        assert_eq!(read(&log("4")), (Ok(()), "4".into(), Progress::Following));
        let done = format!("{}{{\"done\":true,\"count\":5}}\n", log("5"));
        assert_eq!(read(&done), (Ok(()), "5".into(), Progress::Over));
        assert_eq!(read("{\"error\":\"no\",\"code\":100}\n"), (Err(100), String::new(), Progress::Over));
        drop(service);
        assert_eq!(source.read(&mut lines).map_err(|(code, _)| code), Err(SYSTEM));
    }
}
