//! The forker's loop: decides, waits, accepts, forks.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use tine_sys::process::exit_now;
use tine_sys::wait;

use super::accept::{has_idle_spare, next_client};
use super::door::Door;
use super::enter::enter;
use super::fork::{refill, settle_rooms, start};
use super::memory::{
    CONTROL_EVENT, ClientSource, MAKER_EVENT, Memory, NewProcess, NoClient, ReadySources, Started,
};
use super::state::{Situation, Step, next};
use super::templates::{Lent, Templates};
use super::trial::try_out;
use super::trusted::{Forker, ForkerStart, Trusted};
use crate::connection::handler::Handler;
use crate::ipc::board::SlotPhase;
use crate::lifecycle::timing::LAST_CLIENTS_WAIT;
use crate::processes::jailer::client::Jailer;
use crate::processes::start::StartReport;
use crate::processes::{conn, spare};
use crate::settings::Settings;

/// The time after the last client in which its process has the processors to itself.
const SETTLE_DELAY: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Clients taken from one source before the next one has its turn.
const TURN: usize = 16;

/// Runs as a forker until the drain ends, and as each process that it forks.
pub(crate) fn run<H>(settings: &Settings, start: ForkerStart<'_, H>, report: StartReport) -> !
where
    H: Handler,
{
    let (mut forker, mut memory, trial) = enter(settings, start, report);
    if let Some((trial, report)) = trial {
        wait_for_control(&forker.trusted, &mut memory, None);
        try_out(&mut forker, trial, report);
    }
    // The clock is looked up in the kernel's page once, here, instead of in each spare.
    crate::system::clock::now();
    tine_sys::memory::trim_heap();
    tine_sys::memory::trim_stack();
    settle_rooms(&mut forker);
    // Not before all forkers run: the processes of one could use up what another needs to start.
    wait_for_control(&forker.trusted, &mut memory, None);
    let (fresh, job) = loop {
        match step(&mut forker, &mut memory) {
            None => {}
            Some(NewProcess::Connection(fresh, job)) => break (fresh, job),
            Some(NewProcess::Spare(fresh, slot)) => break (fresh, spare::run(&mut forker, slot)),
        }
    };
    // In a new process. The context stays where it is: moving it would touch pages.
    if settings.reuse > 1 {
        // In a drain, when the workers have left. It takes the place of one.
        spare::log_accept(&mut forker, &job);
    }
    let executes = forker.context.launcher.is_some();
    let mut launch = forker.trusted.launch_context(job.slot, &job.entry, executes);
    forker.trusted.give_up();
    conn::serve(&fresh, &mut forker.context, job, &mut launch)
}

/// Takes one step. In a process that the step has forked, returns what that process is.
fn step<H>(forker: &mut Forker<'_, H>, memory: &mut Memory) -> Option<NewProcess>
where
    H: Handler,
{
    notice_drain(&mut forker.trusted, memory);
    if std::mem::take(&mut memory.are_templates_due) {
        keep_up_templates(forker, memory);
    }
    match next(&situation(&forker.trusted, memory), Instant::now()) {
        Step::Refill(missing) => return refill(forker, memory, missing),
        Step::Accept => return accept_round(forker, memory),
        Step::Retry => {
            let (client, slot) = memory.in_hand.take()?;
            memory.awaits_template = false;
            if let Started::Forked(process) = start(forker, memory, client, slot) {
                return Some(process);
            }
        }
        Step::WaitForControl => {
            note_pause(&forker.trusted);
            forker.context.members.refresh();
            settle_rooms(forker);
            wait_for_control(&forker.trusted, memory, None);
        }
        Step::Pause(until) => {
            settle_rooms(forker);
            wait_for_control(&forker.trusted, memory, Some(until));
        }
        Step::Leave => exit_now(0),
    }
    None
}

/// Has the templates of a program that is started warm be as they should.
fn keep_up_templates<H>(forker: &mut Forker<'_, H>, memory: &Memory) {
    let Forker { trusted, context } = forker;
    let (Some(templates), Some(launcher)) = (&mut trusted.templates, &mut context.launcher) else { return };
    templates.keep_up(&mut Lent { board: &trusted.door.board, launcher, log: &mut context.log });
    if let Some(maker) = templates.new_maker() {
        let data = epoll::EventData::new_u64(MAKER_EVENT);
        // Without memory for that, the program is executed.
        let _ = epoll::add(&memory.events, maker, data, epoll::EventFlags::IN);
    }
}

/// When a drain begins, every listener is checked once more: the clients in the backlog are served.
/// Once the last of them is accepted, the listeners are closed, so that no handshake completes any
/// more.
fn notice_drain(trusted: &mut Trusted, memory: &mut Memory) {
    if !trusted.door.board.is_draining() {
        return;
    }
    if !memory.draining {
        memory.draining = true;
        memory.ready = ReadySources::ALL;
    }
    if trusted.door.board.drain_quota() == 0 {
        trusted.listeners.clear();
        note_backlog_done(trusted, memory);
        memory.backlog_done = !memory.expects_returned();
    }
}

/// Notes in a drain that this forker accepts no more client. The last forker tells the proxy
/// reader: what it has then is all that there will be.
fn note_backlog_done(trusted: &Trusted, memory: &mut Memory) {
    let Some(reader) = &trusted.door.proxy_reader else { return };
    if std::mem::replace(&mut memory.noted_backlog_done, true) {
        return;
    }
    let board = &trusted.door.board;
    if !board.set_backlog_done(trusted.index, trusted.settings.forkers) {
        return;
    }
    // A spare may be passing a client that it accepted just before the drain.
    let deadline = Instant::now() + LAST_CLIENTS_WAIT;
    while board.is_passing() && Instant::now() < deadline {
        let _ = wait::until(&mut [], Some(Instant::now() + Duration::from_millis(1)));
    }
    reader.last.wake();
}

/// Notes in a pause that this forker accepts no client until the supervisor wakes it.
fn note_pause(trusted: &Trusted) {
    let board = &trusted.door.board;
    if board.is_paused() && board.see_pause(trusted.index) {
        trusted.wake_supervisor();
    }
}

fn situation(trusted: &Trusted, memory: &Memory) -> Situation {
    let spares = trusted.settings.has_spares();
    Situation {
        draining: trusted.door.board.is_draining(),
        paused: trusted.door.board.is_paused(),
        spares,
        missing_spares: if spares { missing_spares(trusted, memory) } else { 0 },
        client_in_hand: memory.in_hand.is_some(),
        full: memory.full,
        has_idle_spare: spares && memory.full && has_idle_spare(trusted),
        rejects: trusted.door.admission.limits().rejects_when_full(),
        backlog_done: memory.backlog_done,
        paused_until: memory.paused_until,
    }
}

fn missing_spares(trusted: &Trusted, memory: &Memory) -> usize {
    if memory.full {
        return 0;
    }
    let idle = trusted.door.board.count(SlotPhase::Idle, Some(trusted.index));
    trusted.settings.spares_of(trusted.index).saturating_sub(idle)
}

/// Serves clients of the sources that may have some; waits for a client where none has.
fn accept_round<H>(forker: &mut Forker<'_, H>, memory: &mut Memory) -> Option<NewProcess>
where
    H: Handler,
{
    let listeners = (0..forker.trusted.listeners.len()).map(ClientSource::Listener);
    let mut sources = listeners.chain([ClientSource::Delayer, ClientSource::ProxyReader]);
    if !sources.clone().any(|source| memory.is_ready(source)) {
        wait_for_clients(forker, memory);
        return None;
    }
    sources.find_map(|source| serve_turn(forker, memory, source)).flatten()
}

/// Serves clients of one source, up to its turn. `Some` ends the round: a step has to be decided,
/// or this is a new process.
fn serve_turn<H>(
    forker: &mut Forker<'_, H>,
    memory: &mut Memory,
    source: ClientSource,
) -> Option<Option<NewProcess>>
where
    H: Handler,
{
    for _ in 0..TURN {
        if !memory.is_ready(source) {
            break;
        }
        match next_client(forker, memory, source) {
            Ok((client, slot)) => match start(forker, memory, client, slot) {
                Started::Served => {}
                Started::Failed => return Some(None),
                Started::Forked(process) => return Some(Some(process)),
            },
            Err(NoClient::Handled) => {}
            Err(NoClient::Empty) => memory.set_empty(source),
            Err(NoClient::Stop) => return Some(None),
        }
    }
    None
}

/// Waits for clients; in a drain, for those that delayer and proxy reader pass back.
fn wait_for_clients<H>(forker: &mut Forker<'_, H>, memory: &mut Memory) {
    if !forker.trusted.door.board.is_draining() {
        let owes = forker.trusted.jailer.as_ref().is_some_and(Jailer::is_owed);
        let settle_after = owes.then_some(SETTLE_DELAY);
        if !wait_for_events(&forker.trusted, memory, settle_after) {
            settle_rooms(forker);
        }
        return;
    }
    settle_rooms(forker);
    let trusted = &forker.trusted;
    note_backlog_done(trusted, memory);
    if !memory.expects_returned() {
        memory.backlog_done = true;
        return;
    }
    let Door { delayer, proxy_reader, .. } = &trusted.door;
    let control = PollFd::new(&trusted.link.control, PollFlags::IN);
    // In the place of a channel that has ended, the control wakeup a second time.
    let released = delayer.as_ref().filter(|_| memory.expects_released);
    let released = released.map_or(control.clone(), |link| PollFd::new(&link.released, PollFlags::IN));
    let identified = proxy_reader.as_ref().filter(|_| memory.expects_identified);
    let identified = identified.map_or(control.clone(), |link| PollFd::new(&link.identified, PollFlags::IN));
    let mut poll = [control, released, identified];
    // Interrupted: all are checked in any case.
    let _ = wait::until(&mut poll, None);
    if !poll[0].revents().is_empty() {
        on_control(trusted, memory);
    }
    (memory.ready.released, memory.ready.identified) = (true, true);
}

/// Waits for events, for this long at most. False if none came.
fn wait_for_events(trusted: &Trusted, memory: &mut Memory, at_most: Option<Timespec>) -> bool {
    let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 16];
    // Interrupted: no event, and the loop waits again.
    let Ok((events, _)) = epoll::wait(&memory.events, &mut buffer, at_most.as_ref()) else {
        return true;
    };
    let came = !events.is_empty();
    for event in events {
        match event.data.u64() {
            CONTROL_EVENT => on_control(trusted, memory),
            MAKER_EVENT => memory.are_templates_due = true,
            source => memory.ready.note(source),
        }
    }
    came
}

/// Handles a wakeup by the supervisor. The board has what it is about: a free slot, or a drain.
fn on_control(trusted: &Trusted, memory: &mut Memory) {
    trusted.link.control.clear();
    memory.full = false;
    memory.paused_until = None;
    memory.are_templates_due = true;
}

/// Waits for a wakeup by the supervisor, or for the template that a client waits for, until a time
/// at most.
fn wait_for_control(trusted: &Trusted, memory: &mut Memory, until: Option<Instant>) {
    let control = PollFd::new(&trusted.link.control, PollFlags::IN);
    let maker = trusted.templates.as_ref().filter(|_| memory.awaits_template).and_then(Templates::maker);
    // In its place, the control wakeup a second time.
    let maker = maker.map_or(control.clone(), |maker| PollFd::from_borrowed_fd(maker, PollFlags::IN));
    let mut poll = [control, maker];
    if let Ok(1..) = wait::until(&mut poll, until) {
        on_control(trusted, memory);
    }
}
