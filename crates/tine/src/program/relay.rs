//! A program behind a terminal: the connection's process stays, executes the program as its child, and
//! carries bytes between the socket and the terminal's other end (pty(7)).
//!
//! With `Terminal::Full` all three descriptors of the program are the terminal, which it leads a session on:
//! for programs that refuse to talk to anything else. With `Terminal::Output` only its standard output is,
//! so that the C library writes line by line; its input is the socket itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, Winsize};
use tine_sys::process::Ended;

use super::Terminal;

/// The end of input, as a terminal has it (`VEOF`, termios(3)).
const END_OF_INPUT: u8 = 4;

/// Bytes carried at a time.
const ROOM: usize = 16 * 1024;

/// The two ends of a new terminal: the relay's, which does not block, and the program's.
pub(super) fn open(terminal: Terminal) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&own)?;
    unlockpt(&own)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let other = rustix::fs::open(ptsname(&own, Vec::new())?, flags, Mode::empty())?;
    let mut modes = rustix::termios::tcgetattr(&other)?;
    match terminal {
        // Lines can be edited and ended as by hand; nothing is repeated, and a newline stays one byte.
        Terminal::Full => {
            modes.local_modes &= !LocalModes::ECHO;
            modes.output_modes &= !OutputModes::OPOST;
            modes.input_modes &= !InputModes::ICRNL;
        }
        Terminal::None | Terminal::Output => modes.make_raw(),
    }
    rustix::termios::tcsetattr(&other, OptionalActions::Now, &modes)?;
    rustix::termios::tcsetwinsize(&other, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
    rustix::io::ioctl_fionbio(&own, true)?;
    Ok((own, other))
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Load {
    bytes: Vec<u8>,
    /// The last byte that came was not the end of a line.
    within_line: bool,
    /// Nothing more will come.
    ended: bool,
}

impl Load {
    fn wants_more(&self) -> bool {
        !self.ended && self.bytes.is_empty()
    }

    fn take(&mut self, came: &[u8]) {
        self.bytes.extend_from_slice(came);
        self.within_line = came.last().is_some_and(|byte| *byte != b'\n');
    }

    fn left(&mut self, written: usize) {
        self.bytes.drain(..written);
    }
}

/// Carries bytes until the program has ended and all that it wrote is sent, or the client has gone.
/// Returns how it ended.
pub(super) fn carry(socket: &OwnedFd, terminal: OwnedFd, child: i32, both_ways: bool) -> io::Result<Ended> {
    let id = Pid::from_raw(child).ok_or(Errno::SRCH)?;
    let program = pidfd_open(id, PidfdFlags::empty())?;
    let mut input = Load { ended: !both_ways, ..Load::default() };
    let mut output = Load::default();
    let mut ended = None;
    while ended.is_none() || !output.bytes.is_empty() || !output.ended {
        wait(socket, &terminal, &program, &input, &output, ended.is_some())?;
        if ended.is_none() {
            ended = tine_sys::process::reap(child)?;
        }
        if input.wants_more() {
            read_client(socket, &mut input);
        }
        if !input.bytes.is_empty() {
            write_terminal(&terminal, &mut input);
        }
        if output.wants_more() {
            read_terminal(&terminal, &mut output, ended.is_some());
        }
        if !output.bytes.is_empty() && write_client(socket, &mut output).is_err() {
            break;
        }
    }
    // Whoever still has the terminal is told that nobody is there.
    drop(terminal);
    match ended {
        Some(ended) => Ok(ended),
        None => loop {
            let mut ask = [PollFd::new(&program, PollFlags::IN)];
            let _ = tine_sys::wait::until(&mut ask, None);
            if let Some(ended) = tine_sys::process::reap(child)? {
                return Ok(ended);
            }
        },
    }
}

fn wait(
    socket: &OwnedFd,
    terminal: &OwnedFd,
    program: &OwnedFd,
    input: &Load,
    output: &Load,
    ended: bool,
) -> io::Result<()> {
    let when = |wanted: bool, flags: PollFlags| if wanted { flags } else { PollFlags::empty() };
    let of_socket = when(input.wants_more(), PollFlags::IN) | when(!output.bytes.is_empty(), PollFlags::OUT);
    let of_terminal =
        when(!input.bytes.is_empty(), PollFlags::OUT) | when(output.wants_more(), PollFlags::IN);
    let mut ask = vec![PollFd::new(socket, of_socket)];
    // A side that nothing is wanted of would wake by its end alone, again and again.
    if of_socket.is_empty() {
        ask.clear();
    }
    if !of_terminal.is_empty() {
        ask.push(PollFd::new(terminal, of_terminal));
    }
    if ended {
        // What is left in the terminal is read at once; only the client may keep it waiting.
        if output.bytes.is_empty() {
            return Ok(());
        }
    } else {
        ask.push(PollFd::new(program, PollFlags::IN));
    }
    match tine_sys::wait::until(&mut ask, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(why) => Err(why.into()),
    }
}

fn read_client(socket: &OwnedFd, input: &mut Load) {
    let mut bytes = [0; ROOM];
    match rustix::net::recv(socket.as_fd(), &mut bytes[..], RecvFlags::DONTWAIT) {
        Ok((_, 0)) => {
            // In the middle of a line, the first one only hands over what has come.
            let within = std::mem::take(&mut input.within_line);
            input.bytes.extend(std::iter::repeat_n(END_OF_INPUT, if within { 2 } else { 1 }));
            input.ended = true;
        }
        Ok((_, length)) => input.take(&bytes[..length]),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(_) => input.ended = true,
    }
}

fn write_terminal(terminal: &OwnedFd, input: &mut Load) {
    match rustix::io::write(terminal, &input.bytes) {
        Ok(written) => input.left(written),
        Err(Errno::AGAIN | Errno::INTR) => {}
        // Nobody reads any more.
        Err(_) => {
            input.bytes.clear();
            input.ended = true;
        }
    }
}

fn read_terminal(terminal: &OwnedFd, output: &mut Load, program_ended: bool) {
    let mut bytes = [0; ROOM];
    match rustix::io::read(terminal, &mut bytes) {
        Ok(length @ 1..) => output.take(&bytes[..length]),
        Err(Errno::INTR) => {}
        // Descendants may have it still; what the program itself wrote has been read.
        Err(Errno::AGAIN) => output.ended |= program_ended,
        // EIO: nobody has the other end.
        Ok(_) | Err(_) => output.ended = true,
    }
}

fn write_client(socket: &OwnedFd, output: &mut Load) -> Result<(), Errno> {
    match rustix::net::send(socket, &output.bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(written) => output.left(written),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(why) => return Err(why),
    }
    Ok(())
}
