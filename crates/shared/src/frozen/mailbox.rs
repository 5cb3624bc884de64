//! The newest file, for all processes: a message in a socket that nobody reads away.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

/// More messages than a socket holds (`net.unix.max_dgram_qlen`), where nothing reads beside the
/// library.
const MANY: usize = 1000;

/// Both ends of a socket. Every process forked later has them.
#[derive(Debug)]
pub(super) struct Mailbox {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Mailbox {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(super) fn make() -> Result<Mailbox, Errno> {
        let (sender, receiver) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(Mailbox { sender, receiver })
    }

    /// Puts a file with a number behind what is there.
    ///
    /// # Errors
    /// EAGAIN: it is full; EPIPE: a process has shut it down; ETOOMANYREFS.
    pub(super) fn put(&self, number: u64, file: impl AsFd) -> Result<(), Errno> {
        let bytes = number.to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&files));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.sender, &[IoSlice::new(&bytes)], &mut control, flags)?;
        Ok(())
    }

    /// The file that has been there for the longest time, which stays there. `None` if there is
    /// none.
    ///
    /// # Errors
    /// EMFILE: this process can open no more files.
    pub(super) fn first(&self) -> Result<Option<(u64, OwnedFd)>, Errno> {
        let mut bytes = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(&self.receiver, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
        let message = match message {
            Err(Errno::AGAIN) => return Ok(None),
            message => message?,
        };
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        match file {
            Some(file) => Ok(Some((u64::from_le_bytes(bytes), file))),
            // Without room for a descriptor the kernel leaves it out.
            None if message.flags.contains(rustix::net::ReturnFlags::CTRUNC) => Err(Errno::MFILE),
            // No message of the library, or the end after a shutdown.
            None => Ok(None),
        }
    }

    /// The number of the first file.
    fn first_number(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        recv(&self.receiver, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Removes the first file; false if there is none.
    fn remove_first(&self) -> bool {
        let mut bytes = [0; 8];
        recv(&self.receiver, &mut bytes, RecvFlags::DONTWAIT).is_ok()
    }

    /// Removes what is before the file with this number.
    pub(super) fn remove_before(&self, number: u64) {
        for _ in 0..MANY {
            if self.first_number().is_none_or(|first| first == number) || !self.remove_first() {
                return;
            }
        }
    }

    /// Removes everything.
    pub(super) fn clear(&self) {
        let _ = (0..MANY).take_while(|_| self.remove_first()).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_until_a_newer_one_is_there() {
        let mailbox = Mailbox::make().expect("a socket");
        let file = || std::fs::File::open("/dev/null").expect("it can be read");
        let first = || mailbox.first().expect("room").map(|(number, _)| number);
        assert_eq!(first(), None);
        mailbox.put(1, file()).expect("room");
        assert_eq!((first(), first()), (Some(1), Some(1)));
        mailbox.put(2, file()).expect("room");
        mailbox.put(3, file()).expect("room");
        assert_eq!(first(), Some(1));
        mailbox.remove_before(3);
        mailbox.remove_before(3);
        assert_eq!(first(), Some(3));
        mailbox.remove_before(4);
        assert_eq!(first(), None);
        let put = (4..).find_map(|number| mailbox.put(number, file()).err());
        assert_eq!(put, Some(Errno::AGAIN));
        mailbox.clear();
        assert_eq!(first(), None);
        rustix::io::write(&mailbox.sender, b"no file").expect("room");
        assert_eq!(first(), None);
    }
}
