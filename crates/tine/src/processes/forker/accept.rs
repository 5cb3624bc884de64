//! A forker's way to the next client: a slot, a client from a listener, the delayer or the proxy
//! reader, admission.

use std::time::Instant;

use rustix::io::Errno;
use tine_sys::process::exit_now;

use super::failure::fail;
use super::memory::{ClientSource, Memory, NoClient};
use super::trusted::{Forker, Trusted};
use crate::admission::Verdict;
use crate::admission::proxy::Screening;
use crate::admission::reason::Reason;
use crate::error::reason;
use crate::ipc::board::SlotPhase;
use crate::ipc::board::blocks::CandidateSlot;
use crate::ipc::board::places::PlaceHolder;
use crate::lifecycle::timing::PLACE_WAIT;
use crate::net::accept::{AcceptError, Accepted, accept_from, classify};

/// Takes one client from a source and has it admitted. `Ok` has a client to be served, with its
/// slot.
///
/// Where clients without a slot are rejected, the slot is claimed after the client is accepted: a
/// slot claimed before could be the last one, and another forker would reject a client while this
/// one finds that it has none. Otherwise it is claimed before: a client without a slot stays in the
/// backlog.
pub(super) fn next_client<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    source: ClientSource,
) -> Result<(Accepted, usize), NoClient> {
    let index = forker.trusted.index;
    let slot = match forker.trusted.rejects_without_spares() {
        true => None,
        false => forker.trusted.door.board.claim(index),
    };
    if slot.is_none() && !request_slot(&forker.trusted, memory) {
        return Err(NoClient::Stop);
    }
    if !forker.trusted.door.board.take_place(PlaceHolder::Forker(index)) {
        slot.into_iter().for_each(|slot| forker.trusted.door.board.release(slot));
        return Err(without_place(forker, memory, source));
    }
    let accepted = match source {
        ClientSource::Delayer => receive_released(&forker.trusted, memory),
        ClientSource::ProxyReader => receive_identified(&forker.trusted, memory),
        ClientSource::Listener(number) if forker.trusted.door.proxy_reader.is_some() => {
            return accept_and_screen(forker, memory, number, slot);
        }
        ClientSource::Listener(number) => accept_any(forker, memory, number),
    };
    admit(forker, slot, accepted)
}

/// Has a client admitted, if there is one. The slot that was claimed for it is released otherwise,
/// and the place returned. A client without a slot is served if one has become free, and rejected
/// if not.
#[inline(always)]
fn admit<H>(
    forker: &mut Forker<'_, H>,
    slot: Option<usize>,
    accepted: Result<Accepted, NoClient>,
) -> Result<(Accepted, usize), NoClient> {
    let door = &forker.trusted.door;
    let holder = PlaceHolder::Forker(forker.trusted.index);
    let client = accepted.inspect_err(|_| {
        slot.into_iter().for_each(|slot| door.board.release(slot));
        door.board.return_place(holder);
    })?;
    let slot = slot.or_else(|| door.board.claim(forker.trusted.index));
    let counts = slot.map(|slot| CandidateSlot { board: &door.board, slot });
    match (door.admission.decide(door.candidate(&client), counts.as_ref()), slot) {
        (verdict @ (Verdict::Admit | Verdict::Report(_)), Some(slot)) => {
            if let Verdict::Report(reason) = verdict {
                door.report(&client, reason, &mut forker.context.log);
            }
            door.board.use_place(holder);
            Ok((client, slot))
        }
        (verdict, slot) => {
            slot.into_iter().for_each(|slot| door.board.release(slot));
            door.board.return_place(holder);
            door.pass_on(&client, verdict, &mut forker.context.log);
            Err(NoClient::Handled)
        }
    }
}

/// Accepts a client where proxies speak for some, and passes it to the proxy reader, rejects it or
/// has it admitted.
#[cold]
fn accept_and_screen<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    number: usize,
    slot: Option<usize>,
) -> Result<(Accepted, usize), NoClient> {
    forker.trusted.door.board.begin_passing();
    let accepted = accept_any(forker, memory, number);
    let Forker { trusted, context } = &mut *forker;
    let door = &trusted.door;
    let screened = match accepted {
        Ok(client) if door.screen(client.peer) != Screening::Direct => {
            // Not needed until the client is known. Another forker may wait for it.
            if let Some(slot) = slot {
                door.board.release(slot);
                trusted.offer_slot();
            }
            door.board.return_place(PlaceHolder::Forker(trusted.index));
            door.pass_before_admission(&client, &mut context.log, || trusted.wake_supervisor());
            Err(NoClient::Handled)
        }
        accepted => Ok(accepted),
    };
    door.board.end_passing();
    admit(forker, slot, screened?)
}

/// Handles a source for whose client no place is left. Another process may still return its place,
/// which it holds for microseconds; when all are used, the supervisor begins to drain. Then the
/// delayer and the proxy reader pass back what they have, which is rejected.
#[cold]
fn without_place<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, source: ClientSource) -> NoClient {
    let Forker { trusted, context } = forker;
    let board = &trusted.door.board;
    if !board.are_places_used() || !board.is_draining() {
        memory.paused_until = Some(Instant::now() + PLACE_WAIT);
        return NoClient::Stop;
    }
    let received = match source {
        ClientSource::Delayer => receive_released(trusted, memory),
        ClientSource::ProxyReader => receive_identified(trusted, memory),
        ClientSource::Listener(_) => {
            // The rest of the backlog cannot be served.
            board.set_drain_quota(0);
            trusted.wake_supervisor();
            return NoClient::Stop;
        }
    };
    received.map_or_else(
        |none| none,
        |client| {
            trusted.door.pass_on(&client, Verdict::Reject(Reason::Full), &mut context.log);
            NoClient::Handled
        },
    )
}

/// Requests a wakeup for the next free slot, then looks once more: a slot that was released before
/// the supervisor could see the request would otherwise be missed. True if clients without a slot
/// are to be rejected.
pub(super) fn request_slot(trusted: &Trusted, memory: &mut Memory) -> bool {
    if trusted.rejects_without_spares() {
        return true;
    }
    let rejects = trusted.door.admission.limits().rejects_when_full();
    let board = &trusted.door.board;
    board.set_wants_slot(trusted.index, true);
    trusted.wake_supervisor();
    memory.full = match board.claim(trusted.index) {
        Some(slot) => {
            board.release(slot);
            false
        }
        None => {
            if !memory.full {
                board.count_slot_wait();
            }
            true
        }
    };
    memory.full && rejects && !has_idle_spare(trusted)
}

/// Whether a spare, of any forker, waits for a client.
pub(super) fn has_idle_spare(trusted: &Trusted) -> bool {
    trusted.door.board.count(SlotPhase::Idle, None) > 0
}

/// Accepts a client; in a drain, one of the drain quota.
#[inline]
fn accept_any<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    number: usize,
) -> Result<Accepted, NoClient> {
    match forker.trusted.door.board.is_draining() {
        true => accept_in_drain(forker, memory, number),
        false => accept(forker, memory, number),
    }
}

/// Accepts a client of the drain quota: a draining server accepts as many clients as the backlog
/// had when the drain began. A listener without a client uses none of it: others may have some.
fn accept_in_drain<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    number: usize,
) -> Result<Accepted, NoClient> {
    if !forker.trusted.door.board.take_drain_quota() {
        memory.ready.listeners = 0;
        memory.backlog_done = !memory.expects_returned();
        return Err(NoClient::Stop);
    }
    let accepted = accept(forker, memory, number);
    let board = &forker.trusted.door.board;
    if matches!(accepted, Err(NoClient::Empty | NoClient::Stop)) {
        board.return_drain_quota();
    } else if board.drain_quota() == 0 {
        // The supervisor closes its listeners, and wakes the other forkers to close theirs.
        forker.trusted.wake_supervisor();
    }
    accepted
}

fn receive_released(trusted: &Trusted, memory: &mut Memory) -> Result<Accepted, NoClient> {
    match trusted.door.receive_released() {
        Ok(Some(client)) => Ok(client),
        Ok(None) => {
            memory.expects_released = false;
            Err(NoClient::Empty)
        }
        Err(Errno::AGAIN) => Err(NoClient::Empty),
        // No descriptor for the client: the kernel has closed it.
        Err(_) => Err(NoClient::Handled),
    }
}

fn receive_identified(trusted: &Trusted, memory: &mut Memory) -> Result<Accepted, NoClient> {
    match trusted.door.receive_identified() {
        Ok(Some(client)) => Ok(client),
        Ok(None) => {
            memory.expects_identified = false;
            Err(NoClient::Empty)
        }
        Err(Errno::AGAIN) => Err(NoClient::Empty),
        // No descriptor for the client: the kernel has closed it.
        Err(_) => Err(NoClient::Handled),
    }
}

fn accept<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, number: usize) -> Result<Accepted, NoClient> {
    let errno = match accept_from(&forker.trusted.listeners[number]) {
        Ok(client) => return Ok(client),
        Err(errno) => errno,
    };
    Err(match classify(errno) {
        AcceptError::NoClient => NoClient::Empty,
        AcceptError::Next => NoClient::Handled,
        AcceptError::Pause => {
            fail(forker, memory, "cannot accept a connection", errno);
            NoClient::Stop
        }
        AcceptError::Fatal => {
            let why = reason(&errno.into());
            forker.context.log.error("listening socket is no longer valid", &why, "restart the server");
            exit_now(111);
        }
    })
}
