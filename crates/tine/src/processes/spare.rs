//! A spare: a process that is forked before its client connects, and accepts the client itself.
//! With `--reuse` it is a worker, which serves several clients, one after the other.
//!
//! A spare has run no handler and read no byte of a client, so it is trusted as its forker is: it
//! holds the listeners and writes the board. It gives up both before the handler runs; a worker
//! does not, which is why a pool isolates less.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, epoll};
use rustix::io::Errno;
use tine_sys::process::{How, exit_now, own_usage};
use tine_sys::wait;

use crate::admission::Verdict;
use crate::admission::penalty::Fault;
use crate::admission::proxy::Screening;
use crate::connection;
use crate::connection::handler::Handler;
use crate::ipc::board::blocks::CandidateSlot;
use crate::ipc::board::ended::WorkerEnd;
use crate::ipc::board::places::PlaceHolder;
use crate::ipc::board::{Entry, SlotPhase};
use crate::ipc::stats::ConnStats;
use crate::lifecycle::outcome::{ExitReport, Outcome};
use crate::lifecycle::timing::PLACE_WAIT;
use crate::log::{ByteCounts, Log, Times, Usage};
use crate::net::accept::{AcceptError, Accepted, accept_from, classify};
use crate::net::listener::Listener;
use crate::processes::conn::{self, Job};
use crate::processes::forker::door::Door;
use crate::processes::forker::enter::event_queue;
use crate::processes::forker::trusted::{Forker, Trusted};
use crate::processes::jailer::client::Jailer;
use crate::system::clock::now;

/// Waits for a client, and returns the connection that this process has to serve. A worker serves
/// as many as `--reuse` allows, and exits.
pub(crate) fn run<H>(forker: &mut Forker<'_, H>, slot: usize) -> Job
where
    H: Handler,
{
    if forker.trusted.jailer.as_ref().is_some_and(Jailer::is_orphaned) {
        exit_now(111);
    }
    let Ok(events) = event_queue(&forker.trusted, &forker.trusted.link.retire) else {
        exit_now(111);
    };
    let reuse = forker.trusted.settings.reuse;
    // A worker keeps its name while it serves.
    let _ = rustix::thread::set_name(if reuse == 1 { c"tine: spare" } else { c"tine: worker" });
    forker.trusted.door.board.prefault(slot);
    prefault_stats(forker, slot);
    if reuse == 1 {
        let client = next(forker, &events, slot);
        return begin(forker, client, slot);
    }
    forker.context.enter_jail(slot, forker.trusted.cgroup_entry(slot).as_ref());
    let mut begins = true;
    for _ in 0..reuse {
        let client = next(forker, &events, slot);
        let report = serve_one_of_many(forker, client, slot, &mut begins);
        let Trusted { index, settings, door, .. } = &forker.trusted;
        // After a rush, more workers wait than are wanted.
        let idle = door.board.inc_idle(*index);
        if begins || matches!(report, ExitReport::Panic(_)) || idle > 2 * settings.spares_of(*index) {
            exit_now(report.exit_code());
        }
    }
    exit_now(0)
}

/// Touches the memory that a connection writes, so that the page faults come before the client.
fn prefault_stats<H>(forker: &Forker<'_, H>, slot: usize) {
    forker.context.stats.clear(slot);
    forker.context.stats.received(slot, 0);
}

/// Enters a client as this process' connection.
#[inline(always)]
fn begin<H>(forker: &Forker<'_, H>, client: Accepted, slot: usize) -> Job {
    let Forker { trusted, context } = forker;
    let entry = trusted.begin(context.stats, slot, &client);
    wake_forker_if_low(trusted);
    trusted.notify_change(slot, &context.log);
    trusted.settle_place(PlaceHolder::Spare(slot));
    Job { socket: client.socket, slot, entry, proxied: client.proxied }
}

/// Waits for a client that is admitted.
fn next<H>(forker: &mut Forker<'_, H>, events: &OwnedFd, slot: usize) -> Accepted {
    let Forker { trusted, context } = forker;
    loop {
        let client = wait_for_client(trusted, &mut context.log, events, slot);
        let door = &trusted.door;
        let counts = CandidateSlot { board: &door.board, slot };
        match door.admission.decide(door.candidate(&client), Some(&counts)) {
            verdict @ (Verdict::Admit | Verdict::Report(_)) => {
                if let Verdict::Report(reason) = verdict {
                    door.report(&client, reason, &mut context.log);
                }
                door.board.use_place(PlaceHolder::Spare(slot));
                return client;
            }
            verdict => {
                door.board.mark_idle(slot);
                door.board.return_place(PlaceHolder::Spare(slot));
                door.pass_on(&client, verdict, &mut context.log);
            }
        }
    }
}

/// Waits for a client of a listener, of the delayer or of the proxy reader; exits when a drain or a
/// pause begins.
#[inline]
fn wait_for_client(trusted: &Trusted, log: &mut Log, events: &OwnedFd, slot: usize) -> Accepted {
    loop {
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 4];
        // Interrupted: no event, and the loop waits again.
        let Ok((ready, _)) = epoll::wait(events, &mut buffer, None) else {
            continue;
        };
        if trusted.door.board.is_draining() || trusted.door.board.is_paused() {
            exit_now(0);
        }
        if !trusted.door.board.take_place(PlaceHolder::Spare(slot)) {
            // Until the drain, or another process returns its place.
            let mut retire = [PollFd::new(&trusted.link.retire, PollFlags::IN)];
            let _ = wait::until(&mut retire, Some(Instant::now() + PLACE_WAIT));
            continue;
        }
        for event in ready.iter().map(|event| event.data.u64()) {
            let listener = usize::try_from(event).ok().and_then(|number| trusted.listeners.get(number));
            let Some(listener) = listener else {
                // Without a client: another process was faster, or the event is that of a drain.
                if let Ok(Some(client)) = trusted.door.receive_released() {
                    return client;
                }
                if let Ok(Some(client)) = trusted.door.receive_identified() {
                    return client;
                }
                continue;
            };
            let accepted = match trusted.door.proxy_reader {
                None => accept_from(listener).map(Some),
                Some(_) => accept_and_screen(trusted, log, listener),
            };
            match accepted {
                Ok(Some(client)) => return client,
                Ok(None) => {}
                // Without descriptors a spare cannot recover: the forker, which pauses, replaces
                // it.
                Err(errno) => match classify(errno) {
                    AcceptError::Fatal | AcceptError::Pause => exit_now(111),
                    AcceptError::NoClient | AcceptError::Next => {}
                },
            }
        }
        trusted.door.board.return_place(PlaceHolder::Spare(slot));
    }
}

/// Accepts a client where proxies speak for some. Passes it to the proxy reader or the rejector, or
/// returns it if neither is to have it.
#[cold]
fn accept_and_screen(
    trusted: &Trusted,
    log: &mut Log,
    listener: &Listener,
) -> Result<Option<Accepted>, Errno> {
    let Door { board, .. } = &trusted.door;
    board.begin_passing();
    if board.is_draining() {
        // The forkers accept now.
        board.end_passing();
        exit_now(0);
    }
    let accepted = accept_from(listener).map(|client| match trusted.door.screen(client.peer) {
        Screening::Direct => Some(client),
        Screening::Proxy | Screening::Reject => {
            trusted.door.pass_before_admission(&client, log, || trusted.wake_supervisor());
            None
        }
    });
    board.end_passing();
    accepted
}

/// Wakes the forker when half of its spares are in use, so that it forks more, and when none is
/// idle.
#[inline]
fn wake_forker_if_low(trusted: &Trusted) {
    let low = trusted.settings.spares_of(trusted.index) / 2;
    let left = trusted.door.board.dec_idle(trusted.index);
    if left == low || left == 0 {
        trusted.link.control.wake();
    }
}

/// Serves a connection in a worker, which logs its two lines itself and leaves its end on the
/// board: the supervisor sees the ends of processes only.
fn serve_one_of_many<H>(
    forker: &mut Forker<'_, H>,
    client: Accepted,
    slot: usize,
    begins: &mut bool,
) -> ExitReport
where
    H: Handler,
{
    let Forker { trusted, context } = forker;
    let keeps_end = trusted.door.board.has_ended();
    if keeps_end {
        trusted.door.board.count_served();
    }
    let entry = trusted.begin(context.stats, slot, &client);
    if keeps_end {
        trusted.door.board.note_served_most();
    }
    let proxied = client.proxied.as_deref().copied();
    wake_forker_if_low(trusted);
    if trusted.door.board.take_notice_request() {
        trusted.wake_supervisor();
    }
    trusted.settle_place(PlaceHolder::Spare(slot));
    let job = Job { socket: client.socket, slot, entry, proxied: client.proxied };
    connection::take_received_any();
    log_accept(forker, &job);
    let Forker { trusted, context } = forker;
    let logs = context.log.logs_connections();
    let is_excluded = logs && trusted.door.admission.is_log_excluded(entry.peer);
    let cpu_before = if logs || keeps_end { own_usage().0 } else { Duration::ZERO };
    context.jail.hold_inside(&job.socket).unwrap_or_else(|why| context.fail(slot, &why));
    let report = conn::handle(context, job, begins);
    let exit_code = context.exit_code(&report);
    // In a pid namespace, this process has another number.
    let pid = trusted.door.board.pid(slot);
    let usage = (logs || keeps_end).then(|| usage_since(trusted, context.stats, slot, &entry, cpu_before));
    if let Some(usage) = usage.filter(|_| keeps_end) {
        let proxied = proxied.as_ref();
        let (id, peer, start, report) = (entry.id, entry.peer, entry.start, &report);
        leave_end(trusted, slot, &WorkerEnd { id, peer, start, proxied, pid, exit_code, report, usage });
    }
    // From here on the connection has ended, also if this process is killed now.
    trusted.door.board.mark_idle(slot);
    if keeps_end {
        trusted.door.board.count_unserved();
    }
    trusted.door.wake_delayer();
    let how = How::Exited(exit_code);
    let outcome = Outcome::new(how, Some(report.clone()));
    if let Some(usage) = usage.filter(|_| logs && (!is_excluded || outcome.is_failure())) {
        context.log.end(entry.id, &entry.peer, proxied.as_ref(), pid, &outcome, &usage);
    }
    if let Some(fault) = Fault::of(how, &outcome, false) {
        trusted.door.charge(entry.peer, fault, &mut context.log);
    }
    report
}

/// Logs that a connection begins, with `--reuse`: then the supervisor does not.
pub(crate) fn log_accept<H>(forker: &mut Forker<'_, H>, job: &Job) {
    let Forker { trusted, context } = forker;
    let Job { entry, proxied, .. } = job;
    if context.log.logs_connections() && !trusted.door.admission.is_log_excluded(entry.peer) {
        let count = trusted.door.board.count(SlotPhase::Serving, None);
        let limit = trusted.settings.max_connections;
        let pid = trusted.door.board.pid(job.slot);
        context.log.accept(entry.id, &entry.peer, proxied.as_deref(), pid, count, limit);
    }
}

/// Leaves the end of a connection for the supervisor, which takes it when it is awake for another
/// reason, or when there are many.
fn leave_end(trusted: &Trusted, slot: usize, end: &WorkerEnd) {
    if trusted.door.board.leave_end(slot, end) {
        trusted.wake_supervisor();
    }
}

fn usage_since(
    trusted: &Trusted,
    stats: ConnStats,
    slot: usize,
    entry: &Entry,
    cpu_before: Duration,
) -> Usage {
    let (cpu, peak_kib) = own_usage();
    let now = now();
    let duration = Duration::from_nanos(now.saturating_sub(entry.start));
    let first_byte = stats.first_byte(slot, entry.start, now);
    let times = Times { first_byte, waited: trusted.door.board.waited(slot) };
    let bytes = stats.bytes(slot).map(ByteCounts::of_process);
    Usage { duration, bytes, cpu: cpu.saturating_sub(cpu_before), peak_kib, times, start_kind: None }
}
