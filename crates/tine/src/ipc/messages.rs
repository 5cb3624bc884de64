//! The messages between processes: each passes one descriptor, and says what it is about. One type
//! for each message, one channel for each receiver.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::fd_passing::{self, MAX_WORDS, WhenBehind};
use crate::admission::reason::Reason;
use crate::net::operator::{Operator, Rank};
use crate::net::peer::Peer;
use crate::net::proxied::{PROXIED_WORDS, Proxied};

/// What the rejector does about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It sends the text and the end of the stream, and logs.
    Reject,
    /// It logs that the client would be rejected.
    ReportReject,
    /// It logs that the client would be delayed.
    ReportDelay,
}

/// To the rejector, with the client's socket: a client is rejected. With any descriptor: a client
/// is served that would be rejected or delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) peer: Peer,
    pub(crate) reason: Reason,
    pub(crate) treatment: Treatment,
    pub(crate) proxied: Option<Proxied>,
}

/// To the delayer and back from it, with the client's socket: a client is queued, or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delayed {
    pub(crate) peer: Peer,
    pub(crate) reason: Reason,
    /// When the client was accepted: monotonic clock, nanoseconds.
    pub(crate) since: u64,
    /// Until when it may wait, on the same clock.
    pub(crate) deadline: u64,
    pub(crate) proxied: Option<Proxied>,
}

/// To the proxy reader, with the socket: a proxy has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyArrival {
    pub(crate) proxy: Peer,
}

/// Back from the proxy reader, with the socket: the client that the proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identified {
    pub(crate) peer: Peer,
    pub(crate) proxied: Option<Proxied>,
}

/// To the stderr logger, with the reading end of a program's standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StderrPipe {
    /// The id of the connection.
    pub(crate) connection: u64,
}

/// To the stderr logger, which writes the crash reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashMessage {
    /// From the supervisor, with a file of facts: a connection has crashed.
    Crash { connection: u64, pid: i32 },
    /// From a control process, with a socket: a file with all reports is sent there.
    Query,
}

/// From the stderr logger to a control process, with a file: all reports are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReportsFile;

/// From the master to a supervisor, with the controller's socket, or one that the control process
/// of the master forwards to: a controller has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControllerArrival {
    pub(crate) operator: Operator,
}

/// What goes through a channel beside a descriptor.
pub(crate) trait Message: Sized {
    /// The action of a sender whose receiver is behind.
    const WHEN_BEHIND: WhenBehind;
    /// Words of the message.
    const LENGTH: usize;

    fn to_words(&self) -> [u64; MAX_WORDS];
    fn from_words(words: [u64; MAX_WORDS]) -> Self;
}

impl Message for Rejection {
    // A rejected client must not hold up a forker: it is closed instead.
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 5 + PROXIED_WORDS;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        let [a, b, c] = self.peer.to_words();
        words([a, b, c, self.reason.index() as u64, self.treatment as u64], self.proxied)
    }

    fn from_words([a, b, c, reason, treatment, proxied @ ..]: [u64; MAX_WORDS]) -> Rejection {
        let (peer, reason) = (Peer::from_words([a, b, c]), Reason::from_index(reason));
        let treatment = match treatment {
            1 => Treatment::ReportReject,
            2 => Treatment::ReportDelay,
            _ => Treatment::Reject,
        };
        Rejection { peer, reason, treatment, proxied: proxied_in(&proxied) }
    }
}

impl Message for Delayed {
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 6 + PROXIED_WORDS;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        let [a, b, c] = self.peer.to_words();
        words([a, b, c, self.reason.index() as u64, self.since, self.deadline], self.proxied)
    }

    fn from_words([a, b, c, reason, since, deadline, proxied @ ..]: [u64; MAX_WORDS]) -> Delayed {
        let (peer, reason) = (Peer::from_words([a, b, c]), Reason::from_index(reason));
        Delayed { peer, reason, since, deadline, proxied: proxied_in(&proxied) }
    }
}

impl Message for ProxyArrival {
    // The sender waits a moment and tries again: see `Door::pass_to_proxy_reader`.
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 3;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        words(self.proxy.to_words(), None)
    }

    fn from_words([a, b, c, ..]: [u64; MAX_WORDS]) -> ProxyArrival {
        ProxyArrival { proxy: Peer::from_words([a, b, c]) }
    }
}

impl Message for Identified {
    // The sender keeps the client and tries again when the forkers have caught up.
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 3 + PROXIED_WORDS;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        words(self.peer.to_words(), self.proxied)
    }

    fn from_words([a, b, c, proxied @ ..]: [u64; MAX_WORDS]) -> Identified {
        Identified { peer: Peer::from_words([a, b, c]), proxied: proxied_in(&proxied) }
    }
}

impl Message for ControllerArrival {
    // A supervisor that is behind must not hold up the master: the controller is closed instead.
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 3;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        let Operator { uid, pid, rank } = self.operator;
        words([uid.into(), pid as u64, rank.to_word()], None)
    }

    fn from_words([uid, pid, rank, ..]: [u64; MAX_WORDS]) -> ControllerArrival {
        let operator = Operator { uid: uid as u32, pid: pid as i32, rank: Rank::from_word(rank) };
        ControllerArrival { operator }
    }
}

/// Words of a message, and after them what is known of a proxied client.
fn words<const N: usize>(first: [u64; N], proxied: Option<Proxied>) -> [u64; MAX_WORDS] {
    const { assert!(N + PROXIED_WORDS <= MAX_WORDS) };
    let mut words = [0; MAX_WORDS];
    words[..N].copy_from_slice(&first);
    words[N..N + PROXIED_WORDS].copy_from_slice(&Proxied::to_words(proxied.as_ref()));
    words
}

fn proxied_in(words: &[u64]) -> Option<Proxied> {
    words.first_chunk().copied().and_then(Proxied::from_words)
}

impl Message for StderrPipe {
    // A program without a reader would get SIGPIPE.
    const WHEN_BEHIND: WhenBehind = WhenBehind::Block;
    const LENGTH: usize = 1;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        words([self.connection], None)
    }

    fn from_words([connection, ..]: [u64; MAX_WORDS]) -> StderrPipe {
        StderrPipe { connection }
    }
}

impl Message for CrashMessage {
    // The supervisor and control processes do not wait for a disk.
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 3;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        match *self {
            CrashMessage::Crash { connection, pid } => words([1, connection, pid as u64], None),
            CrashMessage::Query => words([2], None),
        }
    }

    fn from_words([kind, connection, pid, ..]: [u64; MAX_WORDS]) -> CrashMessage {
        match kind {
            1 => CrashMessage::Crash { connection, pid: pid as i32 },
            _ => CrashMessage::Query,
        }
    }
}

impl Message for ReportsFile {
    const WHEN_BEHIND: WhenBehind = WhenBehind::Drop;
    const LENGTH: usize = 1;

    fn to_words(&self) -> [u64; MAX_WORDS] {
        [0; MAX_WORDS]
    }

    fn from_words(_: [u64; MAX_WORDS]) -> ReportsFile {
        ReportsFile
    }
}

/// The sending end of a channel.
#[derive(Debug)]
pub(crate) struct Sender<M> {
    socket: OwnedFd,
    message: PhantomData<M>,
}

/// The receiving end of a channel. The channel ends when no process has a sending end any more.
#[derive(Debug)]
pub(crate) struct Receiver<M> {
    socket: OwnedFd,
    message: PhantomData<M>,
}

/// Both ends of a channel, as the supervisor keeps them for the processes that it starts later.
#[derive(Debug)]
pub(crate) struct Channel<M> {
    pub(crate) sender: Sender<M>,
    pub(crate) receiver: Receiver<M>,
}

impl<M> Channel<M> {
    /// Makes a channel; `place` moves each descriptor to where the server's descriptors are.
    ///
    /// # Errors
    /// EMFILE, ENOMEM, and those of `place`.
    pub(crate) fn new<E: From<Errno>>(
        place: &impl Fn(OwnedFd) -> Result<OwnedFd, E>,
    ) -> Result<Channel<M>, E> {
        let flags = SocketFlags::CLOEXEC;
        let (sender, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Channel {
            sender: Sender { socket: place(sender)?, message: PhantomData },
            receiver: Receiver { socket: place(receiver)?, message: PhantomData },
        })
    }
}

impl<M> Sender<M> {
    /// The end of a channel that was passed by a message.
    pub(crate) fn of(socket: OwnedFd) -> Sender<M> {
        Sender { socket, message: PhantomData }
    }
}

impl<M: Message> Sender<M> {
    /// Sends a message with a descriptor. False if the receiver has ended, or is behind and the
    /// message is dropped.
    pub(crate) fn send(&self, descriptor: BorrowedFd, message: &M) -> bool {
        let words = message.to_words();
        fd_passing::send(&self.socket, descriptor, &words[..M::LENGTH], M::WHEN_BEHIND)
    }
}

impl Sender<StderrPipe> {
    /// Makes a pipe, and passes the reading end to the stderr logger. Returns the writing end.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    pub(crate) fn open_pipe(&self, connection: u64) -> std::io::Result<OwnedFd> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.send(reader.as_fd(), &StderrPipe { connection });
        Ok(writer)
    }
}

impl<M> Receiver<M> {
    /// Moves the descriptor by `place`.
    pub(crate) fn place<E: From<std::io::Error>>(
        &mut self,
        place: &impl Fn(OwnedFd) -> Result<OwnedFd, E>,
    ) -> Result<(), E> {
        self.socket = place(self.socket.try_clone()?)?;
        Ok(())
    }
}

impl<M: Message> Receiver<M> {
    /// Receives a message, without blocking; `None` at the end of the channel.
    ///
    /// # Errors
    /// EAGAIN if there is none; EMFILE if the descriptor was lost, because this process has too
    /// many.
    pub(crate) fn receive(&self) -> Result<Option<(OwnedFd, M)>, Errno> {
        let received = fd_passing::receive(&self.socket)?;
        Ok(received.map(|(descriptor, words)| (descriptor, M::from_words(words))))
    }
}

impl<M> AsFd for Sender<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<M> AsFd for Receiver<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel<M>() -> Channel<M> {
        Channel::new(&Ok::<OwnedFd, Errno>).expect("a channel")
    }

    #[test]
    fn a_message_arrives_with_its_descriptor_and_the_end_follows() {
        let Channel { sender, receiver } = channel::<StderrPipe>();
        assert_eq!(receiver.receive().expect_err("no message yet"), Errno::AGAIN);
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        assert!(sender.send(writer.as_fd(), &StderrPipe { connection: u64::MAX }));
        drop(writer);
        let (received, message) = receiver.receive().expect("a message").expect("not the end");
        assert_eq!(message, StderrPipe { connection: u64::MAX });
        rustix::io::write(&received, b"x").expect("a pipe");
        assert_eq!(rustix::io::read(&reader, &mut [0; 2]), Ok(1));
        drop(sender);
        assert!(receiver.receive().expect("the end").is_none());
    }

    #[test]
    fn messages_survive_the_words() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:443", "[fe80::1%3]:9"] {
            let peer = Peer::Tcp(text.parse().expect(text));
            let local = "[2001:db8::2]:25".parse().ok();
            for proxied in [None, Some(Proxied { proxy: peer, local, header: 28 })] {
                for treatment in [Treatment::Reject, Treatment::ReportReject, Treatment::ReportDelay] {
                    let rejection = Rejection { peer, reason: Reason::Penalty, treatment, proxied };
                    assert_eq!(Rejection::from_words(rejection.to_words()), rejection);
                }
                let (since, deadline) = (u64::MAX - 2, u64::MAX - 1);
                let delayed = Delayed { peer, reason: Reason::Prefix, since, deadline, proxied };
                assert_eq!(Delayed::from_words(delayed.to_words()), delayed);
                let identified = Identified { peer, proxied };
                assert_eq!(Identified::from_words(identified.to_words()), identified);
            }
            for rank in [Rank::Steward, Rank::Owner] {
                let operator = Operator { uid: 4_294_967_294, pid: 7, rank };
                let arrival = ControllerArrival { operator };
                assert_eq!(ControllerArrival::from_words(arrival.to_words()), arrival);
            }
            for message in [CrashMessage::Crash { connection: u64::MAX, pid: -1 }, CrashMessage::Query] {
                assert_eq!(CrashMessage::from_words(message.to_words()), message);
            }
            let arrival = ProxyArrival { proxy: peer };
            assert_eq!(ProxyArrival::from_words(arrival.to_words()), arrival);
        }
    }

    #[test]
    fn a_sender_whose_receiver_has_ended_notices() {
        let Channel { sender, receiver } = channel::<Rejection>();
        drop(receiver);
        let (peer, reason, treatment) = (Peer::Unix(None), Reason::Full, Treatment::Reject);
        let message = Rejection { peer, reason, treatment, proxied: None };
        assert!(!sender.send(rustix::stdio::stdin(), &message));
    }
}
