//! The forker's loop: decides, waits, accepts, forks.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, epoll};
use tine_sys::process::exit_now;
use tine_sys::wait;

use super::Forker;
use super::accept::{AcceptResult, has_idle_spare, take};
use super::enter::enter;
use super::fork::{refill, retry};
use super::state::{Situation, Step, next};
use crate::connection::Connection;
use crate::error::{HandlerError, reason};
use crate::net::peer::Peer;
use crate::processes::delayer;
use crate::shared::board::{Orders, Phase};

/// Clients taken from one listener before the next one has its turn.
const TURN: usize = 16;

/// The number of the event that is a word of the supervisor.
pub(super) const CONTROL: u64 = u64::MAX;

/// What the forker remembers between two steps.
pub(super) struct Memory {
    /// The listeners, and the word of the supervisor.
    events: OwnedFd,
    /// Listeners that may have a client waiting, a bit for each. Not on the heap: what a forker writes
    /// between two forks is copied, a page at a time.
    pub(super) ready: u64,
    /// A client whose process could not be forked, with its slot.
    pub(super) in_hand: Option<Client>,
    pub(super) full: bool,
    /// Clients may still come back from the delayer.
    pub(super) returns: bool,
    pub(super) queue_done: bool,
    draining: bool,
    pub(super) failures: u32,
    pub(super) last_failure: Option<Instant>,
    pub(super) paused_until: Option<Instant>,
}

/// A client that has been taken, and the slot for its process.
pub(super) struct Client {
    pub(super) socket: OwnedFd,
    pub(super) peer: Peer,
    pub(super) slot: usize,
    /// Until when it would have waited at the delayer, if it comes from there.
    pub(super) waited_until: Option<u64>,
}

/// Lives as a forker until told to leave.
pub(crate) fn run<H>(mut forker: Forker<'_, H>) -> !
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let events = match enter(&mut forker) {
        Ok(events) => events,
        Err(why) => {
            forker.log.trouble("a forker cannot start", &reason(&why), "see the lines above");
            exit_now(111);
        }
    };
    let mut memory = Memory {
        events,
        ready: u64::MAX,
        in_hand: None,
        full: false,
        returns: forker.delayer.is_some(),
        queue_done: false,
        draining: false,
        failures: 0,
        last_failure: None,
        paused_until: None,
    };
    // The clock is looked up in the kernel's page once, here, instead of in each spare.
    crate::system::clock::now();
    tine_sys::memory::trim_heap();
    tine_sys::memory::trim_stack();
    // Not before all forkers are there: the processes of one could use up what another needs to start.
    wait_for_control(&forker, &mut memory, None);
    loop {
        notice_drain(&forker, &mut memory);
        match next(&situation(&forker, &memory), Instant::now()) {
            Step::Refill(missing) => refill(&mut forker, &mut memory, missing),
            Step::Accept => accept_round(&mut forker, &mut memory),
            Step::Retry => retry(&mut forker, &mut memory),
            Step::WaitForControl => wait_for_control(&forker, &mut memory, None),
            Step::Pause(until) => wait_for_control(&forker, &mut memory, Some(until)),
            Step::Leave => exit_now(0),
        }
    }
}

/// When a drain begins, every listener is looked at once more: all who wait by then are served.
fn notice_drain<H>(forker: &Forker<'_, H>, memory: &mut Memory) {
    if !memory.draining && forker.board.orders() == Orders::Drain {
        memory.draining = true;
        memory.ready = u64::MAX;
    }
}

fn situation<H>(forker: &Forker<'_, H>, memory: &Memory) -> Situation {
    let spares = forker.settings.has_spares();
    Situation {
        orders: forker.board.orders(),
        spares,
        missing_spares: if spares { missing_spares(forker, memory) } else { 0 },
        client_in_hand: memory.in_hand.is_some(),
        full: memory.full,
        has_idle_spare: spares && memory.full && has_idle_spare(forker),
        rejects: forker.settings.rejects_when_full(),
        queue_done: memory.queue_done,
        paused_until: memory.paused_until,
    }
}

fn missing_spares<H>(forker: &Forker<'_, H>, memory: &Memory) -> usize {
    if memory.full {
        return 0;
    }
    let waiting = forker.board.count(Phase::Waiting, Some(forker.index));
    forker.settings.spares_of(forker.index).saturating_sub(waiting)
}

/// Takes clients from the listeners that may have some; waits for one where none has.
fn accept_round<H>(forker: &mut Forker<'_, H>, memory: &mut Memory)
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let places = forker.listeners.len() + usize::from(memory.returns);
    if (0..places).all(|number| memory.ready & 1 << number == 0) {
        match (forker.board.orders(), forker.delayer.filter(|_| memory.returns)) {
            (Orders::Serve, _) => wait_for_clients(memory, &forker.control),
            (Orders::Drain, None) => memory.queue_done = true,
            (Orders::Drain, Some(delayer)) => wait_for_returns(memory, &forker.control, delayer, places - 1),
        }
        return;
    }
    for number in 0..places {
        for _ in 0..TURN {
            if memory.ready & 1 << number == 0 {
                break;
            }
            match take(forker, memory, number) {
                AcceptResult::Handled => {}
                AcceptResult::NoClient => memory.ready &= !(1 << number),
                AcceptResult::Stop => return,
            }
        }
    }
}

fn wait_for_clients(memory: &mut Memory, control: &OwnedFd) {
    let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 16];
    // Interrupted: nothing has come, the loop looks again.
    let Ok((events, _)) = epoll::wait(&memory.events, &mut buffer, None) else {
        return;
    };
    for event in events {
        match event.data.u64() {
            CONTROL => on_control(control, memory),
            number => memory.ready |= 1 << number,
        }
    }
}

/// Waits for clients that the delayer lets go, and for nobody else: the server drains.
fn wait_for_returns(memory: &mut Memory, control: &OwnedFd, delayer: &delayer::Ends, number: usize) {
    let mut ask = [PollFd::new(&delayer.back, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
    // Interrupted: it is looked in any case.
    let _ = wait::until(&mut ask, None);
    if !ask[1].revents().is_empty() {
        on_control(control, memory);
    }
    memory.ready |= 1 << number;
}

/// Takes note of a word from the supervisor. What it means is on the board: room, or a drain.
fn on_control(control: &OwnedFd, memory: &mut Memory) {
    // Somebody else's word may have been read with it.
    let _ = rustix::io::read(control, &mut [0; 8]);
    memory.full = false;
    memory.paused_until = None;
}

/// Waits for the supervisor, until a time at most.
fn wait_for_control<H>(forker: &Forker<'_, H>, memory: &mut Memory, until: Option<Instant>) {
    let mut ask = [PollFd::new(&forker.control, PollFlags::IN)];
    if let Ok(1) = wait::until(&mut ask, until) {
        on_control(&forker.control, memory);
    }
}
