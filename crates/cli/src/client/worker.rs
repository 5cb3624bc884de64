//! A worker: a process with its share of the connections, and one loop that waits and moves bytes.

use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tine_load::plan::target_of;

use super::dial::{Decided, Dial, Target, cannot_connect, kind};
use super::exchange::{End, Exchange, Script};
use super::tally::{Count, Tally};

/// What a worker works on.
pub struct Work<'a> {
    pub number: usize,
    pub connections: Range<usize>,
    pub targets: &'a [Target],
    pub script: &'a Script,
    pub tally: Tally,
    /// How to print what comes back, if at all.
    pub print: Print,
}

/// How to print what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// Not at all.
    Nothing,
    /// As it comes.
    Bytes,
    /// With the connection's number before it.
    Numbered,
}

struct Line<'a> {
    number: usize,
    target: &'a Target,
    state: State,
}

enum State {
    Connecting { socket: OwnedFd, dial: Dial, until: Instant },
    Open { socket: OwnedFd, exchange: Exchange },
    Over,
}

/// Works until every connection is over.
pub fn run(work: &Work) {
    let mut lines: Vec<Line> = work.connections.clone().map(|number| begin(work, number)).collect();
    while lines.iter().any(|line| !matches!(line.state, State::Over)) {
        let events = wait(work, &mut lines);
        for (line, events) in lines.iter_mut().zip(events) {
            line.state = match std::mem::replace(&mut line.state, State::Over) {
                State::Connecting { socket, dial, until } => {
                    connecting(work, line, socket, dial, until, events)
                }
                State::Open { socket, exchange } => open(work, line, socket, exchange, events),
                State::Over => State::Over,
            };
        }
    }
}

fn begin<'a>(work: &Work<'a>, number: usize) -> Line<'a> {
    let target = &work.targets[target_of(number, work.targets.len())];
    let mut line = Line { number, target, state: State::Over };
    let mut dial = target.dial();
    line.state = match dial.next() {
        Ok(socket) => State::Connecting { socket, dial, until: Instant::now() + work.script.wait },
        Err(errno) => not_connected(work, &line, errno),
    };
    line
}

fn not_connected(work: &Work, line: &Line, errno: Errno) -> State {
    // One line for each kind of error in a worker: a thousand alike say no more.
    if work.tally.of(work.number, kind(errno)) == 0 {
        eprintln!("tine: {}", cannot_connect(&line.target.name, errno));
    }
    work.tally.add(work.number, kind(errno), 1);
    State::Over
}

/// Waits until something can be done; says for each connection what.
fn wait(work: &Work, lines: &mut [Line]) -> Vec<PollFlags> {
    let now = Instant::now();
    let deadline = lines.iter_mut().filter_map(|line| line.deadline(work.script, now)).min();
    let mut ask: Vec<PollFd> = lines.iter().filter_map(Line::ask).collect();
    // Interrupted: then nothing has come, and the clock is looked at.
    let _ = tine_sys::wait::until(&mut ask, deadline);
    let mut answers = ask.iter().map(PollFd::revents);
    let answer = |line: &Line| match line.state {
        State::Over => PollFlags::empty(),
        _ => answers.next().unwrap_or(PollFlags::empty()),
    };
    lines.iter().map(answer).collect()
}

impl Line<'_> {
    fn deadline(&mut self, script: &Script, now: Instant) -> Option<Instant> {
        match &mut self.state {
            State::Connecting { until, .. } => Some(*until),
            State::Open { exchange, .. } => exchange.deadline(script, now),
            State::Over => None,
        }
    }

    fn ask(&self) -> Option<PollFd<'_>> {
        match &self.state {
            State::Connecting { socket, .. } => Some(PollFd::new(socket, PollFlags::OUT)),
            State::Open { socket, exchange } if exchange.outgoing.is_empty() => {
                Some(PollFd::new(socket, PollFlags::IN))
            }
            State::Open { socket, .. } => Some(PollFd::new(socket, PollFlags::IN | PollFlags::OUT)),
            State::Over => None,
        }
    }
}

fn connecting(
    work: &Work,
    line: &Line,
    socket: OwnedFd,
    mut dial: Dial,
    until: Instant,
    events: PollFlags,
) -> State {
    if events.is_empty() {
        return match until <= Instant::now() {
            true => not_connected(work, line, Errno::TIMEDOUT),
            false => State::Connecting { socket, dial, until },
        };
    }
    match dial.decide(socket) {
        Ok(Decided::Connected(socket)) => {
            work.tally.add(work.number, Count::Made, 1);
            work.tally.add(work.number, Count::Open, 1);
            State::Open { socket, exchange: Exchange::new(line.number, Instant::now()) }
        }
        Ok(Decided::Trying(socket)) => State::Connecting { socket, dial, until },
        Err(errno) => not_connected(work, line, errno),
    }
}

/// Moves what can be moved on an open connection.
fn open(work: &Work, line: &Line, socket: OwnedFd, mut exchange: Exchange, events: PollFlags) -> State {
    let script = work.script;
    let mut end = Ok(None);
    if !(events - PollFlags::OUT).is_empty() {
        end = receive(work, line, &socket, &mut exchange);
    }
    if let Ok(None) = end {
        let messages = exchange.compose(script, Instant::now());
        work.tally.add(work.number, Count::Messages, messages);
        end = send(work, &socket, &mut exchange).map(|()| exchange.give_up(script, Instant::now()));
    }
    if exchange.wants_half_close(script) {
        exchange.half_closed();
        // The server may have gone; reading says so.
        let _ = rustix::net::shutdown(&socket, Shutdown::Write);
    }
    match end {
        Ok(None) => return State::Open { socket, exchange },
        Ok(Some(end)) => over(work, line, end),
        Err(errno) => {
            work.tally.add(work.number, kind(errno), 1);
            eprintln!("tine: connection {} broke: {}", line.number + 1, std::io::Error::from(errno));
        }
    }
    work.tally.take(work.number, Count::Open);
    State::Over
}

fn over(work: &Work, line: &Line, end: End) {
    if let Some(error) = end.error() {
        work.tally.add(work.number, error, 1);
    }
    let number = line.number + 1;
    match end {
        End::Closed | End::ClosedEarly => eprintln!("tine: the server closed connection {number}"),
        End::Wrong => eprintln!("tine: connection {number}: a reply differs from what was sent"),
        End::Done | End::Silent => {}
    }
}

fn send(work: &Work, socket: &OwnedFd, exchange: &mut Exchange) -> Result<(), Errno> {
    if exchange.outgoing.is_empty() {
        return Ok(());
    }
    match rustix::net::send(socket, &exchange.outgoing, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => {
            work.tally.add(work.number, Count::Sent, sent as u64);
            exchange.outgoing.drain(..sent);
            Ok(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn receive(
    work: &Work,
    line: &Line,
    socket: &OwnedFd,
    exchange: &mut Exchange,
) -> Result<Option<End>, Errno> {
    let mut buffer = vec![0; 64 * 1024];
    match rustix::net::recv(socket.as_fd(), &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Ok(Some(exchange.closed(work.script))),
        Ok((_, received)) => {
            work.tally.add(work.number, Count::Received, received as u64);
            print(work.print, line.number, &buffer[..received]);
            Ok(exchange.receive(&buffer[..received], work.script, Instant::now()))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn print(how: Print, number: usize, bytes: &[u8]) {
    let text = match how {
        Print::Nothing => return,
        Print::Bytes => bytes.to_vec(),
        Print::Numbered => {
            let mut text = format!("{}: ", number + 1).into_bytes();
            text.extend_from_slice(bytes);
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text
        }
    };
    // Whoever reads may have gone; the exchange goes on.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
}
