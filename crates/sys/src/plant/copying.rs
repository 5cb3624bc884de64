//! The channel to a template: a message for each copy, and the answers.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::DESCRIPTORS;
use super::layout::FAILED_BIT;
use crate::process::has_ended;
use crate::signal::Set;

/// The channel to a template.
#[derive(Debug)]
pub struct TemplateChannel(OwnedFd);

/// What a template or one of its copies answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A copy is there, with this id in the pid namespace of this process.
    Copied(i32),
    /// It could not make one.
    NotCopied(Errno),
    /// A copy has tried its steps, and has ended.
    Tried,
    /// A copy could not take this step, counted from 0, and has ended; the result that the step had
    /// instead, or the negative error number.
    Failed(u64, i64),
}

impl TemplateChannel {
    /// The channel of a [`Template`](super::Template). The kernel adds the id of the sender to each
    /// answer: the template may number processes otherwise (pid_namespaces(7)).
    ///
    /// # Errors
    /// None for a socket.
    pub fn new(channel: OwnedFd) -> io::Result<TemplateChannel> {
        rustix::net::sockopt::set_socket_passcred(&channel, true)?;
        Ok(TemplateChannel(channel))
    }

    /// Asks for a copy that takes these steps and gets these descriptors, at most [`DESCRIPTORS`].
    ///
    /// # Errors
    /// EPIPE if the template has ended; EAGAIN if it does not take its messages.
    pub fn ask(&self, message: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(message)], &mut control, flags))?;
        Ok(())
    }

    /// The next answer, if there is one. Does not wait.
    ///
    /// # Errors
    /// EPIPE or ECONNRESET if the template has ended, and its copies have answered all that they
    /// will; EBADMSG for another message.
    pub fn answer(&self) -> io::Result<Option<Answer>> {
        let mut bytes = [0; 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
        });
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
            _ => None,
        });
        match (received.map(|received| received.bytes), sender) {
            (Ok(16), Some(sender)) => Ok(Some(Answer::of(bytes, sender))),
            (Ok(0), _) => Err(Errno::PIPE.into()),
            (Ok(_), _) => Err(Errno::BADMSG.into()),
            (Err(Errno::AGAIN), _) => Ok(None),
            (Err(why), _) => Err(why.into()),
        }
    }
}

impl AsFd for TemplateChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<TemplateChannel> for OwnedFd {
    fn from(channel: TemplateChannel) -> OwnedFd {
        channel.0
    }
}

impl Answer {
    fn of(bytes: [u8; 16], sender: i32) -> Answer {
        let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let (first, second) = (word(0), word(8));
        match (first, second) {
            (1, 0) => Answer::Copied(sender),
            (-1, 1) => Answer::Tried,
            (0.., _) => Answer::Failed((first & !(1 << FAILED_BIT)).unsigned_abs(), second),
            _ => Answer::NotCopied(Errno::from_raw_os_error(-first as i32)),
        }
    }
}

/// Waits until a signal has stopped this copy, a child of this process. False if it has ended
/// instead, or at the deadline. Leaves it as it is.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn wait_for_stop(pid: i32, deadline: Option<Instant>) -> io::Result<bool> {
    let changes = Set::of(&[libc::SIGCHLD]);
    let pending = changes.descriptor()?;
    let mask = changes.block()?;
    let stopped = loop {
        // Before the look at the child: a later change makes the signal pending again.
        while changes.take().is_some() {}
        if has_stopped(pid) {
            break true;
        }
        let mut poll = [PollFd::new(&pending, PollFlags::IN)];
        if has_ended(pid) || crate::wait::until(&mut poll, deadline) == Ok(0) {
            break false;
        }
    };
    mask.make_mask()?;
    Ok(stopped)
}

fn has_stopped(pid: i32) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the out-pointer is valid, an all-zero siginfo is valid, and its process id is plain
    // data.
    unsafe {
        let returned = libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), flags);
        returned == 0 && info.assume_init().si_pid() == pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (first, second, expected) in [
            (1, 0, Answer::Copied(4711)),
            (-11, 0, Answer::NotCopied(Errno::AGAIN)),
            (-1, 0, Answer::NotCopied(Errno::PERM)),
            (-1, 1, Answer::Tried),
            (1 << FAILED_BIT, -9, Answer::Failed(0, -9)),
            (1 << FAILED_BIT | 7, 0, Answer::Failed(7, 0)),
        ] {
            let words = [i64::to_ne_bytes(first), i64::to_ne_bytes(second)].concat();
            assert_eq!(Answer::of(words.try_into().expect("16 bytes"), 4711), expected);
        }
    }
}
