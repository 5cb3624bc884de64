//! One connection, standard input and standard output: like OpenBSD's `nc -N`.
//!
//! Both directions go on at the same time, so that neither side can wait for the other for ever. After
//! the end of input the socket is half-closed, and what the server still sends is printed.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::error::Error;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::process::Signal;
use tine_sys::signal::Set;

use super::dial::{Decided, Target, cannot_connect};

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;

struct Talk {
    socket: OwnedFd,
    /// Read from standard input and not sent yet.
    pending: Vec<u8>,
    input_open: bool,
    sent: u64,
    received: u64,
}

/// What a round of the loop came to.
enum Round {
    More,
    Over,
    Interrupted,
}

/// Talks until the server closes, or Ctrl-C.
pub fn run(target: &Target, wait: Duration) -> Result<ExitCode, Error> {
    let socket = connect(target, wait).map_err(|errno| cannot_connect(&target.name, errno))?;
    let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
    let cannot = |why: std::io::Error| Error::system("cannot wait for signals", &why, "check `ulimit -n`");
    signals.block().map_err(cannot)?;
    let interrupts = signals.descriptor().map_err(cannot)?;
    let mut talk = Talk { socket, pending: Vec::new(), input_open: true, sent: 0, received: 0 };
    loop {
        match talk.round(&interrupts) {
            Ok(Round::More) => {}
            Ok(Round::Over) => break,
            Ok(Round::Interrupted) => {
                eprintln!("tine: interrupted; {} bytes sent, {} received", talk.sent, talk.received);
                return Ok(ExitCode::from(super::INTERRUPTED));
            }
            Err(error) => return Err(error),
        }
    }
    if talk.input_open && std::io::stdin().is_terminal() {
        eprintln!("tine: the server closed the connection");
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects to the first place that answers, in a limited time.
fn connect(target: &Target, wait: Duration) -> Result<OwnedFd, Errno> {
    let deadline = Instant::now() + wait;
    let mut dial = target.dial();
    let mut socket = dial.next()?;
    loop {
        let mut ask = [PollFd::new(&socket, PollFlags::OUT)];
        match tine_sys::wait::until(&mut ask, Some(deadline)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => match dial.decide(socket)? {
                Decided::Connected(socket) => return Ok(socket),
                Decided::Trying(next) => socket = next,
            },
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

impl Talk {
    fn round(&mut self, interrupts: &OwnedFd) -> Result<Round, Error> {
        let stdin = rustix::stdio::stdin();
        let sends = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut ask = vec![
            PollFd::new(interrupts, PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN | sends),
        ];
        if self.input_open && self.pending.is_empty() {
            ask.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut ask, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(broken("cannot wait for the server", errno)),
        }
        let [interrupted, socket, input] =
            [0, 1, 2].map(|at| ask.get(at).map_or(PollFlags::empty(), PollFd::revents));
        if !interrupted.is_empty() {
            return Ok(Round::Interrupted);
        }
        if socket.contains(PollFlags::OUT) {
            self.send()?;
        }
        if socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && self.receive()? {
            return Ok(Round::Over);
        }
        if !input.is_empty() {
            self.read_input()?;
        }
        Ok(Round::More)
    }

    fn read_input(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
            Ok(0) => {
                self.input_open = false;
                // The server may have gone meanwhile; then reading says so.
                let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
                Ok(())
            }
            Ok(read) => {
                buffer.truncate(read);
                self.pending = buffer;
                self.send()
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(errno) => Err(broken("cannot read standard input", errno)),
        }
    }

    fn send(&mut self) -> Result<(), Error> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::send(&self.socket, &self.pending, flags) {
            Ok(sent) => {
                self.sent += sent as u64;
                self.pending.drain(..sent);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            // What the server sent before it closed is still to be read.
            Err(Errno::PIPE) => {
                self.pending.clear();
                self.input_open = false;
                Ok(())
            }
            Err(errno) => Err(broken("the connection broke", errno)),
        }
    }

    /// Prints what has come. True at the end of the stream.
    fn receive(&mut self) -> Result<bool, Error> {
        let mut buffer = vec![0; CHUNK];
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(true),
            Ok((_, received)) => {
                self.received += received as u64;
                let mut stdout = std::io::stdout().lock();
                let printed = stdout.write_all(&buffer[..received]).and_then(|()| stdout.flush());
                let next = "give standard output a reader";
                printed.map_err(|why| Error::system("cannot write to standard output", &why, next))?;
                Ok(false)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(broken("the connection broke", errno)),
        }
    }
}

fn broken(what: &str, errno: Errno) -> Error {
    Error::system(what, &errno.into(), "see the server's log")
}
