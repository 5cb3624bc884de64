//! Creates the process of a connection, and spares.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tine_sys::exec::Confine as _;
use tine_sys::process::{Side, exit_now, fork_sibling};

use super::accept::request_slot;
use super::copy::{WarmService, copy_template};
use super::failure::{fail, succeed};
use super::memory::{Memory, NewProcess, Started};
use super::trusted::Forker;
use crate::connection::handler::Handler;
use crate::ipc::board::places::PlaceHolder;
use crate::ipc::board::{Entry, SlotPhase};
use crate::jail::step::StepError;
use crate::lifecycle::outcome::ExitReport;
use crate::net::accept::Accepted;
use crate::processes::conn::{self, Job};
use crate::processes::jailer::client::Jailer;
use crate::processes::jailer::run::ROOMS;
use crate::processes::start::start_connection;
use crate::program::served::{LaunchContext, ProgramConnection};
use crate::system::clock::now;

/// Creates the process for an admitted client: forks it to run the handler, or makes it execute the
/// program. If that fails, the client stays in hand and is tried again.
pub(super) fn start<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    client: Accepted,
    slot: usize,
) -> Started
where
    H: Handler,
{
    if let Err(why) = open_room(forker, slot) {
        return keep_in_hand(forker, memory, (client, slot), "cannot prepare a jail for a connection", &why);
    }
    let Forker { trusted, context } = forker;
    let board = &trusted.door.board;
    let entry = trusted.begin(context.stats, slot, &client);
    // Before any line of the process itself.
    let count = || board.count(SlotPhase::Serving, None);
    context.log.status_before(count, trusted.settings.max_connections);
    // Before the fork: however soon the child exits, the supervisor finds its slot.
    board.mark_changed(slot);
    let mut launch = trusted.launch_context(slot, &entry, context.launcher.is_some());
    if trusted.templates.is_some() {
        match copy_template(forker, memory, (slot, &client), entry, &launch) {
            WarmService::Copied => {
                drop(client);
                note_created(forker, slot, &entry);
                succeed(forker, memory);
                return Started::Served;
            }
            WarmService::Later => {
                memory.await_template((client, slot));
                return Started::Failed;
            }
            WarmService::Cold => {}
        }
    }
    let created = create(forker, (slot, &client), entry, &launch);
    let Forker { trusted, context } = forker;
    match created {
        Ok(Side::Child(fresh)) => {
            start_connection(context.parent);
            let job = Job { socket: client.socket, slot, entry, proxied: client.proxied };
            if trusted.is_inherited() {
                return Started::Forked(NewProcess::Connection(fresh, job));
            }
            // Served from here, without a copy of the context: a page touched in a new process is a
            // fault.
            conn::serve(&fresh, context, job, &mut launch)
        }
        Ok(Side::Parent(_)) => {
            drop(client);
            note_created(forker, slot, &entry);
            succeed(forker, memory);
            Started::Served
        }
        Err(why) => {
            context.jail_mut().close(false);
            keep_in_hand(forker, memory, (client, slot), "cannot create a process for a connection", &why)
        }
    }
}

/// Creates the process: one that executes the program, or a fork.
fn create<H>(
    forker: &mut Forker<'_, H>,
    (slot, client): (usize, &Accepted),
    entry: Entry,
    launch: &LaunchContext,
) -> io::Result<Side> {
    let Forker { trusted, context } = forker;
    let pid = trusted.door.board.pid_cell(slot);
    match &mut context.launcher {
        Some(launcher) if !launcher.stays() && !launcher.prepares() => {
            let failed = |report: &ExitReport| context.stats.report(slot, report);
            let target = ProgramConnection {
                socket: &client.socket,
                entry,
                proxied: client.proxied.as_deref(),
                launch_context: launch,
            };
            launcher.spawn(trusted.alone, pid, &target, &failed).map(Side::Parent)
        }
        _ => fork_sibling(trusted.alone, pid, context.jail_mut().pids()),
    }
}

/// Notes that the process of a connection was created.
#[inline]
fn note_created<H>(forker: &mut Forker<'_, H>, slot: usize, entry: &Entry) {
    let Forker { trusted, context } = forker;
    context.jail_mut().close_later();
    trusted.door.board.count_start(Duration::from_nanos(now().saturating_sub(entry.start)));
    trusted.notify_change(slot, &context.log);
    trusted.settle_place(PlaceHolder::Forker(trusted.index));
    if trusted.jailer.as_ref().is_some_and(Jailer::is_due) {
        settle_rooms(forker);
    }
}

/// Keeps a client for which no process can be created now.
#[cold]
fn keep_in_hand<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    client: (Accepted, usize),
    what: &str,
    why: &io::Error,
) -> Started {
    forker.trusted.door.board.count_fork_failure();
    match StepError::in_error(why) {
        Some(why) => fail(forker, memory, &format!("{what}: {}", why.step), why.errno),
        None => fail(forker, memory, what, Errno::from_io_error(why).unwrap_or(Errno::AGAIN)),
    }
    memory.in_hand = Some(client);
    Started::Failed
}

/// Makes the cgroup of a slot, if it has one, and, in a full jail, has the next process that is
/// created join a room.
///
/// # Errors
/// There is no room now.
#[inline]
pub(super) fn open_room<H>(forker: &mut Forker<'_, H>, slot: usize) -> io::Result<()> {
    if let Some(cgroups) = &mut forker.trusted.cgroups {
        // The process of the connection reports that it cannot enter it.
        let _ = cgroups.prepare(slot, forker.trusted.door.board.cgroup(slot));
    }
    let Some(jailer) = &mut forker.trusted.jailer else { return Ok(()) };
    let mut opened = Ok(());
    // The first process of a room may have been killed while the room was ready, as may all others.
    for _ in 0..=ROOMS {
        opened = jailer.take().and_then(|room| forker.context.jail_mut().open(room, slot));
        let why = opened.as_ref().err().and_then(StepError::in_error);
        if !why.is_some_and(StepError::is_of_ended_process) {
            break;
        }
    }
    match opened {
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => {
            // The supervisor starts another forker, with another jailer.
            let next = "it is started again with its forker; look for its cause in the kernel's log (dmesg)";
            forker.context.log.error("a forker has lost its jailer, and exits", "the jailer has ended", next);
            exit_now(111)
        }
        opened => opened,
    }
}

/// Tells the jailer and the rooms what was taken. It waits until the processes of clients have been
/// served by the processors, or there are several.
pub(super) fn settle_rooms<H>(forker: &mut Forker<'_, H>) {
    forker.context.jail_mut().settle();
    forker.trusted.jailer.iter_mut().for_each(Jailer::settle);
}

/// Forks spares until none is missing or all slots are taken. Returns in each new process, too,
/// with the slot of the spare.
pub(super) fn refill<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    missing: usize,
) -> Option<NewProcess> {
    let index = forker.trusted.index;
    let share = forker.trusted.settings.spares_of(index);
    forker.trusted.door.board.set_idle(index, share - missing);
    for _ in 0..missing {
        let board = &forker.trusted.door.board;
        let Some(slot) = board.claim(index) else {
            request_slot(&forker.trusted, memory);
            return None;
        };
        board.mark_idle(slot);
        board.mark_changed(slot);
        board.inc_idle(index);
        let forked = open_room(forker, slot);
        let pids = forker.context.jail_mut().pids();
        let board = &forker.trusted.door.board;
        match forked.and_then(|()| fork_sibling(forker.trusted.alone, board.pid_cell(slot), pids)) {
            Ok(Side::Child(fresh)) => {
                start_connection(forker.context.parent);
                return Some(NewProcess::Spare(fresh, slot));
            }
            Ok(Side::Parent(_)) => {
                forker.context.jail_mut().close(true);
                settle_rooms(forker);
                succeed(forker, memory);
            }
            Err(why) => {
                forker.context.jail_mut().close(false);
                let board = &forker.trusted.door.board;
                board.dec_idle(index);
                board.release(slot);
                board.count_fork_failure();
                let of_step = StepError::in_error(&why).map(|why| why.errno);
                let errno = of_step.or_else(|| Errno::from_io_error(&why)).unwrap_or(Errno::AGAIN);
                fail(forker, memory, "cannot create a spare process", errno);
                return None;
            }
        }
    }
    None
}
