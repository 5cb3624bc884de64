//! Where a forker takes clients from: the listeners, and the delayer.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tine_sys::process::exit_now;
use tine_sys::wait;

use super::Forker;
use super::fork::{fail, start};
use super::run::{Client, Memory};
use crate::connection::Connection;
use crate::error::{HandlerError, reason};
use crate::net::accept::{AcceptError, classify};
use crate::net::listener::Listener;
use crate::net::peer::Peer;
use crate::processes::delayer;
use crate::processes::rejector::Reason;
use crate::shared::board::{Orders, Phase};

/// What became of an attempt to take a client.
pub(super) enum AcceptResult {
    /// It has a process, or was refused, or had gone.
    Handled,
    /// Nobody is waiting at this listener.
    NoClient,
    /// Not now: the next step decides.
    Stop,
}

/// A client, and if it comes from the delayer, until when it would have waited.
type Accepted = (OwnedFd, Peer, Option<u64>);

/// Takes one client from a listener, if there is room for it.
pub(super) fn take<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, number: usize) -> AcceptResult
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let slot = forker.board.claim(forker.index);
    if slot.is_none() && !want_slot(forker, memory) {
        return AcceptResult::Stop;
    }
    let taken = match forker.delayer.filter(|_| number == forker.listeners.len()) {
        Some(delayer) => take_back(memory, delayer),
        None if may_accept(forker, memory) => accept(forker, memory, number),
        None => Err(AcceptResult::Stop),
    };
    match (taken, slot) {
        (Ok((socket, peer, waited_until)), Some(slot)) => {
            start(forker, memory, Client { socket, peer, slot, waited_until })
        }
        (Ok((socket, peer, _)), None) => {
            forker.reject(&socket, peer, Reason::Full);
            AcceptResult::Handled
        }
        (Err(taken), slot) => {
            if let Some(slot) = slot {
                forker.board.release(slot);
            }
            taken
        }
    }
}

/// Says that room is wanted. Then looks once more: what was given back before the supervisor could
/// see the wish would otherwise be missed. True if clients without room are to be refused.
pub(super) fn want_slot<H>(forker: &Forker<'_, H>, memory: &mut Memory) -> bool {
    if forker.settings.rejects_when_full() && !forker.settings.has_spares() {
        return true;
    }
    forker.board.set_wants_slot(forker.index, true);
    forker.wake_supervisor();
    memory.full = match forker.board.claim(forker.index) {
        Some(slot) => {
            forker.board.release(slot);
            false
        }
        None => true,
    };
    memory.full && forker.settings.rejects_when_full() && !has_idle_spare(forker)
}

pub(super) fn has_idle_spare<H>(forker: &Forker<'_, H>) -> bool {
    forker.board.count(Phase::Waiting, None) > 0
}

/// A draining server takes as many as were waiting when the drain began.
fn may_accept<H>(forker: &Forker<'_, H>, memory: &mut Memory) -> bool {
    if forker.board.orders() == Orders::Drain && !forker.board.take_drain_quota() {
        // Of the listeners, no more; of the delayer, until it has nobody left.
        memory.ready &= u64::MAX.checked_shl(forker.listeners.len() as u32).unwrap_or(0);
        memory.queue_done = !memory.returns;
        return false;
    }
    true
}

/// Takes a client that the delayer lets go.
fn take_back(memory: &mut Memory, delayer: &delayer::Ends) -> Result<Accepted, AcceptResult> {
    match delayer::receive(&delayer.back) {
        Ok(Some((socket, peer, _, until))) => Ok((socket, peer, Some(until))),
        Ok(None) => {
            memory.returns = false;
            Err(AcceptResult::NoClient)
        }
        Err(Errno::AGAIN) => Err(AcceptResult::NoClient),
        // No descriptor for it: it is closed.
        Err(_) => Err(AcceptResult::Handled),
    }
}

fn accept<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    number: usize,
) -> Result<Accepted, AcceptResult> {
    let listener = &forker.listeners[number];
    if listener.blocks && !is_ready(listener) {
        return Err(AcceptResult::NoClient);
    }
    match acceptfrom_with(listener, SocketFlags::CLOEXEC) {
        Ok((socket, address)) => {
            let peer = Peer::from_accept(address);
            if forker.admits(&socket, peer) { Ok((socket, peer, None)) } else { Err(AcceptResult::Handled) }
        }
        Err(errno) => Err(match classify(errno) {
            AcceptError::NoClient => AcceptResult::NoClient,
            AcceptError::Next => AcceptResult::Handled,
            AcceptError::Pause => {
                fail(forker, memory, "cannot accept a connection", errno);
                AcceptResult::Stop
            }
            AcceptError::Fatal => {
                forker.log.trouble("a listener has gone", &reason(&errno.into()), "restart the server");
                exit_now(111);
            }
        }),
    }
}

fn is_ready(listener: &Listener) -> bool {
    let mut ask = [PollFd::new(listener, PollFlags::IN)];
    matches!(wait::now(&mut ask), Ok(1))
}
