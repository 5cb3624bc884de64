//! Passes clients that are not admitted to the delayer or the rejector.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use crate::admission::penalty::Fault;
use crate::admission::reason::Reason;
use crate::admission::{Admission, Candidate, Verdict};
use crate::log::Log;
use crate::net::accept::Accepted;
use crate::net::peer::Peer;
use crate::shared::board::Board;
use crate::shared::messages::{Delayed, Receiver, Rejection, Sender};
use crate::system::clock::now;
use crate::system::wakeup::Wakeup;

/// The memory that decides about clients, and the channels for those that are not admitted.
/// Forkers, spares and workers have it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) board: Board,
    pub(crate) admission: Admission,
    /// To the rejector, where clients can be rejected.
    pub(crate) rejector: Option<Sender<Rejection>>,
    /// To the delayer and back, where clients can be delayed.
    pub(crate) delayer: Option<DelayerLink>,
}

/// A forker's ends of the channels of the delayer.
#[derive(Debug)]
pub(crate) struct DelayerLink {
    /// Clients to be queued.
    pub(crate) queue: Sender<Delayed>,
    /// Clients that the delayer releases.
    pub(crate) released: Receiver<Delayed>,
    /// Wakes the delayer.
    pub(crate) wakeup: Wakeup,
}

impl Door {
    /// What admission needs to know of a client.
    #[inline]
    pub(crate) fn candidate(&self, client: &Accepted) -> Candidate {
        Candidate {
            peer: client.peer,
            was_delayed: client.deadline.is_some(),
            draining: self.board.is_draining(),
        }
    }

    /// Passes a client that is not admitted to the delayer or the rejector. Its slot has to be free
    /// by then: the client may know at once, and its next connection must not find this one
    /// counted.
    pub(crate) fn pass_on(&self, client: &Accepted, verdict: Verdict, log: &mut Log) {
        match verdict {
            Verdict::Admit => {}
            Verdict::Delay(reason) if self.delay(client, reason) => {}
            Verdict::Delay(reason) | Verdict::Reject(reason) => self.reject(client, reason, log),
        }
    }

    /// Passes a client to the delayer; false if that is behind, or the server drains.
    fn delay(&self, client: &Accepted, reason: Reason) -> bool {
        let Some(delayer) = &self.delayer else { return false };
        let limits = self.admission.limits();
        let deadline = client.deadline.unwrap_or_else(|| limits.delay_deadline(now()));
        // Marked here and not by the delayer: until that runs, later clients could overtake. The
        // delayer clears the marks.
        let marks = limits.delay_blocks(client.peer);
        let marks = marks.map(|block| self.admission.set_queued(&block, true).then_some(block));
        let mut marked = [None; 2];
        marked.iter_mut().zip(marks).for_each(|(entry, mark)| *entry = mark);
        let message = Delayed { peer: client.peer, reason, deadline };
        let is_sent = self.board.pass_unless_draining(|| delayer.queue.send(client.socket.as_fd(), &message));
        if !is_sent {
            marked.iter().flatten().for_each(|block| _ = self.admission.set_queued(block, false));
        }
        is_sent
    }

    /// Passes a client to the rejector, which sends the text and logs.
    fn reject(&self, client: &Accepted, reason: Reason, log: &mut Log) {
        if reason == Reason::Denied {
            self.charge(client.peer, Fault::RefuseConnection, log);
        }
        if let Some(rejector) = &self.rejector {
            rejector.send(client.socket.as_fd(), &Rejection { peer: client.peer, reason });
        }
    }

    /// Charges a client's source for a fault, and logs a penalty that begins.
    pub(crate) fn charge(&self, peer: Peer, fault: Fault, log: &mut Log) {
        if let Some(time) = self.admission.charge(peer, fault) {
            log.penalty(&peer, fault.name(), time);
        }
    }

    /// Wakes the delayer after the end of a connection, if it waits for one.
    pub(crate) fn wake_delayer(&self) {
        if let Some(delayer) = self.delayer.as_ref().filter(|_| self.board.delayer_wants_slot()) {
            delayer.wakeup.wake();
        }
    }

    /// Leaves the memory out of processes forked from now on.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn exclude_from_fork(&self) -> std::io::Result<()> {
        self.board.exclude_from_fork()?;
        self.admission.exclude_from_fork()
    }

    /// Takes the shared memory away from this process. The descriptors of the channels stay open.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    #[inline(always)]
    pub(crate) fn unmap(self) -> std::io::Result<()> {
        let Door { board, admission, rejector, delayer } = self;
        let _channels = ManuallyDrop::new((rejector, delayer));
        board.unmap()?;
        admission.unmap()
    }

    /// Receives a client that the delayer has released.
    pub(crate) fn receive_released(&self) -> Result<Option<Accepted>, rustix::io::Errno> {
        let Some(delayer) = &self.delayer else { return Ok(None) };
        let received = delayer.released.receive()?;
        Ok(received.map(|(socket, message): (OwnedFd, Delayed)| Accepted {
            socket,
            peer: message.peer,
            deadline: Some(message.deadline),
        }))
    }
}
