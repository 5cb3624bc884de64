//! The forker's loop: decides, waits, accepts, forks.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tine_sys::process::{Side, exit_now, fork_sibling};
use tine_sys::wait;

use super::enter::enter;
use super::state::{Situation, Step, next, pause};
use super::{Forker, spare};
use crate::accept::{AcceptError, advice, classify};
use crate::board::{Board, Entry, Orders, Phase};
use crate::child;
use crate::connection::Connection;
use crate::delayer;
use crate::error::{HandlerError, reason};
use crate::listener::Listener;
use crate::outcome::Report;
use crate::peer::Peer;
use crate::program::launch::{self, Surroundings};
use crate::refuser::Reason;

/// Clients taken from one listener before the next one has its turn.
const TURN: usize = 16;

/// The number of the event that is a word of the supervisor.
pub(super) const WORD: u64 = u64::MAX;

/// Without a failure for so long, a trouble is over.
const CALM: Duration = Duration::from_secs(1);

/// What the forker remembers between two steps.
struct Memory {
    /// The listeners, and the word of the supervisor.
    events: OwnedFd,
    /// Listeners that may have a client waiting, a bit for each. Not on the heap: what a forker writes
    /// between two forks is copied, a page at a time.
    ready: u64,
    /// A client whose process could not be forked, with its slot.
    in_hand: Option<Client>,
    full: bool,
    /// Clients may still come back from the delayer.
    returns: bool,
    queue_done: bool,
    draining: bool,
    failures: u32,
    last_failure: Option<Instant>,
    paused_until: Option<Instant>,
}

struct Client {
    socket: OwnedFd,
    peer: Peer,
    slot: usize,
    /// Until when it would have waited at the delayer, if it comes from there.
    waited_until: Option<u64>,
}

/// What became of an attempt to take a client.
enum Taken {
    /// It has a process, or was refused, or had gone.
    Dealt,
    /// Nobody is waiting at this listener.
    Nobody,
    /// Not now: the next step decides.
    Stop,
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
    crate::board::now();
    tine_sys::memory::trim_heap();
    tine_sys::memory::trim_stack();
    // Not before all forkers are there: the processes of one could use up what another needs to start.
    wait_for_word(&forker, &mut memory, None);
    loop {
        notice_drain(&forker, &mut memory);
        match next(&situation(&forker, &memory), Instant::now()) {
            Step::Refill(missing) => refill(&mut forker, &mut memory, missing),
            Step::Accept => accept_round(&mut forker, &mut memory),
            Step::Retry => retry(&mut forker, &mut memory),
            Step::WaitForWord => wait_for_word(&forker, &mut memory, None),
            Step::Pause(until) => wait_for_word(&forker, &mut memory, Some(until)),
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
        someone_waits: spares && memory.full && someone_waits(forker),
        refuses: forker.settings.refuses_when_full(),
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
                Taken::Dealt => {}
                Taken::Nobody => memory.ready &= !(1 << number),
                Taken::Stop => return,
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
            WORD => hear_word(control, memory),
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
        hear_word(control, memory);
    }
    memory.ready |= 1 << number;
}

/// Takes note of a word from the supervisor. What it means is on the board: room, or a drain.
fn hear_word(control: &OwnedFd, memory: &mut Memory) {
    // Somebody else's word may have been read with it.
    let _ = rustix::io::read(control, &mut [0; 8]);
    memory.full = false;
    memory.paused_until = None;
}

/// Takes one client from a listener, if there is room for it.
fn take<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, number: usize) -> Taken
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let slot = forker.board.claim(forker.index);
    if slot.is_none() && !want_room(forker, memory) {
        return Taken::Stop;
    }
    let taken = match forker.delayer.filter(|_| number == forker.listeners.len()) {
        Some(delayer) => take_back(memory, delayer),
        None if may_accept(forker, memory) => accept(forker, memory, number),
        None => Err(Taken::Stop),
    };
    match (taken, slot) {
        (Ok((socket, peer, waited_until)), Some(slot)) => {
            start(forker, memory, Client { socket, peer, slot, waited_until })
        }
        (Ok((socket, peer, _)), None) => {
            forker.refuse(&socket, peer, Reason::Full);
            Taken::Dealt
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
fn want_room<H>(forker: &Forker<'_, H>, memory: &mut Memory) -> bool {
    if forker.settings.refuses_when_full() && !forker.settings.has_spares() {
        return true;
    }
    forker.board.set_wants_room(forker.index, true);
    forker.poke_supervisor();
    memory.full = match forker.board.claim(forker.index) {
        Some(slot) => {
            forker.board.release(slot);
            false
        }
        None => true,
    };
    memory.full && forker.settings.refuses_when_full() && !someone_waits(forker)
}

fn someone_waits<H>(forker: &Forker<'_, H>) -> bool {
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

/// A client, and if it comes from the delayer, until when it would have waited.
type Accepted = (OwnedFd, Peer, Option<u64>);

/// Takes a client that the delayer lets go.
fn take_back(memory: &mut Memory, delayer: &delayer::Ends) -> Result<Accepted, Taken> {
    match delayer::receive(&delayer.back) {
        Ok(Some((socket, peer, _, until))) => Ok((socket, peer, Some(until))),
        Ok(None) => {
            memory.returns = false;
            Err(Taken::Nobody)
        }
        Err(Errno::AGAIN) => Err(Taken::Nobody),
        // No descriptor for it: it is closed.
        Err(_) => Err(Taken::Dealt),
    }
}

fn accept<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, number: usize) -> Result<Accepted, Taken> {
    let listener = &forker.listeners[number];
    if listener.blocks && !is_ready(listener) {
        return Err(Taken::Nobody);
    }
    match acceptfrom_with(listener, SocketFlags::CLOEXEC) {
        Ok((socket, address)) => {
            let peer = Peer::from_accept(address);
            if forker.lets_in(&socket, peer) { Ok((socket, peer, None)) } else { Err(Taken::Dealt) }
        }
        Err(errno) => Err(match classify(errno) {
            AcceptError::Nobody => Taken::Nobody,
            AcceptError::Next => Taken::Dealt,
            AcceptError::Pause => {
                fail(forker, memory, "cannot accept a connection", errno);
                Taken::Stop
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

/// Gives a client a process. Where that fails, the client stays in hand and is tried again.
fn start<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, client: Client) -> Taken
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let Client { socket, peer, slot, waited_until } = client;
    let board: Board = forker.board;
    let entry = forker.begin(slot, peer, &socket);
    if let Some(reason) = forker.is_beyond(slot, waited_until.is_some()) {
        // Before the client knows: its next one must not find this one counted still.
        board.release(slot);
        forker.turn_away(&socket, peer, reason, waited_until);
        return Taken::Dealt;
    }
    // Before what its process says.
    forker.log.status(|| board.count(Phase::Serving, None), forker.settings.max_connections);
    // Before the fork: however soon the child ends, the supervisor finds its slot.
    board.mark_changed(slot);
    let surroundings = forker.surroundings(slot, peer);
    match make_process(forker, &socket, slot, &entry, &surroundings) {
        Ok(Side::Child) => {
            child::be_born(forker.connections_die_with());
            child::serve(forker, socket, slot, entry, &surroundings)
        }
        Ok(Side::Parent(_)) => {
            drop(socket);
            forker.tell_change(slot);
            succeed(forker, memory);
            Taken::Dealt
        }
        Err(why) => {
            let errno = Errno::from_io_error(&why).unwrap_or(Errno::AGAIN);
            fail(forker, memory, "cannot create a process for a connection", errno);
            memory.in_hand = Some(Client { socket, peer, slot, waited_until });
            Taken::Stop
        }
    }
}

/// The process of a connection: forked to run the handler, or made to execute a program.
fn make_process<H>(
    forker: &mut Forker<'_, H>,
    socket: &OwnedFd,
    slot: usize,
    entry: &Entry,
    surroundings: &Surroundings,
) -> std::io::Result<Side> {
    let id = forker.board.pid_cell(slot);
    match &mut forker.launcher {
        Some(launcher) if !launcher.relays() && !launcher.prepares() => {
            let display = forker.board.display();
            let failed = |report: &Report| display.report(slot, report);
            let client = launch::Client { socket, entry: *entry, surroundings };
            launcher.spawn(forker.alone, id, &client, &failed).map(Side::Parent)
        }
        _ => fork_sibling(forker.alone, id),
    }
}

fn retry<H>(forker: &mut Forker<'_, H>, memory: &mut Memory)
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    if let Some(client) = memory.in_hand.take() {
        start(forker, memory, client);
    }
}

/// Forks spares until none is missing or there is no room.
fn refill<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, missing: usize)
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let board = forker.board;
    board.set_waiting(forker.index, forker.settings.spares_of(forker.index) - missing);
    for _ in 0..missing {
        let Some(slot) = board.claim(forker.index) else {
            want_room(forker, memory);
            return;
        };
        board.wait_in(slot);
        board.mark_changed(slot);
        board.one_waits_more(forker.index);
        match fork_sibling(forker.alone, board.pid_cell(slot)) {
            Ok(Side::Child) => {
                child::be_born(forker.connections_die_with());
                spare::live(forker, slot)
            }
            Ok(Side::Parent(_)) => succeed(forker, memory),
            Err(why) => {
                board.one_waits_less(forker.index);
                board.release(slot);
                let errno = Errno::from_io_error(&why).unwrap_or(Errno::AGAIN);
                fail(forker, memory, "cannot create a spare process", errno);
                return;
            }
        }
    }
}

/// Pauses, and says so once for all forkers.
fn fail<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, what: &str, errno: Errno) {
    memory.failures += 1;
    memory.last_failure = Some(Instant::now());
    memory.paused_until = Some(Instant::now() + pause(memory.failures));
    // The end of any connection may be what mends it.
    forker.board.set_wants_room(forker.index, true);
    forker.poke_supervisor();
    if forker.board.set_trouble(errno.raw_os_error()) {
        forker.log.trouble(what, &reason(&errno.into()), advice(errno));
    }
}

/// Tries again without pause. The trouble is over, and that is a line of the log, once nothing has
/// failed for a second: at a limit, success and failure alternate.
fn succeed<H>(forker: &mut Forker<'_, H>, memory: &mut Memory) {
    let Some(last) = memory.last_failure else {
        return;
    };
    memory.failures = 0;
    memory.paused_until = None;
    if last.elapsed() > CALM {
        memory.last_failure = None;
        if forker.board.set_trouble(0) {
            forker.log.recovered("processes can be created again");
        }
    }
}

/// Waits for the supervisor, until a time at most.
fn wait_for_word<H>(forker: &Forker<'_, H>, memory: &mut Memory, until: Option<Instant>) {
    let mut ask = [PollFd::new(&forker.control, PollFlags::IN)];
    if let Ok(1) = wait::until(&mut ask, until) {
        hear_word(&forker.control, memory);
    }
}
