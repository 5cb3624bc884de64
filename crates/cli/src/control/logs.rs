//! `tine logs`: the last lines of a server's log, and those that follow.

use std::collections::VecDeque;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};
use tine::cli::next_move;
use tine_sys::signal::Set;

use super::show::ConnectionId;
use super::target::Target;
use super::{cannot_talk, last, send};
use crate::error::Error;
use crate::exit;

/// Exit code of a command that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// `tine logs`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("logs"))]
pub struct Logs {
    /// Also print the lines that follow, until the server ends or Ctrl-C
    #[arg(short, long)]
    pub follow: bool,

    /// Number of the last lines, at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub lines: u64,

    /// Print lines as --log json writes them
    #[arg(long)]
    pub json: bool,

    /// Lines of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,

    /// Lines about clients in this address block
    #[arg(long, value_name = "CIDR")]
    pub peer: Option<String>,

    /// Lines about this connection; SERVICE:ID in a server with several services
    #[arg(long, value_name = "ID", conflicts_with = "service")]
    pub connection: Option<ConnectionId>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// What the command waits for.
struct Follower {
    stream: UnixStream,
    /// INT and TERM.
    interrupts: OwnedFd,
    /// The lines that were received and not printed yet, and what was received of the next one.
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

/// What a reply has.
enum Part {
    Line(String),
    /// The server has ended, or closed the connection.
    End,
    Interrupted,
}

/// Prints the lines.
pub(crate) fn run(args: &Logs) -> Result<ExitCode, Error> {
    let (service, id) = match &args.connection {
        Some(ConnectionId { service, id }) => (service, Some(id)),
        None => (&args.service, None),
    };
    let format = if args.json { "json" } else { "text" };
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let request = json!({
        "version": 1, "command": "logs", "lines": args.lines, "follow": args.follow, "service": service,
        "id": id, "peer": args.peer, "format": format, "colour": colour && !args.json,
    });
    let mut stream = args.target.connect()?;
    let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
    let cannot =
        |why: std::io::Error| Error::system("cannot wait for signals", &why, next_move::of_call(&why));
    signals.block().map_err(cannot)?;
    let interrupts = signals.descriptor().map_err(cannot)?;
    send(&mut stream, &request)?;
    let mut follower = Follower { stream, interrupts, lines: VecDeque::new(), partial: Vec::new() };
    loop {
        match follower.next()? {
            Part::Line(line) if line.contains("\"type\":") => {
                if !print(&line, args.json)? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Part::Line(line) => return last(&line).map(|_| ExitCode::SUCCESS),
            Part::End => return Err(Error::unavailable("the server has ended", "start it again")),
            Part::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
}

impl Follower {
    /// Waits for the next line, without its end.
    fn next(&mut self) -> Result<Part, Error> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Part::Line(line));
            }
            let mut fds =
                [PollFd::new(&self.interrupts, PollFlags::IN), PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(why) => return Err(cannot_talk(&why.into())),
                Ok(_) if !fds[0].revents().is_empty() => return Ok(Part::Interrupted),
                Ok(_) => {}
            }
            let mut part = [0; 64 * 1024];
            match rustix::io::read(&self.stream, &mut part) {
                Ok(0) => return Ok(Part::End),
                Ok(length) => self.receive(&part[..length]),
                Err(Errno::INTR) => {}
                Err(why) => return Err(cannot_talk(&why.into())),
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if self.partial.pop_if(|byte| *byte == b'\n').is_some() {
                self.lines.push_back(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            }
        }
    }
}

/// Prints a line of a reply. False if no process reads them any more.
fn print(line: &str, json: bool) -> Result<bool, Error> {
    let Some(text) = printed(line, json) else { return Ok(true) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(why) => Err(Error::system("cannot print", &why, next_move::of_output(&why))),
    }
}

/// What is printed of a line of a reply.
pub(super) fn printed(line: &str, json: bool) -> Option<String> {
    let rest = line.strip_prefix("{\"type\":\"log\",")?;
    match json {
        true => Some(format!("{{{rest}\n")),
        false => {
            let value: Value = serde_json::from_str(line).ok()?;
            // The server has escaped what a client can choose.
            Some(format!("{}\n", value["text"].as_str()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_printed_as_text_or_json() {
        let json = r#"{"type":"log","time":"2026","event":"stop"}"#;
        let text = r#"{"type":"log","time":"2026","text":"2026 stop data=\"a\\n\""}"#;
        assert_eq!(printed(json, true).as_deref(), Some("{\"time\":\"2026\",\"event\":\"stop\"}\n"));
        assert_eq!(printed(text, false).as_deref(), Some("2026 stop data=\"a\\n\"\n"));
        assert_eq!(printed(r#"{"type":"follow"}"#, false), None);
    }
}
