//! The connector's loop: waits for calls and connections, and answers.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::Pid;
use tine_sys::call_notices::{CallAnswer, CallNotice, answer, is_waiting, put, receive};
use tine_sys::process::{Alone, exit_now};

use super::attempt::ConnectAttempt;
use super::caller::{CallerSocket, CallerView};
use super::decide::{ConnectRules, ConnectVerdict, decide};
use super::pending::{PendingCall, PendingCalls, TOKENS};
use super::{MAX_PENDING, UNANSWERED_PLACES};
use crate::error::{Error, next_move};
use crate::ipc::connecting::{CallListener, UnansweredCalls};
use crate::ipc::text_channel::TextChannel;
use crate::jail::PrivateNetwork;
use crate::jail::full::FullJail;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{StartReport, cannot, start_helper};
use crate::system::open_files::raise_limit;

/// Descriptors beside those of pending calls: listeners, those of the call in hand, what was open.
const OTHER_DESCRIPTORS: usize = 128;

/// Calls of one listener that are answered before another one has its turn.
const TURN: usize = 16;

/// The kernel does not tell that a caller waits no more: that is asked so often.
const LOOK: Duration = Duration::from_secs(1);

/// The place of the call in hand in the table of unanswered calls; those that are pending have the
/// others.
const IN_HAND: usize = UNANSWERED_PLACES - 1;

/// The event of a new listener. Those of listeners are their numbers with this bit.
const ARRIVAL: u64 = u64::MAX;
const LISTENER: u64 = TOKENS;

/// What the supervisor hands to the connector: everything that it keeps, its user included.
pub(crate) struct ConnectorStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) full: FullJail,
    pub(crate) keeps_to_peer: bool,
    /// The listeners that an earlier connector had.
    pub(crate) listeners: Vec<CallListener>,
    pub(crate) arrivals: TextChannel,
    pub(crate) unanswered: UnansweredCalls,
    pub(crate) report: StartReport,
}

struct Connector {
    keeps_to_peer: bool,
    rules: ConnectRules,
    view: CallerView,
    events: OwnedFd,
    listeners: Vec<CallListener>,
    arrivals: Option<TextChannel>,
    pending: PendingCalls<ConnectAttempt>,
    unanswered: UnansweredCalls,
    look_at: Instant,
}

/// Runs as the connector until no process is left that could call it.
pub(crate) fn run(start: ConnectorStart) -> ! {
    // The user stays: it has made the user namespaces of the jails, so it can look at the processes
    // in there without a capability (user_namespaces(7)).
    let entered = start_helper(start.alone, None, start.supervisor, c"tine: connector");
    let made = entered
        .and_then(|()| Connector::new(start.full, start.keeps_to_peer, start.arrivals, start.unanswered));
    let mut connector = start.report.finish(made, &ConfinedRole::Connector);
    start.listeners.into_iter().for_each(|listener| connector.add(listener));
    while connector.arrivals.is_some() || !connector.listeners.is_empty() {
        connector.step();
    }
    exit_now(0)
}

/// Opens `/proc`, and makes it the root of this process, where that is permitted: the one that it
/// shares with all others is then out of reach.
fn keep_proc_only() -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).ok()?;
    if rustix::process::chroot("/proc").is_ok() {
        let _ = rustix::process::chdir("/");
    }
    Some(proc)
}

impl Connector {
    fn new(
        full: FullJail,
        keeps_to_peer: bool,
        arrivals: TextChannel,
        unanswered: UnansweredCalls,
    ) -> Result<Connector, Error> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC);
        let events = events.map_err(cannot("wait for calls", next_move::of_call))?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&events, &arrivals, epoll::EventData::new_u64(ARRIVAL), flags)
            .map_err(cannot("wait for forkers", next_move::of_call))?;
        let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let network = own.ok().and_then(|own| tine_sys::socket::network_of(own.as_fd()).ok());
        let (_, room) = raise_limit((MAX_PENDING + OTHER_DESCRIPTORS) as u64);
        let room = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(OTHER_DESCRIPTORS);
        Ok(Connector {
            keeps_to_peer,
            rules: ConnectRules {
                allowed: full.allowed,
                has_loopback: full.network == PrivateNetwork::Loopback,
            },
            view: CallerView { proc: keep_proc_only(), network },
            events,
            listeners: Vec::new(),
            arrivals: Some(arrivals),
            pending: PendingCalls::new(room.min(MAX_PENDING)),
            unanswered,
            look_at: Instant::now(),
        })
    }

    /// Waits for events, and handles them.
    fn step(&mut self) {
        let look = (!self.pending.is_empty()).then_some(self.look_at);
        let deadline = [look, self.pending.deadline()].into_iter().flatten().min();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        // Interrupted: no event, and the loop waits again.
        let Ok((events, _)) = epoll::wait(&self.events, &mut buffer, left.as_ref()) else { return };
        for event in events {
            let (number, flags) = (event.data.u64(), event.flags);
            match number {
                ARRIVAL => self.receive_listeners(),
                listener if listener >= LISTENER => self.serve(listener & !LISTENER, flags),
                token => self.connected(token),
            }
        }
        self.look_at_callers();
    }

    fn receive_listeners(&mut self) {
        while let Some(arrivals) = &self.arrivals {
            match CallListener::receive(arrivals) {
                Ok(Some(listener)) => self.add(listener),
                // The last forker has ended, and there will be none.
                Ok(None) => self.arrivals = None,
                Err(Errno::AGAIN) => return,
                Err(_) => {}
            }
        }
    }

    /// Adds a listener, and answers what an earlier connector has left.
    fn add(&mut self, listener: CallListener) {
        // The supervisor and the forker have sent it.
        if self.listeners.iter().any(|other| other.number == listener.number) {
            return;
        }
        let lost: Vec<(usize, u64)> = self.unanswered.of(listener.number).collect();
        for (place, id) in lost {
            let _ = answer(listener.as_fd(), id, CallAnswer::Failed(Errno::NETDOWN));
            self.unanswered.clear(place);
        }
        let event = epoll::EventData::new_u64(LISTENER | listener.number);
        // Without memory for it, its calls fail (ENOSYS).
        if epoll::add(&self.events, &listener, event, epoll::EventFlags::IN).is_ok() {
            self.listeners.push(listener);
        }
    }

    /// Serves calls of a listener; removes it if no process is left that could make one.
    fn serve(&mut self, number: u64, flags: epoll::EventFlags) {
        for _ in 0..TURN {
            let Some(at) = self.listeners.iter().position(|listener| listener.number == number) else {
                return;
            };
            match receive(self.listeners[at].as_fd()) {
                Ok(Some(notice)) => {
                    self.unanswered.note(IN_HAND, number, notice.id);
                    self.handle(at, &notice);
                    self.unanswered.clear(IN_HAND);
                }
                Ok(None) if flags.contains(epoll::EventFlags::HUP) => {
                    self.listeners.swap_remove(at);
                    let ended = self.pending.all().filter(|(_, call)| call.listener == number);
                    let ended: Vec<u64> = ended.map(|(token, _)| token).collect();
                    ended.into_iter().for_each(|token| drop(self.take(token)));
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn handle(&mut self, at: usize, notice: &CallNotice) {
        let looked = self.view.look(notice);
        let listener = &self.listeners[at];
        // If so, all that was looked at is of the caller, and not of another process by its number.
        if !is_waiting(listener.as_fd(), notice.id) {
            return;
        }
        let answered = match looked {
            Err(why) => Some(CallAnswer::Failed(why)),
            Ok((asked, socket)) => match (decide(&asked, &self.rules), socket) {
                (ConnectVerdict::Refuse(why), _) => Some(CallAnswer::Failed(why)),
                (ConnectVerdict::Connect(to), Some(socket)) => self.connect(at, notice.id, socket, to),
                (ConnectVerdict::Continue | ConnectVerdict::Connect(_), _) => Some(CallAnswer::Continued),
            },
        };
        if let Some(answered) = answered {
            let _ = answer(self.listeners[at].as_fd(), notice.id, answered);
        }
    }

    /// Connects for a call. Returns the answer, if there is one already.
    fn connect(&mut self, at: usize, id: u64, socket: CallerSocket, to: SocketAddr) -> Option<CallAnswer> {
        let is_blocking = socket.is_blocking;
        if is_blocking && self.pending.is_full() {
            self.drop_ended();
            if self.pending.is_full() {
                return Some(CallAnswer::Failed(Errno::AGAIN));
            }
        }
        let (attempt, is_connected) = match ConnectAttempt::begin(socket, to, self.keeps_to_peer) {
            Ok(begun) => begun,
            Err(why) => return Some(CallAnswer::Failed(why)),
        };
        let listener = &self.listeners[at];
        match (is_connected, is_blocking) {
            (true, _) => hand_over(listener, id, &attempt, CallAnswer::Done),
            (false, false) => hand_over(listener, id, &attempt, CallAnswer::Failed(Errno::INPROGRESS)),
            (false, true) => {
                let wait = sockopt::socket_timeout(&attempt.socket, Timeout::Send).ok().flatten();
                let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
                let call = PendingCall { listener: listener.number, id, socket: attempt, deadline };
                self.keep(call)
            }
        }
    }

    /// Keeps a call until its connection is established or has failed.
    fn keep(&mut self, call: PendingCall<ConnectAttempt>) -> Option<CallAnswer> {
        let no_room = Some(CallAnswer::Failed(Errno::AGAIN));
        if self.pending.is_empty() {
            self.look_at = Instant::now() + LOOK;
        }
        let (number, id) = (call.listener, call.id);
        let Ok(token) = self.pending.add(call) else { return no_room };
        self.unanswered.note(PendingCalls::<ConnectAttempt>::place(token), number, id);
        let added = self.pending.get(token).map(|call| {
            let data = epoll::EventData::new_u64(token);
            epoll::add(&self.events, &call.socket.socket, data, epoll::EventFlags::OUT)
        });
        if added.is_some_and(|added| added.is_ok()) {
            return None;
        }
        drop(self.take(token));
        no_room
    }

    fn take(&mut self, token: u64) -> Option<PendingCall<ConnectAttempt>> {
        let call = self.pending.take(token)?;
        self.unanswered.clear(PendingCalls::<ConnectAttempt>::place(token));
        Some(call)
    }

    /// Answers a call whose connection is established or has failed.
    fn connected(&mut self, token: u64) {
        let Some(call) = self.pending.get(token) else { return };
        let result = sockopt::socket_error(&call.socket.socket).and_then(|error| error);
        self.finish(token, result);
    }

    /// Answers a call with what it has come to.
    fn finish(&mut self, token: u64, result: Result<(), Errno>) {
        let Some(call) = self.pending.take(token) else { return };
        let listener = self.listeners.iter().find(|listener| listener.number == call.listener);
        if let Some(listener) = listener {
            let result = match result {
                Ok(()) => hand_over(listener, call.id, &call.socket, CallAnswer::Done),
                Err(why @ Errno::INPROGRESS) => {
                    hand_over(listener, call.id, &call.socket, CallAnswer::Failed(why))
                }
                Err(why) => Some(CallAnswer::Failed(why)),
            };
            let _ = result.map(|result| answer(listener.as_fd(), call.id, result));
        }
        self.unanswered.clear(PendingCalls::<ConnectAttempt>::place(token));
    }

    /// Drops calls that wait no more, and answers those that do not want to wait longer.
    fn look_at_callers(&mut self) {
        let now = Instant::now();
        if self.look_at <= now && !self.pending.is_empty() {
            self.look_at = now + LOOK;
            self.drop_ended();
        }
        if self.pending.deadline().is_some_and(|deadline| deadline <= now) {
            let late = self.pending.all().filter(|(_, call)| call.deadline.is_some_and(|at| at <= now));
            let late: Vec<u64> = late.map(|(token, _)| token).collect();
            late.into_iter().for_each(|token| self.finish(token, Err(Errno::INPROGRESS)));
        }
    }

    /// Drops the calls whose callers have ended, or were interrupted by a signal.
    fn drop_ended(&mut self) {
        let waits = |call: &PendingCall<ConnectAttempt>| {
            let listener = self.listeners.iter().find(|listener| listener.number == call.listener);
            listener.is_some_and(|listener| is_waiting(listener.as_fd(), call.id))
        };
        let ended = self.pending.all().filter(|(_, call)| !waits(call));
        let ended: Vec<u64> = ended.map(|(token, _)| token).collect();
        ended.into_iter().for_each(|token| drop(self.take(token)));
    }
}

/// Puts a socket in the place of that of its caller. Returns the answer.
fn hand_over(
    listener: &CallListener,
    id: u64,
    attempt: &ConnectAttempt,
    answer: CallAnswer,
) -> Option<CallAnswer> {
    attempt.finish();
    let CallerSocket { number, closes_on_exec, .. } = attempt.caller;
    let handed = put(listener.as_fd(), id, attempt.socket.as_fd(), number, closes_on_exec);
    Some(handed.map_or_else(|why| CallAnswer::Failed(next_move::errno(&why)), |()| answer))
}
