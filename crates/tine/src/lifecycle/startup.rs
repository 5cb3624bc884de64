//! The channel by which a process that was just started tells the one that waits for it whether it
//! can serve: a forker or helper its supervisor, a supervisor its master. Readiness is reported
//! once all have entered; the first failure ends the start.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::error::Error;

/// The message of a process that can serve, and that of the process that waits to go on. Messages
/// about failures are longer.
const GO_ON: &[u8] = b"\0";

/// Longer than any message: two paths and the words around them.
const LONGEST: usize = 16 * 1024;

/// The end of a process that starts. Forked processes share it.
#[derive(Debug)]
pub(crate) struct StartSender(OwnedFd);

/// The end of the process that waits.
#[derive(Debug)]
pub(crate) struct StartReceiver(OwnedFd);

/// What the process that waits learns.
#[derive(Debug)]
pub(crate) enum StartEvent {
    /// A process can serve.
    Entered,
    /// A process has failed.
    Failed(Error),
    /// Each process that has not reported has ended.
    Ended,
    /// The server is to be stopped.
    StopRequested,
}

/// The result of a start, in this process.
pub(crate) enum Start<N> {
    /// The server is ready.
    Ready,
    /// A signal has stopped it before.
    Stopped,
    /// This is a process that was forked.
    New(N),
}

/// Makes a channel.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn channel() -> io::Result<(StartSender, StartReceiver)> {
    let flags = SocketFlags::CLOEXEC;
    let (sender, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((StartSender(sender), StartReceiver(receiver)))
}

impl StartSender {
    /// Reports that this process can serve.
    pub(crate) fn entered(&self) {
        // It fails if the process that waits has ended: then the kernel ends this one, too.
        let _ = send(&self.0, GO_ON, SendFlags::NOSIGNAL);
    }

    /// Reports why this process cannot serve.
    pub(crate) fn failed(&self, error: &Error) {
        let _ = send(&self.0, &error.to_message(), SendFlags::NOSIGNAL);
    }

    /// Waits until the receiver lets this process go on. False if it has ended.
    pub(crate) fn wait(&self) -> bool {
        let received = rustix::io::retry_on_intr(|| recv(&self.0, &mut [0; 1][..], RecvFlags::empty()));
        matches!(received, Ok((1, _)))
    }
}

impl StartReceiver {
    /// Waits for a report, or until `stop` is readable.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn wait(&self, stop: BorrowedFd) -> io::Result<StartEvent> {
        loop {
            let mut poll = [
                PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
            ];
            match tine_sys::wait::until(&mut poll, None) {
                Ok(_) if !poll[1].revents().is_empty() => return Ok(StartEvent::StopRequested),
                Ok(_) if !poll[0].revents().is_empty() => return Ok(self.receive()?),
                Ok(_) | Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    fn receive(&self) -> Result<StartEvent, Errno> {
        let mut message = vec![0; LONGEST];
        let (length, _) = rustix::io::retry_on_intr(|| recv(&self.0, &mut message[..], RecvFlags::empty()))?;
        Ok(match &message[..length] {
            [] => StartEvent::Ended,
            GO_ON => StartEvent::Entered,
            message => StartEvent::Failed(Error::from_message(message)),
        })
    }

    /// Lets the process at the other end go on.
    pub(crate) fn go_on(&self) {
        let _ = send(&self.0, GO_ON, SendFlags::NOSIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor that is never readable.
    fn silence() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().expect("a pipe")
    }

    #[test]
    fn reports_arrive_in_order_and_the_end_follows() {
        let (stop, _writer) = silence();
        let (sender, receiver) = channel().expect("a channel");
        sender.entered();
        sender.failed(&Error::usage("wrong", "mend it"));
        drop(sender);
        let next = || receiver.wait(stop.as_fd()).expect("an event");
        assert!(matches!(next(), StartEvent::Entered));
        assert!(matches!(next(), StartEvent::Failed(error) if error.to_string() == "wrong; mend it"));
        assert!(matches!(next(), StartEvent::Ended));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let (stop, writer) = silence();
        let (_sender, receiver) = channel().expect("a channel");
        rustix::io::write(&writer, b"x").expect("a pipe");
        assert!(matches!(receiver.wait(stop.as_fd()), Ok(StartEvent::StopRequested)));
    }

    #[test]
    fn a_process_goes_on_when_it_is_let() {
        let (sender, receiver) = channel().expect("a channel");
        receiver.go_on();
        assert!(sender.wait());
        drop(receiver);
        assert!(!sender.wait());
    }
}
