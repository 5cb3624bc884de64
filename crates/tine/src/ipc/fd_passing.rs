//! Passing a descriptor and a few words to another process of the server.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// The most words of a message.
pub(super) const MAX_WORDS: usize = 13;

/// What a sender does when the receiver is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenBehind {
    /// The message is lost, and the descriptor is not passed.
    Drop,
    /// The sender blocks.
    Block,
}

/// Sends a descriptor with words, over a socket that preserves message boundaries (`SCM_RIGHTS`,
/// unix(7)). False if the receiver has ended, or is behind and the message is dropped.
pub(super) fn send(channel: &OwnedFd, descriptor: BorrowedFd, words: &[u64], when: WhenBehind) -> bool {
    let mut bytes = [0; MAX_WORDS * 8];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let bytes = &bytes[..words.len() * 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = match when {
        WhenBehind::Drop => SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        WhenBehind::Block => SendFlags::NOSIGNAL,
    };
    rustix::net::sendmsg(channel, &[IoSlice::new(bytes)], &mut control, flags).is_ok()
}

/// Receives one message; `None` at the end of the channel, when no sender is left.
///
/// # Errors
/// EAGAIN if there is none; EMFILE if there was no room for the descriptor, which is closed then.
pub(super) fn receive(channel: &OwnedFd) -> Result<Option<(OwnedFd, [u64; MAX_WORDS])>, Errno> {
    let mut bytes = [0; MAX_WORDS * 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut words = [0; MAX_WORDS];
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
