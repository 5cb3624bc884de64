//! A channel of texts with descriptors, between processes that may be of different versions.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Bytes of a text, at most. It is less than the kernel's default for what waits in a socket.
pub(crate) const MAX_TEXT: usize = 128 * 1024;

/// Descriptors of a message, at most. The kernel has 253 (`SCM_MAX_FD`, unix(7)).
pub(crate) const MAX_DESCRIPTORS: usize = 100;

/// One end of a channel. It never blocks.
#[derive(Debug)]
pub(crate) struct TextChannel(OwnedFd);

/// A message that was received.
#[derive(Debug)]
pub(crate) struct ReceivedText {
    pub(crate) text: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl TextChannel {
    /// Makes a channel. The end of the processes at either end is the end of the channel.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn pair() -> Result<(TextChannel, TextChannel), Errno> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((TextChannel(one), TextChannel(other)))
    }

    /// Sends a text with descriptors.
    ///
    /// # Errors
    /// EAGAIN if the receiver is behind; EMSGSIZE if the message is too large; EPIPE if the
    /// receiver has ended.
    pub(crate) fn send(&self, text: &str, descriptors: &[BorrowedFd]) -> Result<(), Errno> {
        if text.len() > MAX_TEXT || descriptors.len() > MAX_DESCRIPTORS {
            return Err(Errno::MSGSIZE);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut control, flags).map(drop)
    }

    /// Receives a message; `None` at the end of the channel.
    ///
    /// # Errors
    /// EAGAIN if there is none; EMSGSIZE if it is larger than [`TextChannel::send`] allows.
    pub(crate) fn receive(&self) -> Result<Option<ReceivedText>, Errno> {
        // Asked for at each wake of a supervisor, and empty in most cases: then no memory is taken.
        let waiting = loop {
            // Of all messages that wait: at least as much as the first one has.
            let waiting = rustix::io::ioctl_fionread(&self.0)?;
            if waiting > 0 {
                break usize::try_from(waiting).unwrap_or(usize::MAX).min(MAX_TEXT + 1);
            }
            let peek = RecvFlags::DONTWAIT | RecvFlags::PEEK;
            match rustix::net::recv(&self.0, &mut [0; 1], peek) {
                Ok((_, 0)) => return Ok(None),
                // It has come since, or the process at the other end has ended (see below).
                Ok(_) | Err(Errno::CONNRESET) => {}
                Err(why) => return Err(why),
            }
        };
        let mut text = vec![0; waiting];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
                // Told once: the process at the other end has ended with messages unread. What it
                // has sent before can still be received.
                Err(Errno::CONNRESET) => {}
                received => break received?,
            }
        };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        match received.bytes {
            0 => Ok(None),
            length if length > MAX_TEXT => Err(Errno::MSGSIZE),
            length => {
                text.truncate(length);
                Ok(Some(ReceivedText { text, descriptors }))
            }
        }
    }
}

impl AsFd for TextChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An end that another process has passed.
impl From<OwnedFd> for TextChannel {
    fn from(socket: OwnedFd) -> TextChannel {
        TextChannel(socket)
    }
}

impl From<TextChannel> for OwnedFd {
    fn from(channel: TextChannel) -> OwnedFd {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_arrive_with_their_descriptors() {
        let (one, other) = TextChannel::pair().expect("a channel");
        assert_eq!(other.receive().expect_err("nothing yet"), Errno::AGAIN);
        let descriptors = [one.as_fd(); MAX_DESCRIPTORS];
        one.send("first", &descriptors).expect("sent");
        one.send(&"x".repeat(MAX_TEXT), &[]).expect("sent");
        let first = other.receive().expect("a message").expect("not the end");
        assert_eq!((&first.text[..], first.descriptors.len()), (&b"first"[..], MAX_DESCRIPTORS));
        let second = other.receive().expect("a message").expect("not the end");
        assert_eq!((second.text.len(), second.descriptors.len()), (MAX_TEXT, 0));
        assert_eq!(one.send(&"x".repeat(MAX_TEXT + 1), &[]), Err(Errno::MSGSIZE));
        drop((one, first));
        assert!(other.receive().expect("no fault").is_none());
        assert_eq!(other.send("x", &[]), Err(Errno::PIPE));
    }

    #[test]
    fn what_was_sent_before_the_end_arrives() {
        let (one, other) = TextChannel::pair().expect("a channel");
        one.send("never read", &[]).expect("sent");
        other.send("why", &[]).expect("sent");
        drop(other);
        assert_eq!(one.receive().expect("a message").map(|received| received.text), Some(b"why".to_vec()));
        assert!(one.receive().expect("no fault").is_none());
    }

    #[test]
    fn a_receiver_that_is_behind_does_not_block() {
        let (one, _other) = TextChannel::pair().expect("a channel");
        let text = "x".repeat(MAX_TEXT);
        let failed = (0..64).find_map(|_| one.send(&text, &[]).err());
        assert_eq!(failed, Some(Errno::AGAIN));
    }
}
