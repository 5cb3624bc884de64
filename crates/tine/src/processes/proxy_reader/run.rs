//! The proxy reader's loop: receives proxies, reads their headers, and passes their clients on.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use tine_sys::process::exit_now;

use super::ProxyReaderStart;
use super::pending::{Pending, PendingProxy};
use super::read::{HeaderFault, IdentifiedClient, LookBuffer, Reading, client_of};
use crate::admission::reason::Reason;
use crate::error::next_move;
use crate::ipc::messages::{Identified, ProxyArrival, Receiver, Sender};
use crate::log::Log;
use crate::log::limit::{Emit, LineLimit};
use crate::net::peer::Peer;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{cannot, start_helper};
use crate::system::clock::now;
use crate::system::open_files::raise_limit;
use crate::system::wakeup::Wakeup;

/// Proxies whose header is not complete, and clients that the forkers have not taken yet, at most.
const MAX_PROXIES: u64 = 16_384;

/// Proxies that are received before the others have their turn.
const RECEIVE_BATCH: usize = 256;

/// Lines of the log about headers a second; the rest is counted.
const LINES_PER_SECOND: u64 = 10;

// Numbers of events; larger ones are proxies.
const ARRIVAL_EVENT: u64 = 0;
const LAST_EVENT: u64 = 1;
const ROOM_EVENT: u64 = 2;
const FIRST_PROXY_EVENT: u64 = 3;

struct ProxyReader {
    queue: OwnedFd,
    arrivals: Receiver<ProxyArrival>,
    identified: Sender<Identified>,
    last: Wakeup,
    log: Log,
    line_limit: LineLimit,
    pending: Pending<OwnedFd>,
    /// Clients that the forkers have not taken yet, in order.
    clients: VecDeque<IdentifiedClient>,
    /// The queue watches whether the forkers take clients again.
    waits_for_room: bool,
    /// No more proxies will come, once those in the channel are received.
    is_last: bool,
    max: usize,
    look: LookBuffer,
}

/// Runs as the proxy reader until the server drains and every header is read.
pub(crate) fn run(start: ProxyReaderStart) -> ! {
    let role = ConfinedRole::ProxyReader;
    let entered = start_helper(start.alone, start.identity.as_ref(), start.supervisor, c"tine: proxy");
    let queue = || {
        event_queue(&start.arrivals, &start.last)
            .map_err(cannot("wait for PROXY headers", next_move::of_call))
    };
    let max = descriptors_for_proxies();
    // Everything is open; from here on only what is passed is served.
    let queue = start.report.finish(entered.and_then(|()| queue()), &role);
    let mut reader = ProxyReader {
        queue,
        arrivals: start.arrivals,
        identified: start.identified,
        last: start.last,
        log: start.log,
        line_limit: LineLimit::of(LINES_PER_SECOND),
        pending: Pending::new(FIRST_PROXY_EVENT, nanoseconds(start.timeout)),
        clients: VecDeque::new(),
        waits_for_room: false,
        is_last: false,
        max,
        look: LookBuffer::new(),
    };
    while !reader.is_done() {
        reader.turn();
    }
    exit_now(0)
}

/// Raises the limit on descriptors, and returns how many are for proxies.
fn descriptors_for_proxies() -> usize {
    const OTHER_DESCRIPTORS: u64 = 64;
    let (_, limit) = raise_limit(MAX_PROXIES + OTHER_DESCRIPTORS);
    limit.saturating_sub(OTHER_DESCRIPTORS).clamp(1, MAX_PROXIES) as usize
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn event_queue(arrivals: &Receiver<ProxyArrival>, last: &Wakeup) -> Result<OwnedFd, Errno> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&queue, arrivals, epoll::EventData::new_u64(ARRIVAL_EVENT), epoll::EventFlags::IN)?;
    epoll::add(&queue, last, epoll::EventData::new_u64(LAST_EVENT), epoll::EventFlags::IN)?;
    Ok(queue)
}

impl ProxyReader {
    fn is_done(&self) -> bool {
        self.is_last && self.pending.len() == 0 && self.clients.is_empty()
    }

    /// Waits, and handles what there is.
    fn turn(&mut self) {
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        let timeout = self.timeout();
        // Interrupted: no event, and the deadlines are checked.
        let (events, _) =
            epoll::wait(&self.queue, &mut buffer, timeout.as_ref()).unwrap_or((&mut [], &mut []));
        for event in events {
            let flags = event.flags;
            match event.data.u64() {
                ARRIVAL_EVENT => _ = self.receive(),
                LAST_EVENT => self.receive_last(),
                ROOM_EVENT => {}
                number => self.read(number, has_ended(flags)),
            }
        }
        for proxy in self.pending.take_expired(now()) {
            self.unwatch(&proxy.socket);
            self.reject(proxy.proxy, HeaderFault::Late);
        }
        self.pass_clients();
        if let Some(count) = self.line_limit.due(Instant::now()) {
            self.log.rejects_suppressed(count, Reason::Proxy.name());
        }
    }

    /// The time until the next deadline.
    fn timeout(&self) -> Option<Timespec> {
        let header = self.pending.next_deadline().map(|at| Duration::from_nanos(at.saturating_sub(now())));
        let line = self.line_limit.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let left = header.into_iter().chain(line).min()?;
        // A time beyond the kernel's range is as good as none.
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    /// Receives proxies; false if there may be more.
    fn receive(&mut self) -> bool {
        for _ in 0..RECEIVE_BATCH {
            match self.arrivals.receive() {
                Ok(Some((socket, ProxyArrival { proxy }))) => self.begin(socket, proxy),
                Ok(None) => {
                    // No process is left that could pass one.
                    let _ = epoll::delete(&self.queue, &self.arrivals);
                    self.is_last = true;
                    return true;
                }
                Err(Errno::AGAIN) => return true,
                // Out of descriptors: that proxy is closed.
                Err(_) => {}
            }
        }
        false
    }

    /// Receives the proxies that came before the last forker noted that no more will come.
    fn receive_last(&mut self) {
        let _ = epoll::delete(&self.queue, &self.last);
        while !self.receive() {}
        self.is_last = true;
    }

    /// Reads the header of a proxy that has just come; mostly it is there already.
    fn begin(&mut self, socket: OwnedFd, proxy: Peer) {
        if self.pending.len() + self.clients.len() >= self.max {
            return self.reject(proxy, HeaderFault::TooMany);
        }
        match self.look.read(&socket, false) {
            Reading::Waits => self.watch(socket, proxy),
            Reading::Done(header) => {
                self.clients.push_back(IdentifiedClient { socket, message: client_of(header, proxy) });
            }
            Reading::Failed(fault) => self.reject(proxy, fault),
        }
    }

    /// Watches a proxy whose header is not complete. An event comes with each arrival of bytes
    /// (`EPOLLET`): those of a header stay in the socket until it is complete.
    fn watch(&mut self, socket: OwnedFd, proxy: Peer) {
        let number = self.pending.add(socket, proxy, now());
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let watched = self.pending.get(number).map(|pending| {
            epoll::add(&self.queue, &pending.socket, epoll::EventData::new_u64(number), flags)
        });
        if !matches!(watched, Some(Ok(()))) {
            self.pending.remove(number);
            self.reject(proxy, HeaderFault::TooMany);
        }
    }

    fn unwatch(&self, socket: impl AsFd) {
        // The queue forgets a socket by itself when the last process closes it only.
        let _ = epoll::delete(&self.queue, socket);
    }

    /// Reads more of the header of a proxy.
    fn read(&mut self, number: u64, has_ended: bool) {
        let Some(pending) = self.pending.get(number) else { return };
        let reading = self.look.read(&pending.socket, has_ended);
        if reading == Reading::Waits {
            return;
        }
        let Some(PendingProxy { socket, proxy, .. }) = self.pending.remove(number) else { return };
        self.unwatch(&socket);
        match reading {
            Reading::Waits => {}
            Reading::Done(header) => {
                self.clients.push_back(IdentifiedClient { socket, message: client_of(header, proxy) });
            }
            Reading::Failed(fault) => self.reject(proxy, fault),
        }
    }

    /// Passes clients to the forkers, and watches for room if they are behind.
    fn pass_clients(&mut self) {
        while let Some(IdentifiedClient { socket, message }) = self.clients.front() {
            if !self.identified.send(socket.as_fd(), message) {
                break;
            }
            self.clients.pop_front();
        }
        let waits = !self.clients.is_empty();
        if waits != self.waits_for_room {
            let room = epoll::EventData::new_u64(ROOM_EVENT);
            let _ = match waits {
                true => epoll::add(&self.queue, &self.identified, room, epoll::EventFlags::OUT),
                false => epoll::delete(&self.queue, &self.identified),
            };
            self.waits_for_room = waits;
        }
    }

    /// Logs why a proxy is closed. Its unread bytes make the kernel send a reset, so that the proxy
    /// notices.
    fn reject(&mut self, proxy: Peer, fault: HeaderFault) {
        if let Emit::Line = self.line_limit.event(Instant::now()) {
            self.log.reject_proxy(&proxy, Reason::Proxy.name(), &fault.to_string());
        }
    }
}

/// Whether an event says that the other end sends no more.
fn has_ended(flags: epoll::EventFlags) -> bool {
    flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
}
