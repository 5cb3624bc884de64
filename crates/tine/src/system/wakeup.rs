//! A wakeup of another process: an eventfd(2), readable until it is cleared.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

/// One end of a wakeup; forked processes share it.
#[derive(Debug)]
pub(crate) struct Wakeup(OwnedFd);

impl Wakeup {
    /// Makes a wakeup that is not pending; `place` moves its descriptor to where the server's are.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM, and those of `place`.
    pub(crate) fn new<E: From<Errno>>(place: &impl Fn(OwnedFd) -> Result<OwnedFd, E>) -> Result<Wakeup, E> {
        place(Wakeup::descriptor()?).map(Wakeup)
    }

    /// A descriptor for a wakeup that is never cleared.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn descriptor() -> Result<OwnedFd, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
    }

    /// Moves the descriptor to this number or a higher one.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn move_above(&mut self, lowest: i32) -> Result<(), Errno> {
        self.0 = fcntl_dupfd_cloexec(&self.0, lowest)?;
        Ok(())
    }

    /// Wakes the process that waits for it.
    pub(crate) fn wake(&self) {
        // A full counter means that a wakeup is pending.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Clears a pending wakeup.
    pub(crate) fn clear(&self) {
        // Not pending: another process has cleared it.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
