//! The channel between an agent and its runner, the process that forks load workers: a pair of
//! sockets that keep the bounds of packets (unix(7), `SOCK_SEQPACKET`). A message is one packet or
//! several; the first byte of each says whether more follow.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tine_load::run::live::Numbers;

use crate::messages::{Assignment, write};

/// Longest packet, in bytes, the first one included.
const PACKET: usize = 60 * 1024;
/// Longest message.
const LONGEST: usize = 64 << 20;

const LAST: u8 = 0;
const MORE: u8 = 1;

/// A message of the agent to its runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Order {
    /// Prepare this part of a load.
    Prepare(Box<Assignment>),
    /// Start it, at a time of the monotonic clock in nanoseconds.
    Begin {
        /// The time.
        at_ns: u64,
    },
}

/// A message of the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Said {
    /// The load is prepared.
    Ready,
    /// It cannot be run.
    Cannot {
        /// Why.
        why: String,
    },
    /// It runs.
    Progress {
        /// Its numbers.
        numbers: Box<Numbers>,
    },
    /// It has ended.
    Result {
        /// The report, as JSON.
        text: String,
    },
}

/// Creates a channel. Neither end is inherited by other programs.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message. Waits while the socket is full.
///
/// # Errors
/// EPIPE if the other end is closed.
pub fn tell(channel: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    tell_with(channel, message, SendFlags::empty())
}

/// Sends a message, and does not wait.
///
/// # Errors
/// EPIPE if the other end is closed; EAGAIN if the socket is full.
pub fn tell_at_once(channel: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    tell_with(channel, message, SendFlags::DONTWAIT)
}

fn tell_with(channel: impl AsFd, message: &impl Serialize, flags: SendFlags) -> io::Result<()> {
    let text = write(message);
    let mut chunks = text.chunks(PACKET - 1).peekable();
    while let Some(chunk) = chunks.next() {
        let first = if chunks.peek().is_some() { MORE } else { LAST };
        send_packet(&channel, first, chunk, flags)?;
    }
    Ok(())
}

/// Sends a message of one packet, unless the socket is full: such a message may be lost.
///
/// # Errors
/// EPIPE if the other end is closed.
pub fn tell_if_there_is_room(channel: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    match send_packet(&channel, LAST, &write(message), SendFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(()),
        sent => Ok(sent?),
    }
}

fn send_packet(channel: impl AsFd, first: u8, chunk: &[u8], flags: SendFlags) -> Result<(), Errno> {
    let packet = [&[first], chunk].concat();
    loop {
        match send(&channel, &packet, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// The messages that come over a channel.
#[derive(Debug, Default)]
pub struct Incoming(Vec<u8>);

impl Incoming {
    /// Receives packets up to the end of a message. `None` at the end of the channel.
    ///
    /// # Errors
    /// EAGAIN if the channel does not block, and no message is complete; EBADMSG if what comes is
    /// no message.
    pub fn next<T: DeserializeOwned>(&mut self, channel: impl AsFd) -> io::Result<Option<T>> {
        let mut packet = [0; PACKET];
        loop {
            let length = match recv(&channel, &mut packet, RecvFlags::empty()) {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) => 0,
                Err(why) => return Err(why.into()),
            };
            let Some((first, chunk)) = packet[..length].split_first() else { return Ok(None) };
            self.0.extend_from_slice(chunk);
            if self.0.len() > LONGEST {
                return Err(Errno::BADMSG.into());
            }
            if *first == LAST {
                let text = std::mem::take(&mut self.0);
                return serde_json::from_slice(&text).map(Some).map_err(|_| Errno::BADMSG.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::numbers_of;

    #[test]
    fn messages_of_any_length_arrive_whole_and_in_order() {
        let (one, other) = pair().expect("sockets");
        let mut incoming = Incoming::default();
        for length in [0, 1, PACKET, 3 * PACKET] {
            let message = Said::Result { text: "x".repeat(length) };
            let sender = {
                let (one, message) = (one.try_clone().expect("a descriptor"), message.clone());
                std::thread::spawn(move || tell(one, &message))
            };
            assert_eq!(incoming.next(&other).expect("a message"), Some(message));
            sender.join().expect("no panic").expect("sent");
        }
        rustix::io::ioctl_fionbio(&other, true).expect("a socket");
        let nothing = incoming.next::<Said>(&other).expect_err("nothing has come");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(incoming.next::<Said>(&other).expect("the end"), None);
    }

    #[test]
    fn progress_is_left_out_when_the_agent_does_not_read() {
        let (one, other) = pair().expect("sockets");
        let progress = Said::Progress { numbers: Box::new(numbers_of(1)) };
        (0..10_000).for_each(|_| tell_if_there_is_room(&one, &progress).expect("left out, or sent"));
        rustix::io::ioctl_fionbio(&other, true).expect("a socket");
        let mut incoming = Incoming::default();
        let mut number = 0;
        while let Ok(Some(message)) = incoming.next::<Said>(&other) {
            assert_eq!(message, progress);
            number += 1;
        }
        assert!((1..10_000).contains(&number), "{number}");
        drop(other);
        tell_if_there_is_room(&one, &progress).expect_err("nobody is there");
    }
}
