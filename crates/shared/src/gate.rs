//! Lets readers in together, and writers alone.

use std::time::Instant;

use crate::error::Error;
use crate::event::{ALL, Event};
use crate::lock::{Held, Lock};
use crate::owner::{Claim, ClaimKind, Owner};
use crate::show::{Figure, LetGo, Shown};
use crate::suspicion::Suspicion;
use crate::sync::{Acquire, AtomicU32, Relaxed, Release, SeqCst, fence};
use crate::turn::Caller;

/// A reader claims to read, and then looks for a writer; a writer takes the lock, and then looks
/// for claims: one of the two sees the other.
#[derive(Clone, Copy)]
pub(crate) struct Gate {
    /// Of writers.
    lock: Lock,
    /// A writer has left: for readers.
    opened: Event,
    /// A reader has left: for the writer.
    left: Event,
    /// Readers of this process while it is no member. Each process has another one.
    of_process: &'static AtomicU32,
}

impl Gate {
    /// # Errors
    /// ENOMEM, EMFILE.
    pub(crate) fn make(name: &str) -> Result<Gate, Error> {
        Ok(Gate {
            lock: Lock::make(name)?,
            opened: Event::make(name)?,
            left: Event::make(name)?,
            of_process: Box::leak(Box::new(AtomicU32::new(0))),
        })
    }

    /// Whether a writer is in, or waits.
    pub(crate) fn is_shut(self) -> bool {
        self.lock.is_held()
    }

    /// The copy that counts, unless a writer keeps readers out.
    fn open_side(self, caller: Caller, suspicion: &mut Suspicion) -> Option<usize> {
        let (word, standing, side) = self.lock.look(caller.members);
        suspicion.is_free(0, word, standing).then_some(side)
    }

    /// Begins to read, once no writer keeps readers out. Returns the copy that counts.
    pub(crate) fn enter(self, caller: Caller, deadline: Option<Instant>) -> Option<(Claim, usize)> {
        let mut suspicion = Suspicion::default();
        let mut enter = || self.try_enter(caller, &mut suspicion);
        enter().or_else(|| self.opened.wait(deadline, enter))
    }

    /// Begins to read, unless a writer keeps readers out. Returns the copy that counts.
    fn try_enter(self, caller: Caller, suspicion: &mut Suspicion) -> Option<(Claim, usize)> {
        self.open_side(caller, suspicion)?;
        let claim = caller.members.claim(caller.own, self.lock.object(), ClaimKind::Read);
        if caller.own == Owner::ANONYMOUS {
            self.of_process.fetch_add(1, Relaxed);
        }
        fence(SeqCst);
        match self.open_side(caller, suspicion) {
            Some(side) => Some((claim, side)),
            None => {
                self.leave(caller, claim);
                None
            }
        }
    }

    /// Ends to read.
    pub(crate) fn leave(self, caller: Caller, claim: Claim) {
        // A writer that sees no reader comes after what was read.
        fence(Release);
        if caller.own == Owner::ANONYMOUS {
            self.of_process.fetch_sub(1, Relaxed);
        }
        caller.members.unclaim(claim);
        self.left.notify(ALL);
    }

    /// Keeps readers out, and waits until none is in.
    pub(crate) fn shut(self, caller: Caller, deadline: Option<Instant>) -> Option<Held> {
        let held = self.lock.acquire(caller.own, caller.members, deadline).ok()?;
        fence(SeqCst);
        let is_of_process = || caller.own == Owner::ANONYMOUS && self.of_process.load(Relaxed) > 0;
        let is_empty = || !is_of_process() && !caller.members.is_read(self.lock.object());
        let empty = || is_empty().then_some(());
        if empty().or_else(|| self.left.wait(deadline, empty)).is_none() {
            self.open(caller, held, false);
            return None;
        }
        fence(Acquire);
        Some(held)
    }

    /// Lets readers in again, and the next writer.
    pub(crate) fn open(self, caller: Caller, held: Held, other_side: bool) {
        self.lock.release(held, caller.members, other_side);
        self.opened.notify(ALL);
    }
}

impl Shown for Gate {
    fn kind(&self) -> &'static str {
        "rwlock"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![Figure::gauge("held", f64::from(u8::from(self.lock.is_held())))]
    }

    fn let_go(&self, dead: LetGo) {
        self.lock.let_go(dead.owner);
        self.left.wake_again(ALL);
        // If another writer is in, it sees the mark when it leaves.
        self.opened.mark();
        if !self.lock.is_held() {
            self.opened.wake_again(ALL);
        }
    }

    fn number(&self) -> Option<u32> {
        Some(self.lock.object())
    }
}
