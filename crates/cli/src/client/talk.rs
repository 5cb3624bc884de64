//! One connection, copied to and from standard input and output, as by OpenBSD's `nc -N`.
//!
//! Both directions are copied at the same time, so that neither side can block the other for ever.
//! After the end of input the socket is half-closed, and the rest of the reply is printed.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::process::Signal;
use tine::cli::next_move;
use tine_load::plan::proxy::ProxyHeaders;
use tine_sys::signal::Set;

use super::dial::connect;
use super::hint::cannot_connect;
use crate::diagnostics::diagnostic;
use crate::error::Error;
use crate::resolve::Target;

/// Bytes copied at once.
const CHUNK: usize = 64 * 1024;

struct Talk {
    socket: OwnedFd,
    /// Bytes read from standard input and not sent yet.
    pending: Vec<u8>,
    input_open: bool,
    sent: u64,
    received: u64,
}

/// The result of one turn of the loop.
enum Turn {
    More,
    Over,
    Interrupted,
}

/// Copies until the server closes, or until Ctrl-C. `proxy`: sent before the first byte.
pub(super) fn run(target: &Target, wait: Duration, proxy: Option<&ProxyHeaders>) -> Result<ExitCode, Error> {
    let connected = connect(&target.endpoints, wait);
    let (socket, endpoint) = connected.map_err(|errno| cannot_connect(&target.name, errno))?;
    if let Some(proxy) = proxy {
        // Alone: when the first message comes is not known.
        let sent = proxy.send(&socket, &endpoint, 0, false);
        sent.map_err(|errno| broken("cannot send the header (--proxy-header)", errno))?;
    }
    let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
    let cannot =
        |why: std::io::Error| Error::system("cannot wait for signals", &why, next_move::of_call(&why));
    signals.block().map_err(cannot)?;
    let interrupts = signals.descriptor().map_err(cannot)?;
    let mut talk = Talk { socket, pending: Vec::new(), input_open: true, sent: 0, received: 0 };
    loop {
        match talk.turn(&interrupts)? {
            Turn::More => {}
            Turn::Over => break,
            Turn::Interrupted => {
                diagnostic!("tine: interrupted; {} bytes sent, {} received", talk.sent, talk.received);
                return Ok(ExitCode::from(super::INTERRUPTED));
            }
        }
    }
    if talk.input_open && std::io::stdin().is_terminal() {
        diagnostic!("tine: the server closed the connection");
    }
    Ok(ExitCode::SUCCESS)
}

impl Talk {
    fn turn(&mut self, interrupts: &OwnedFd) -> Result<Turn, Error> {
        let stdin = rustix::stdio::stdin();
        let writable = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = vec![
            PollFd::new(interrupts, PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN | writable),
        ];
        if self.input_open && self.pending.is_empty() {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(broken("cannot wait for the server", errno)),
        }
        let [interrupted, socket, input] =
            [0, 1, 2].map(|at| fds.get(at).map_or(PollFlags::empty(), PollFd::revents));
        if !interrupted.is_empty() {
            return Ok(Turn::Interrupted);
        }
        if socket.contains(PollFlags::OUT) {
            self.send()?;
        }
        if socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && self.receive()? {
            return Ok(Turn::Over);
        }
        if !input.is_empty() {
            self.read_input()?;
        }
        Ok(Turn::More)
    }

    fn read_input(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
            Ok(0) => {
                self.input_open = false;
                // If the server has closed the connection, reading reports it.
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
            // Bytes that the server sent before it closed are still to be read.
            Err(Errno::PIPE) => {
                self.pending.clear();
                self.input_open = false;
                Ok(())
            }
            Err(errno) => Err(broken("the connection broke", errno)),
        }
    }

    /// Prints received bytes. True at the end of the stream.
    fn receive(&mut self) -> Result<bool, Error> {
        let mut buffer = vec![0; CHUNK];
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(true),
            Ok((_, received)) => {
                self.received += received as u64;
                let mut stdout = std::io::stdout().lock();
                let printed = stdout.write_all(&buffer[..received]).and_then(|()| stdout.flush());
                printed.map_err(|why| {
                    Error::system("cannot write to standard output", &why, next_move::of_output(&why))
                })?;
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
