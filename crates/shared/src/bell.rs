//! An [`Event`] that a [`Select`](crate::Select) can wait for, too: it has a pair of sockets.
//!
//! A byte is sent after each change, once any process has selected it. It is not received: each
//! process has the other socket in an epoll instance of its own, edge-triggered, so every byte
//! reaches all of them. When there is no room for another one, a part is received; the rest stays,
//! since epoll tells of nothing that cannot be read any more.
//!
//! Not an eventfd(2): another process could make the write wait (`F_SETFL`), and each send says
//! itself that it does not.

use crate::error::Error;
use crate::event::Event;

/// An event, and its sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bell {
    pub(crate) event: Event,
    #[cfg(not(loom))]
    signal: signal::Signal,
}

impl Bell {
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(crate) fn make(name: &str) -> Result<Bell, Error> {
        Ok(Bell {
            event: Event::make(name)?,
            #[cfg(not(loom))]
            signal: signal::Signal::make(name)?,
        })
    }

    /// Tells of a change that this process has made: wakes up to this many of those that wait, and
    /// all that select.
    #[inline]
    pub(crate) fn ring(self, processes: u32) {
        self.event.notify(processes);
        #[cfg(not(loom))]
        self.signal.raise();
    }

    /// Rings in the place of a process that has died ([`Event::wake_again`]). Runs in the
    /// supervisor.
    pub(crate) fn ring_again(self, processes: u32) {
        self.event.wake_again(processes);
        #[cfg(not(loom))]
        self.signal.raise();
    }

    /// The socket that becomes readable at each change from now on.
    #[cfg(not(loom))]
    pub(crate) fn select(self) -> std::os::fd::BorrowedFd<'static> {
        self.signal.select()
    }
}

#[cfg(not(loom))]
mod signal {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

    use crate::error::Error;
    use crate::memory;
    use crate::sync::{AtomicU32, Relaxed, SeqCst, fence};

    /// Bytes that are received when there is no room: about a third of those that there is room
    /// for.
    const PART: usize = 64;

    #[derive(Clone, Copy, Debug)]
    pub(super) struct Signal {
        sender: &'static OwnedFd,
        receiver: &'static OwnedFd,
        /// Not zero: a process has selected it.
        is_selected: &'static AtomicU32,
    }

    impl Signal {
        pub(super) fn make(name: &str) -> Result<Signal, Error> {
            let is_selected = &memory::futexes(name, 1)?[0];
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            let (sender, receiver) = pair.map_err(|why| {
                Error::system(format_args!("cannot make shared state {name:?}"), why.into())
            })?;
            let [sender, receiver] = [sender, receiver].map(|end| &*Box::leak(Box::new(end)));
            Ok(Signal { sender, receiver, is_selected })
        }

        /// Runs after a change and a fence (`SeqCst`). Never waits.
        #[inline]
        pub(super) fn raise(self) {
            if self.is_selected.load(Relaxed) != 0 {
                self.send();
            }
        }

        #[cold]
        fn send(self) {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            if send(self.sender, &[0], flags) == Err(Errno::AGAIN) {
                let _ = recv(self.receiver, &mut [0; PART][..], RecvFlags::DONTWAIT);
                // No room still: others have sent meanwhile, which is as good.
                let _ = send(self.sender, &[0], flags);
            }
        }

        pub(super) fn select(self) -> BorrowedFd<'static> {
            self.is_selected.store(1, Relaxed);
            // Either this process sees a change afterwards, or who makes it sees the word above.
            fence(SeqCst);
            self.receiver.as_fd()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::event::epoll;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(bell: Bell) -> bool {
        let socket = bell.select();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&now)) == Ok(1)
    }

    #[test]
    fn a_bell_rings_for_each_change_once_it_is_selected_and_is_never_full() {
        let bell = Bell::make("bell").expect("memory");
        bell.ring(1);
        assert!(!is_readable(bell));
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor");
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&queue, bell.select(), epoll::EventData::new_u64(0), flags).expect("memory");
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = Vec::with_capacity(4);
        for ring in 0..5000 {
            bell.ring(1);
            let rung = epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&now));
            assert_eq!(rung, Ok(1), "ring {ring}");
            events.clear();
        }
        let rung = epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&now));
        assert_eq!(rung, Ok(0));
    }
}
