//! Any bytes, with any number of descriptors, as a message between processes of the server: never a
//! panic, the words are those of the message, and no descriptor stays open.

#![no_main]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use libfuzzer_sys::fuzz_target;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

#[allow(dead_code)]
#[path = "../../crates/tine/src/ipc/fd_passing.rs"]
mod fd_passing;

/// The most descriptors of a message. Genuine ones have one.
const MAX_DESCRIPTORS: usize = 3;

fuzz_target!(|input: (u8, &[u8])| {
    let (number, bytes) = (usize::from(input.0) % (MAX_DESCRIPTORS + 1), input.1);
    let (sender, receiver) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    send(&sender, &writer, number, bytes);
    drop((sender, writer));
    match fd_passing::receive(&receiver) {
        Ok(Some((_, words))) => {
            assert!(number > 0 && !bytes.is_empty());
            let received: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let length = bytes.len().min(received.len());
            assert_eq!(received[..length], bytes[..length]);
            assert!(received[length..].iter().all(|byte| *byte == 0));
        }
        Ok(None) => assert!(bytes.is_empty()),
        Err(error) => assert_eq!((error, number), (Errno::MFILE, 0)),
    }
    // The end of the stream comes when the last descriptor that was passed is closed, and when no
    // process that lists the descriptors of this one (proc(5)) holds the pipe for a moment.
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&second)).expect("a wait");
    assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
});

/// Sends a message with this number of copies of a descriptor.
fn send(channel: &OwnedFd, descriptor: &OwnedFd, number: usize, bytes: &[u8]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd(); MAX_DESCRIPTORS];
    if number > 0 {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors[..number])));
    }
    sendmsg(channel, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).expect("room for a message");
}
