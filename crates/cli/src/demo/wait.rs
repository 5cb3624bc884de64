//! Waiting: for bytes, or for a state that nothing announces. Ctrl-C ends each wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use tine::cli::next_move;
use tine_sys::signal::Set;

use crate::error::Error;

/// Upper bound of the wait for anything that a server does. No wait takes this long unless
/// something is broken.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// Time between two looks at a state in `/proc`, which no event reports.
const CHECK: Duration = Duration::from_millis(10);

/// Why the demo ends before its last step.
#[derive(Debug)]
pub(super) enum Stop {
    /// Ctrl-C, or TERM.
    Interrupted,
    /// The key q, or the end of input.
    Quit,
    /// Something failed, or is not as it should be.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Waits, and notices INT and TERM.
#[derive(Debug)]
pub(super) struct Waiter {
    interrupts: OwnedFd,
}

impl Waiter {
    /// Blocks INT and TERM in this process: from here on each wait notices them.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn new() -> Result<Waiter, Error> {
        let signals = Set::of(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
        let interrupts = signals.block().and_then(|_| signals.descriptor());
        Ok(Waiter { interrupts: interrupts.map_err(|why| cannot_wait(&why))? })
    }

    /// Waits until a descriptor can be read, or is at its end. `what` is what should come.
    ///
    /// # Errors
    /// Ctrl-C, or nothing came.
    pub(super) fn readable(&self, fd: impl AsFd, what: &str) -> Result<(), Stop> {
        match self.readable_until(Some(fd.as_fd()), Some(Instant::now() + TIMEOUT))? {
            true => Ok(()),
            false => Err(missing(what)),
        }
    }

    /// Waits until a descriptor can be read, or until a time: then it returns false.
    ///
    /// # Errors
    /// Ctrl-C.
    pub(super) fn readable_until(
        &self,
        fd: Option<BorrowedFd<'_>>,
        end: Option<Instant>,
    ) -> Result<bool, Stop> {
        loop {
            let mut fds = vec![PollFd::new(&self.interrupts, PollFlags::IN)];
            fds.extend(fd.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            match tine_sys::wait::until(&mut fds, end) {
                Ok(0) => return Ok(false),
                Ok(_) if !fds[0].revents().is_empty() => return Err(Stop::Interrupted),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(why) => return Err(cannot_wait(&why.into()).into()),
            }
        }
    }

    /// Looks at a state until it yields a value. `what` is what it should be.
    ///
    /// # Errors
    /// Ctrl-C, or the state never is as it should be.
    pub(super) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Stop> {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if Instant::now() >= end {
                return Err(missing(what));
            }
            self.readable_until(None, Some(Instant::now() + CHECK))?;
        }
    }
}

/// What should be there is not.
pub(super) fn missing(what: impl std::fmt::Display) -> Stop {
    let next = "end what else uses or traces the server, and start the demo again";
    Error::unavailable(format_args!("not seen: {what}"), next).into()
}

fn cannot_wait(why: &io::Error) -> Error {
    Error::system("cannot wait for the server and for signals", why, next_move::of_call(why))
}
