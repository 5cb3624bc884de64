//! The process that calls, and a lock that is let go also after a panic.

use std::time::Instant;

use crate::lock::{Held, Lock, NotFree};
use crate::owner::{self, Claim, ClaimKind, Members, Owner};

/// The process that calls: as a holder of locks, and the members that it is one of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) own: Owner,
    pub(crate) members: Members,
}

impl Caller {
    /// This process.
    ///
    /// # Panics
    /// In a forker, which must not wait.
    #[inline]
    pub(crate) fn here() -> Caller {
        Caller { own: owner::waiter(), members: owner::members() }
    }

    /// Claims an object, for as long as the value lives.
    ///
    /// # Panics
    /// The process holds as many as it can.
    pub(crate) fn claims(self, object: u32) -> Claimed {
        Claimed { caller: self, claim: self.members.claim(self.own, object, ClaimKind::Hold) }
    }
}

/// An object that this process claims.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claimed {
    caller: Caller,
    claim: Claim,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.caller.members.unclaim(self.claim);
    }
}

/// A lock that is let go at the end, also after a panic.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn {
    lock: Lock,
    caller: Caller,
    held: Held,
}

impl Turn {
    /// Waits for the lock, for as long as it takes.
    ///
    /// # Panics
    /// The process holds as many locks as it can.
    #[inline]
    pub(crate) fn take(lock: Lock, caller: Caller) -> Turn {
        match Turn::take_until(lock, caller, None) {
            Ok(turn) => turn,
            Err(NotFree) => unreachable!("it waits for as long as it takes"),
        }
    }

    /// Waits for the lock, until `deadline` at most.
    ///
    /// # Errors
    /// It was not free in time.
    ///
    /// # Panics
    /// As [`Turn::take`].
    #[inline]
    pub(crate) fn take_until(lock: Lock, caller: Caller, deadline: Option<Instant>) -> Result<Turn, NotFree> {
        let held = lock.acquire(caller.own, caller.members, deadline)?;
        Ok(Turn { lock, caller, held })
    }
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        self.lock.release(self.held, self.caller.members, false);
    }
}
