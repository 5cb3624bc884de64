//! A spare: a fresh process that waits for its client and accepts it itself.
//!
//! It has run no handler and read no byte of a client, so it is trusted like the forker that made it:
//! it holds the listeners and writes the board. Both go before the handler runs, unless the process
//! is to be reused (`reuse`), which is why that isolates less.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::net::{SocketFlags, acceptfrom_with};
use tine_sys::process::{Fresh, How, exit_now, own_usage};

use super::forker::Forker;
use super::forker::enter::event_queue;
use crate::admission::penalty::Fault;
use crate::connection::{self, Connection};
use crate::error::HandlerError;
use crate::lifecycle::outcome::{Outcome, Report};
use crate::log::Usage;
use crate::net::accept::{AcceptError, classify};
use crate::net::peer::Peer;
use crate::processes::conn;
use crate::processes::delayer;
use crate::shared::board::{Entry, Orders, Phase, now};

/// Waits for a client, serves it, and ends; with `reuse`, serves as many as that.
pub(crate) fn live<H>(forker: &mut Forker<'_, H>, fresh: &Fresh, slot: usize) -> !
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let Ok(events) = event_queue(forker, forker.retire) else {
        exit_now(111);
    };
    let reuse = forker.settings.reuse;
    // The kernel keeps the role, also of one that serves one connection after the other.
    let _ = rustix::thread::set_name(if reuse == 1 { c"tine: spare" } else { c"tine: worker" });
    forker.board.prefault(slot);
    if reuse == 1 {
        let (socket, entry) = next(forker, &events, slot);
        forker.notify_change(slot);
        let launch_context = forker.launch_context(slot, entry.peer);
        conn::serve(forker, fresh, socket, slot, entry, &launch_context);
    }
    for _ in 0..reuse {
        let (socket, entry) = next(forker, &events, slot);
        let report = serve_one_of_many(forker, socket, slot, entry);
        // After a rush, more wait than are wanted.
        let waiting = forker.board.inc_idle(forker.index);
        if matches!(report, Report::Panic(_)) || waiting > 2 * forker.settings.spares_of(forker.index) {
            exit_now(report.exit_code());
        }
    }
    exit_now(0)
}

/// Waits for a client that may be served.
fn next<H>(forker: &mut Forker<'_, H>, events: &OwnedFd, slot: usize) -> (OwnedFd, Entry) {
    loop {
        let (socket, peer, waited_until) = wait(forker, events);
        if waited_until.is_none() && !forker.admits(&socket, peer) {
            continue;
        }
        let entry = forker.begin(slot, peer, &socket);
        if let Some(reason) = forker.is_beyond(slot, waited_until.is_some()) {
            // Before the client knows: its next one must not find this one counted still.
            forker.board.mark_idle(slot);
            forker.delay_or_reject(&socket, peer, reason, waited_until);
            continue;
        }
        wake_forker_if_low(forker);
        return (socket, entry);
    }
}

/// A client, and if it comes from the delayer, until when it would have waited.
fn wait<H>(forker: &Forker<'_, H>, events: &OwnedFd) -> (OwnedFd, Peer, Option<u64>) {
    loop {
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 4];
        // Interrupted: nothing has come, the loop waits again.
        let Ok((come, _)) = epoll::wait(events, &mut buffer, None) else {
            continue;
        };
        if forker.board.orders() == Orders::Drain {
            exit_now(0);
        }
        for number in come.iter().map(|event| event.data.u64() as usize) {
            let Some(listener) = forker.listeners.get(number) else {
                // Nobody: another was quicker, or it is the word of a drain.
                let Some(delayer) = forker.delayer.filter(|_| number == forker.listeners.len()) else {
                    continue;
                };
                if let Ok(Some((socket, peer, _, until))) = delayer::receive(&delayer.back) {
                    return (socket, peer, Some(until));
                }
                continue;
            };
            match acceptfrom_with(listener, SocketFlags::CLOEXEC) {
                Ok((socket, address)) => return (socket, Peer::from_accept(address), None),
                Err(errno) if classify(errno) == AcceptError::Fatal => exit_now(111),
                // Out of descriptors is impossible here but for a limit that forbids any. Leaving
                // makes the forker, which pauses, deal with it.
                Err(errno) if classify(errno) == AcceptError::Pause => exit_now(111),
                Err(_) => {}
            }
        }
    }
}

/// Has the forker refill when half of the spares are gone, or see that nobody waits any more.
fn wake_forker_if_low<H>(forker: &Forker<'_, H>) {
    let low = forker.settings.spares_of(forker.index) / 2;
    let left = forker.board.dec_idle(forker.index);
    if left == low || left == 0 {
        let _ = rustix::io::write(&forker.control, &1u64.to_ne_bytes());
    }
}

/// Serves a connection in a process that goes on, and writes its two lines itself: the supervisor,
/// who sees ends of processes only, could miss it.
fn serve_one_of_many<H>(forker: &mut Forker<'_, H>, socket: OwnedFd, slot: usize, entry: Entry) -> Report
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    let pid = crate::system::procfs::own_id();
    if forker.board.take_notice_request() {
        forker.wake_supervisor();
    }
    let tells = forker.log.logs_connections();
    connection::take_received_any();
    if tells {
        let count = forker.board.count(Phase::Serving, None);
        forker.log.accept(&entry, pid, count, forker.settings.max_connections);
    }
    let before = if tells { own_usage().0 } else { Duration::ZERO };
    let report = conn::handle(forker, socket, slot, entry);
    let bytes = forker.board.display().bytes(slot);
    // From here on the connection has ended, also if this process is killed now.
    forker.board.mark_idle(slot);
    forker.tell_delayer();
    let how = How::Exited(conn::exit_code(&report, forker.door));
    let outcome = Outcome::new(how, Some(report.clone()));
    if tells {
        let (cpu, peak_kib) = own_usage();
        let duration = Duration::from_nanos(now() - entry.start);
        let spent = Usage { duration, bytes, cpu: cpu.saturating_sub(before), peak_kib };
        forker.log.end(&entry, pid, &outcome, &spent);
    }
    if let Some(fault) = Fault::of(how, &outcome) {
        forker.charge(entry.peer, fault);
    }
    report
}
