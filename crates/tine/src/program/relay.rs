//! The relay of a program on a pseudoterminal (pty(7)): the connection process executes the program
//! as its child, and copies bytes between the client's socket and the master side of the terminal.
//!
//! With `Terminal::Full` and `Terminal::Raw`, all three standard descriptors of the program are the
//! terminal, which controls its session: for programs that require a terminal. With
//! `Terminal::Output`, only
//! standard output is the terminal, so that the C library buffers by line; standard input is the
//! socket itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, Winsize};
use tine_sys::process::{Ended, has_ended};
use tine_sys::signal::{Set, raise};

use super::Terminal;

/// The character that ends the input of a terminal (`VEOF`, termios(3)).
const END_OF_INPUT: u8 = 4;

/// Size of a read, in bytes.
const READ_SIZE: usize = 16 * 1024;

/// Opens a pseudoterminal of this size, in rows and columns. Returns the master side, which is
/// non-blocking, and the terminal for the program.
pub(crate) fn open(kind: Terminal, (rows, columns): (u16, u16)) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(ptsname(&master, Vec::new())?, flags, Mode::empty())?;
    let mut modes = rustix::termios::tcgetattr(&terminal)?;
    match kind {
        // Line editing and VEOF as for a user; no echo, and a newline stays one byte.
        Terminal::Full => {
            modes.local_modes &= !LocalModes::ECHO;
            modes.output_modes &= !OutputModes::OPOST;
            modes.input_modes &= !InputModes::ICRNL;
        }
        Terminal::None | Terminal::Output | Terminal::Raw => modes.make_raw(),
    }
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &modes)?;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, terminal))
}

/// The bytes of one direction that are read and not written yet.
#[derive(Debug, Default)]
struct RelayBuffer {
    bytes: Vec<u8>,
    /// The last byte read was not a newline.
    within_line: bool,
    /// End of file: there is nothing more to read.
    ended: bool,
}

impl RelayBuffer {
    fn wants_more(&self) -> bool {
        !self.ended && self.bytes.is_empty()
    }

    fn push(&mut self, read: &[u8]) {
        self.bytes.extend_from_slice(read);
        self.within_line = read.last().is_some_and(|byte| *byte != b'\n');
    }

    fn consume(&mut self, written: usize) {
        self.bytes.drain(..written);
    }
}

/// The exit of the program, as a descriptor that becomes readable: a pidfd, or where the system
/// denies pidfd_open(2), one for SIGCHLD (signalfd(2)).
struct ChildExit {
    descriptor: OwnedFd,
    signals: Option<Set>,
}

impl ChildExit {
    fn watch(child: i32) -> io::Result<ChildExit> {
        let id = Pid::from_raw(child).ok_or(Errno::SRCH)?;
        if let Ok(descriptor) = pidfd_open(id, PidfdFlags::empty()) {
            return Ok(ChildExit { descriptor, signals: None });
        }
        let signals = Set::of(&[Signal::CHILD.as_raw()]);
        signals.block()?;
        let descriptor = signals.descriptor()?;
        // Its signal may have come before it was blocked.
        if has_ended(child) {
            raise(Signal::CHILD.as_raw());
        }
        Ok(ChildExit { descriptor, signals: Some(signals) })
    }

    /// Takes the signals that have come; the next exit makes the descriptor readable again.
    fn clear(&self) {
        while self.signals.is_some_and(|signals| signals.take().is_some()) {}
    }
}

/// Copies bytes until the program has exited and its output is sent, or the client has
/// disconnected. Then reaps the program.
pub(super) fn copy(socket: &OwnedFd, terminal: OwnedFd, child: i32, kind: Terminal) -> io::Result<Ended> {
    let program = ChildExit::watch(child)?;
    let mut input = RelayBuffer { ended: !kind.is_input(), ..RelayBuffer::default() };
    let mut output = RelayBuffer::default();
    let mut ended = None;
    while ended.is_none() || !output.bytes.is_empty() || !output.ended {
        wait(socket, &terminal, &program.descriptor, &input, &output, ended.is_some())?;
        program.clear();
        if ended.is_none() {
            ended = tine_sys::process::reap(child)?;
        }
        if input.wants_more() {
            read_client(socket, kind, &mut input);
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
    // Processes that still have the terminal get SIGHUP or an error from now on.
    drop(terminal);
    match ended {
        Some(ended) => Ok(ended),
        None => loop {
            let mut poll = [PollFd::new(&program.descriptor, PollFlags::IN)];
            let _ = tine_sys::wait::until(&mut poll, None);
            program.clear();
            if let Some(ended) = tine_sys::process::reap(child)? {
                return Ok(ended);
            }
        },
    }
}

/// Waits until one of the copies can go on, or the program exits.
fn wait(
    socket: &OwnedFd,
    terminal: &OwnedFd,
    program: &OwnedFd,
    input: &RelayBuffer,
    output: &RelayBuffer,
    ended: bool,
) -> io::Result<()> {
    let when = |wanted: bool, flags: PollFlags| if wanted { flags } else { PollFlags::empty() };
    let of_socket = when(input.wants_more(), PollFlags::IN) | when(!output.bytes.is_empty(), PollFlags::OUT);
    let of_terminal =
        when(!input.bytes.is_empty(), PollFlags::OUT) | when(output.wants_more(), PollFlags::IN);
    let mut poll = vec![PollFd::new(socket, of_socket)];
    // poll(2) would report the hangup of a socket without requested events again and again.
    if of_socket.is_empty() {
        poll.clear();
    }
    if !of_terminal.is_empty() {
        poll.push(PollFd::new(terminal, of_terminal));
    }
    if ended {
        // The rest of the output is read without waiting; only writes to the client may block.
        if output.bytes.is_empty() {
            return Ok(());
        }
    } else {
        poll.push(PollFd::new(program, PollFlags::IN));
    }
    match tine_sys::wait::until(&mut poll, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(why) => Err(why.into()),
    }
}

fn read_client(socket: &OwnedFd, kind: Terminal, input: &mut RelayBuffer) {
    let mut bytes = [0; READ_SIZE];
    match rustix::net::recv(socket.as_fd(), &mut bytes[..], RecvFlags::DONTWAIT) {
        // A terminal without lines has no end of input.
        Ok((_, 0)) if kind == Terminal::Raw => input.ended = true,
        Ok((_, 0)) => {
            // Within a line, the first VEOF only passes on the bytes before it; the second one ends
            // the input.
            let within = std::mem::take(&mut input.within_line);
            input.bytes.extend(std::iter::repeat_n(END_OF_INPUT, if within { 2 } else { 1 }));
            input.ended = true;
        }
        Ok((_, length)) => input.push(&bytes[..length]),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(_) => input.ended = true,
    }
}

fn write_terminal(terminal: &OwnedFd, input: &mut RelayBuffer) {
    match rustix::io::write(terminal, &input.bytes) {
        Ok(written) => input.consume(written),
        Err(Errno::AGAIN | Errno::INTR) => {}
        // The program closed the terminal.
        Err(_) => {
            input.bytes.clear();
            input.ended = true;
        }
    }
}

fn read_terminal(terminal: &OwnedFd, output: &mut RelayBuffer, program_ended: bool) {
    let mut bytes = [0; READ_SIZE];
    match rustix::io::read(terminal, &mut bytes) {
        Ok(length @ 1..) => output.push(&bytes[..length]),
        Err(Errno::INTR) => {}
        // Descendants may still have the terminal open, but all output of the program has been
        // read.
        Err(Errno::AGAIN) => output.ended |= program_ended,
        // EIO: no process has the terminal open.
        Ok(_) | Err(_) => output.ended = true,
    }
}

fn write_client(socket: &OwnedFd, output: &mut RelayBuffer) -> Result<(), Errno> {
    match rustix::net::send(socket, &output.bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(written) => output.consume(written),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(why) => return Err(why),
    }
    Ok(())
}
