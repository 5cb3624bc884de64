//! The channel from the processes of a server to its log writer, one datagram for each line. Both
//! ends are kept by the process that starts the log writer: lines wait in it while there is none.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair, sockopt};

use super::syslog::own_host_name;
use super::target::LogTarget;
use super::wrapping::Wrapping;

/// Room for lines that the log writer has not taken, with the kernel's overhead: thousands of
/// lines, if the server may have more than `net.core.wmem_max`.
const ROOM: usize = 4 << 20;

/// The end of a process that logs.
#[derive(Debug)]
pub(crate) struct LineSender {
    pub(super) socket: OwnedFd,
    pub(super) wrapping: Option<Wrapping>,
}

/// The end of the log writer.
#[derive(Debug)]
pub(crate) struct LineReceiver {
    pub(crate) socket: OwnedFd,
}

/// What the log writer finds in the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peeked {
    /// A line of this length.
    Line(usize),
    /// A line that is longer than any that is written.
    TooLong,
    Nothing,
    /// No process is left that could send a line.
    End,
}

/// Makes a channel for the lines of a target.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn channel(target: &LogTarget) -> io::Result<(LineSender, LineReceiver)> {
    let flags = SocketFlags::CLOEXEC;
    let (sender, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    if sockopt::set_socket_send_buffer_size_force(&sender, ROOM).is_err() {
        // As much as the kernel grants.
        let _ = sockopt::set_socket_send_buffer_size(&sender, ROOM);
    }
    let wrapping = match target {
        LogTarget::Stderr | LogTarget::File(_) => None,
        LogTarget::Syslog => Some(Wrapping::Syslog(own_host_name())),
        LogTarget::Journal => Some(Wrapping::Journal),
    };
    Ok((LineSender { socket: sender, wrapping }, LineReceiver { socket: receiver }))
}

impl LineReceiver {
    /// Looks at the first line, which stays in the channel.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> Peeked {
        let room = buffer.len();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        match rustix::io::retry_on_intr(|| recv(&self.socket, &mut buffer[..], flags)) {
            Ok((0, _)) => Peeked::End,
            Ok((_, length)) if length > room => Peeked::TooLong,
            Ok((length, _)) => Peeked::Line(length),
            Err(_) => Peeked::Nothing,
        }
    }

    /// Removes the first line.
    pub(crate) fn remove(&self) {
        let _ = rustix::io::retry_on_intr(|| recv(&self.socket, &mut [0; 1][..], RecvFlags::DONTWAIT));
    }

    /// Moves the descriptor to this number or a higher one.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn move_above(&mut self, lowest: i32) -> Result<(), Errno> {
        self.socket = fcntl_dupfd_cloexec(&self.socket, lowest)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{SendFlags, send};

    use super::*;

    #[test]
    fn a_line_stays_until_it_is_removed_and_the_end_follows() {
        let (sender, receiver) = channel(&LogTarget::Journal).expect("a channel");
        let mut buffer = [0; 8];
        assert_eq!(receiver.peek(&mut buffer), Peeked::Nothing);
        for line in [&b"one\n"[..], b"0123456789", b"two\n"] {
            send(&sender.socket, line, SendFlags::empty()).expect("room");
        }
        drop(sender);
        assert_eq!(receiver.peek(&mut buffer), Peeked::Line(4));
        assert_eq!(receiver.peek(&mut buffer), Peeked::Line(4));
        assert_eq!(&buffer[..4], b"one\n");
        receiver.remove();
        assert_eq!(receiver.peek(&mut buffer), Peeked::TooLong);
        receiver.remove();
        assert_eq!(receiver.peek(&mut buffer), Peeked::Line(4));
        receiver.remove();
        assert_eq!(receiver.peek(&mut buffer), Peeked::End);
    }
}
