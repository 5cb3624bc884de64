//! The processes that a forker makes: for a client, and spares; and what it does where that fails.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tine_sys::process::{Side, fork_sibling};

use super::Forker;
use super::accept::{AcceptResult, want_slot};
use super::run::{Client, Memory};
use super::state::pause;
use crate::connection::Connection;
use crate::error::{HandlerError, reason};
use crate::lifecycle::outcome::Report;
use crate::net::accept::advice;
use crate::processes::conn;
use crate::processes::spare;
use crate::program::launch::{self, LaunchContext};
use crate::shared::board::{Board, Entry, Phase};

/// Without a failure for so long, a trouble is over.
const CALM: Duration = Duration::from_secs(1);

/// Gives a client a process. Where that fails, the client stays in hand and is tried again.
pub(super) fn start<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, client: Client) -> AcceptResult
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let Client { socket, peer, slot, waited_until } = client;
    let board: Board = forker.board;
    let entry = forker.begin(slot, peer, &socket);
    if let Some(reason) = forker.is_beyond(slot, waited_until.is_some()) {
        // Before the client knows: its next one must not find this one counted still.
        board.release(slot);
        forker.delay_or_reject(&socket, peer, reason, waited_until);
        return AcceptResult::Handled;
    }
    // Before what its process says.
    forker.log.status(|| board.count(Phase::Serving, None), forker.settings.max_connections);
    // Before the fork: however soon the child ends, the supervisor finds its slot.
    board.mark_changed(slot);
    let launch_context = forker.launch_context(slot, peer);
    match make_process(forker, &socket, slot, &entry, &launch_context) {
        Ok(Side::Child(fresh)) => {
            conn::init_child(forker.parent_death_pid());
            conn::serve(forker, &fresh, socket, slot, entry, &launch_context)
        }
        Ok(Side::Parent(_)) => {
            drop(socket);
            forker.notify_change(slot);
            succeed(forker, memory);
            AcceptResult::Handled
        }
        Err(why) => {
            let errno = Errno::from_io_error(&why).unwrap_or(Errno::AGAIN);
            fail(forker, memory, "cannot create a process for a connection", errno);
            memory.in_hand = Some(Client { socket, peer, slot, waited_until });
            AcceptResult::Stop
        }
    }
}

/// The process of a connection: forked to run the handler, or made to execute a program.
fn make_process<H>(
    forker: &mut Forker<'_, H>,
    socket: &OwnedFd,
    slot: usize,
    entry: &Entry,
    launch_context: &LaunchContext,
) -> std::io::Result<Side> {
    let id = forker.board.pid_cell(slot);
    match &mut forker.launcher {
        Some(launcher) if !launcher.relays() && !launcher.prepares() => {
            let display = forker.board.display();
            let failed = |report: &Report| display.report(slot, report);
            let client = launch::Client { socket, entry: *entry, launch_context };
            launcher.spawn(forker.alone, id, &client, &failed).map(Side::Parent)
        }
        _ => fork_sibling(forker.alone, id),
    }
}

pub(super) fn retry<H>(forker: &mut Forker<'_, H>, memory: &mut Memory)
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    if let Some(client) = memory.in_hand.take() {
        start(forker, memory, client);
    }
}

/// Forks spares until none is missing or there is no room.
pub(super) fn refill<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, missing: usize)
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let board = forker.board;
    board.set_idle(forker.index, forker.settings.spares_of(forker.index) - missing);
    for _ in 0..missing {
        let Some(slot) = board.claim(forker.index) else {
            want_slot(forker, memory);
            return;
        };
        board.mark_idle(slot);
        board.mark_changed(slot);
        board.inc_idle(forker.index);
        match fork_sibling(forker.alone, board.pid_cell(slot)) {
            Ok(Side::Child(fresh)) => {
                conn::init_child(forker.parent_death_pid());
                spare::live(forker, &fresh, slot)
            }
            Ok(Side::Parent(_)) => succeed(forker, memory),
            Err(why) => {
                board.dec_idle(forker.index);
                board.release(slot);
                let errno = Errno::from_io_error(&why).unwrap_or(Errno::AGAIN);
                fail(forker, memory, "cannot create a spare process", errno);
                return;
            }
        }
    }
}

/// Pauses, and says so once for all forkers.
pub(super) fn fail<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, what: &str, errno: Errno) {
    memory.failures += 1;
    memory.last_failure = Some(Instant::now());
    memory.paused_until = Some(Instant::now() + pause(memory.failures));
    // The end of any connection may be what mends it.
    forker.board.set_wants_slot(forker.index, true);
    forker.wake_supervisor();
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
