//! An [`Event`] that a [`Select`](crate::Select) can wait for, too: it has an eventfd(2).
//!
//! The eventfd is written after each change, once any process has selected it, and never read: each
//! process has it in an epoll instance of its own, edge-triggered, so every write reaches all of
//! them. A full counter is read, and written again.
//!
//! The supervisor never writes it, since another process can make the write wait (`F_SETFL`): who
//! selects looks again after a second.

use crate::error::Error;
use crate::event::Event;

/// An event, and its eventfd.
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

    /// The eventfd. From now on each change is written to it.
    #[cfg(not(loom))]
    pub(crate) fn select(self) -> std::os::fd::BorrowedFd<'static> {
        self.signal.select()
    }
}

#[cfg(not(loom))]
mod signal {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{Errno, read, write};

    use crate::error::Error;
    use crate::memory;
    use crate::sync::{AtomicU32, Relaxed, SeqCst, fence};

    #[derive(Clone, Copy, Debug)]
    pub(super) struct Signal {
        eventfd: &'static OwnedFd,
        /// Not zero: a process has selected it.
        is_selected: &'static AtomicU32,
    }

    impl Signal {
        pub(super) fn make(name: &str) -> Result<Signal, Error> {
            let is_selected = &memory::futexes(name, 1)?[0];
            let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|why| {
                Error::system(format_args!("cannot make shared state {name:?}"), why.into())
            })?;
            Ok(Signal { eventfd: Box::leak(Box::new(eventfd)), is_selected })
        }

        /// Runs after a change and a fence (`SeqCst`).
        #[inline]
        pub(super) fn raise(self) {
            if self.is_selected.load(Relaxed) == 0 {
                return;
            }
            let one = 1u64.to_ne_bytes();
            if write(self.eventfd, &one) == Err(Errno::AGAIN) {
                // Full: another process has written beside the library.
                let _ = read(self.eventfd, &mut [0; 8]);
                let _ = write(self.eventfd, &one);
            }
        }

        pub(super) fn select(self) -> BorrowedFd<'static> {
            self.is_selected.store(1, Relaxed);
            // Either this process sees a change afterwards, or who makes it sees the word above.
            fence(SeqCst);
            self.eventfd.as_fd()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::io::{read, write};

    use super::*;

    fn count(bell: Bell) -> Option<u64> {
        let mut bytes = [0; 8];
        read(bell.select(), &mut bytes).ok().map(|_| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn a_bell_is_written_once_it_is_selected_even_if_it_is_full() {
        let bell = Bell::make("bell").expect("memory");
        bell.ring(1);
        assert_eq!(count(bell), None);
        bell.ring(1);
        bell.ring(1);
        assert_eq!(count(bell), Some(2));
        write(bell.select(), &(u64::MAX - 1).to_ne_bytes()).expect("room up to the maximum");
        bell.ring(1);
        assert_eq!(count(bell), Some(1));
    }
}
