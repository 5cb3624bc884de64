//! Handing a descriptor and a few words to another process of the server.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Whether to wait where the receiver is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    ForRoom,
}

/// Sends a descriptor with these words, over a socket that keeps messages apart (`SCM_RIGHTS`, unix(7)).
/// False where the receiver has gone, or is far behind and this is not to wait for it: the message is lost, and
/// with it that use of the descriptor.
pub(crate) fn send<const WORDS: usize>(
    channel: &OwnedFd,
    descriptor: BorrowedFd,
    words: [u64; WORDS],
    wait: Wait,
) -> bool {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = match wait {
        Wait::No => SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        Wait::ForRoom => SendFlags::NOSIGNAL,
    };
    rustix::net::sendmsg(channel, &[IoSlice::new(&bytes)], &mut control, flags).is_ok()
}

/// One message from the channel; `None` at its end.
///
/// # Errors
/// EAGAIN where none has come; EMFILE where there was no room for the descriptor, which is closed then.
pub(crate) fn receive<const WORDS: usize>(
    channel: &OwnedFd,
) -> Result<Option<(OwnedFd, [u64; WORDS])>, Errno> {
    let mut words = [0; WORDS];
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    if message.bytes == 0 {
        return Ok(None);
    }
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    // Without room for a descriptor the kernel leaves it out.
    descriptor.map(|descriptor| Some((descriptor, words))).ok_or(Errno::MFILE)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn what_is_sent_arrives_and_the_end_is_told() {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (sender, receiver) = pair.expect("a pair");
        assert_eq!(receive::<2>(&receiver).expect_err("nothing yet"), Errno::AGAIN);
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        send(&sender, writer.as_fd(), [7, u64::MAX], Wait::No);
        drop(writer);
        let (received, words) = receive::<2>(&receiver).expect("a message").expect("not the end");
        assert_eq!(words, [7, u64::MAX]);
        rustix::io::write(&received, b"x").expect("a pipe");
        assert_eq!(rustix::io::read(&reader, &mut [0; 2]), Ok(1));
        drop(sender);
        assert!(receive::<2>(&receiver).expect("the end").is_none());
    }
}
