//! The controllers of a server: processes that have connected to its control socket.
//!
//! The supervisor, or the master where there is one, accepts them and checks who they are; a master
//! also hands them to the supervisors. Once a controller has sent something, it gets a control
//! process, which reads the request; supervisor and master read orders only, in fixed words.

mod handover;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::served::{ServedController, has_place};
use crate::ipc::messages::{ControllerArrival, Receiver};
use crate::ipc::steering::{Order, OrderAnswer, OrderReceiver};
use crate::net::control_socket::{ControlSocket, Controller};
use crate::net::operator::{Operator, Rank};

/// Controllers that have sent nothing yet, at most; the oldest makes room for the next one.
const MAX_WAITING: usize = 64;

/// Control processes at a time, at most, beside those that follow the log. Beyond, controllers
/// wait.
const MAX_SERVED: usize = 16;

/// Control processes that follow the log, at most.
const MAX_FOLLOWERS: usize = 16;

/// Controllers that are accepted before others have their turn.
const ACCEPTS: usize = 64;

/// The time until the socket is looked at again after it was out of descriptors.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The time after which a control process makes room for a controller that waits, unless the
/// supervisor owes it an answer or it follows the log.
const LONGEST: Duration = Duration::from_secs(60);

/// The time that control processes have to exit when the server has stopped.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Orders that are taken from a control process before others have their turn.
const TURN: usize = 256;

/// The events of the control socket, and of the channel on which the master hands controllers over;
/// others are the numbers of descriptors.
const SOCKET_EVENT: u64 = u64::MAX;
const HANDED_EVENT: u64 = u64::MAX - 1;

/// A controller that has sent nothing yet.
pub(crate) struct WaitingController {
    pub(crate) stream: OwnedFd,
    pub(crate) operator: Operator,
}

/// The control socket, and all controllers. Without a control socket, nothing of it is used.
pub(crate) struct Controllers {
    socket: Option<ControlSocket>,
    /// Controllers that the master hands over.
    handed: Option<Receiver<ControllerArrival>>,
    /// Readable if anything below is to be looked at (epoll(7)).
    queue: Option<OwnedFd>,
    waiting: Vec<WaitingController>,
    pub(crate) served: Vec<ServedController>,
    /// Whether the socket is watched: not while it has more controllers than can be taken.
    is_watched: bool,
    /// When it is watched again.
    retry_at: Option<Instant>,
    /// Whether a controller that has sent something waits until another is served.
    is_full: bool,
    /// When control processes that are left after a stop are killed.
    kill_at: Option<Instant>,
}

/// What has happened.
pub(crate) enum ControllerEvent {
    /// A process has connected that may do nothing.
    Refused(Operator),
    /// This controller has sent something, and gets a control process.
    Request(WaitingController),
    /// This control process makes room for a controller that waits.
    Overdue(i32),
    /// The operator of this control process gives an order, with the path of a binary.
    Order(i32, Order, Option<PathBuf>),
}

impl Controllers {
    /// The controllers of a server with this control socket, those of a service whose master hands
    /// them over, or none; `is_observed` if an observer asks, too.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new(
        mut socket: Option<ControlSocket>,
        mut handed: Option<Receiver<ControllerArrival>>,
        is_observed: bool,
        place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>,
    ) -> io::Result<Controllers> {
        let mut queue = None;
        if socket.is_some() || handed.is_some() || is_observed {
            let new = place(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
            if let Some(socket) = &mut socket {
                socket.place(&|fd| place(fd.try_clone_to_owned()?))?;
                watch(&new, socket.as_fd(), SOCKET_EVENT)?;
            }
            if let Some(handed) = &mut handed {
                handed.place(place)?;
                watch(&new, handed.as_fd(), HANDED_EVENT)?;
            }
            queue = Some(new);
        }
        Ok(Controllers {
            socket,
            handed,
            queue,
            waiting: Vec::new(),
            served: Vec::new(),
            is_watched: true,
            retry_at: None,
            is_full: false,
            kill_at: None,
        })
    }

    /// Whether operators can reach this server.
    pub(crate) fn are_possible(&self) -> bool {
        self.queue.is_some()
    }

    /// Readable if something has happened.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }

    /// When [`Controllers::take_events`] is due without an event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let overdue = self.overdue().map(|served| served.started + LONGEST);
        [self.retry_at, self.kill_at, overdue.filter(|_| self.is_full)].into_iter().flatten().min()
    }

    /// The control process that makes room first.
    fn overdue(&self) -> Option<&ServedController> {
        self.served.iter().filter(|served| !served.stays()).min_by_key(|served| served.started)
    }

    /// What has happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<ControllerEvent> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            return self.served.iter().map(|served| ControllerEvent::Overdue(served.pid)).collect();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.watch_socket(true);
        }
        let Some(queue) = &self.queue else { return Vec::new() };
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 32];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((ready, _)) = epoll::wait(queue, &mut buffer, Some(&zero)) else { return Vec::new() };
        let ready: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
        let mut events = Vec::new();
        if let Some(served) = self.overdue().filter(|served| self.is_full && served.started + LONGEST <= now)
        {
            events.push(ControllerEvent::Overdue(served.pid));
            self.is_full = false;
        }
        for event in ready {
            match event {
                SOCKET_EVENT => self.accept(&mut events),
                HANDED_EVENT => self.receive_handed(),
                number => self.read(number, &mut events),
            }
        }
        events
    }

    fn accept(&mut self, events: &mut Vec<ControllerEvent>) {
        for _ in 0..ACCEPTS {
            let Some(socket) = &self.socket else { return };
            match socket.accept() {
                Ok(Some(Controller { stream, operator, is_permitted: true })) => {
                    self.arrive(stream, operator);
                }
                Ok(Some(Controller { stream, operator, .. })) => {
                    refuse(&stream);
                    events.push(ControllerEvent::Refused(operator));
                }
                Ok(None) => return,
                // Out of descriptors: the controllers wait in the backlog until one ends.
                Err(_) => return self.watch_socket(false),
            }
        }
    }

    fn receive_handed(&mut self) {
        while let Some(handed) = &self.handed {
            match handed.receive() {
                Ok(Some((stream, ControllerArrival { operator }))) => {
                    self.arrive(stream, operator);
                }
                // The master has ended, and with it this process soon does.
                Ok(None) => {
                    if let Some(queue) = &self.queue {
                        let _ = epoll::delete(queue, handed);
                    }
                    self.handed = None;
                }
                // None, or no descriptor for it: the controller is closed.
                Err(_) => return,
            }
        }
    }

    /// A controller has connected, and has sent nothing yet.
    pub(crate) fn arrive(&mut self, stream: OwnedFd, operator: Operator) {
        if self.waiting.len() >= MAX_WAITING {
            let ranks = self.waiting.iter().map(|waiting| waiting.operator.rank);
            match ranks.enumerate().min_by_key(|(_, rank)| *rank) {
                Some((_, lowest)) if lowest > operator.rank => return,
                oldest => drop(self.waiting.remove(oldest.map_or(0, |(at, _)| at))),
            }
        }
        let number = stream.as_raw_fd() as u64;
        if self.queue.as_ref().is_some_and(|queue| watch(queue, stream.as_fd(), number).is_ok()) {
            self.waiting.push(WaitingController { stream, operator });
        }
    }

    fn read(&mut self, number: u64, events: &mut Vec<ControllerEvent>) {
        let is_it = |descriptor: BorrowedFd<'_>| descriptor.as_raw_fd() as u64 == number;
        if let Some(served) = self.served.iter().find(|served| is_it(served.orders.as_fd())) {
            for _ in 0..TURN {
                match served.orders.receive() {
                    Ok(Some((order, path))) => events.push(ControllerEvent::Order(served.pid, order, path)),
                    Err(Errno::AGAIN) => return,
                    // The control process has ended, or sent what is no order: it is reaped.
                    Ok(None) | Err(_) => return self.stop_watching(number),
                }
            }
            return;
        }
        let Some(at) = self.waiting.iter().position(|waiting| is_it(waiting.stream.as_fd())) else { return };
        self.stop_watching(number);
        if has_gone(&self.waiting[at].stream) {
            self.waiting.remove(at);
        } else if self.has_room(self.waiting[at].operator.rank, events) {
            events.push(ControllerEvent::Request(self.waiting.remove(at)));
        } else {
            // It is looked at again when a control process has ended. Others make no room for one
            // that only the bound of observers keeps waiting.
            self.is_full |= !self.has_room(Rank::Reader, events);
        }
    }

    /// Whether a controller can be served beside the others, and those that are to be served now.
    fn has_room(&self, rank: Rank, events: &[ControllerEvent]) -> bool {
        let new = events.iter().filter_map(|event| match event {
            ControllerEvent::Request(waiting) => Some(waiting.operator.rank),
            _ => None,
        });
        let served = self.served.iter().filter(|served| !served.follows);
        has_place(rank, served.map(|served| served.operator.rank).chain(new), MAX_SERVED)
    }

    fn stop_watching(&self, number: u64) {
        let waiting = self.waiting.iter().map(|waiting| waiting.stream.as_fd());
        let served = self.served.iter().map(|served| served.orders.as_fd());
        let found = waiting.chain(served).find(|descriptor| descriptor.as_raw_fd() as u64 == number);
        if let (Some(descriptor), Some(queue)) = (found, &self.queue) {
            let _ = epoll::delete(queue, descriptor);
        }
    }

    fn watch_socket(&mut self, watched: bool) {
        if let (Some(queue), Some(socket)) = (&self.queue, &self.socket)
            && self.is_watched != watched
        {
            let _ = match watched {
                true => watch(queue, socket.as_fd(), SOCKET_EVENT),
                false => epoll::delete(queue, socket),
            };
            self.is_watched = watched;
            self.retry_at = (!watched).then(|| Instant::now() + RETRY_AFTER);
        }
    }

    /// Adds the control process of a controller.
    pub(crate) fn add(&mut self, pid: i32, operator: Operator, orders: OrderReceiver) {
        let number = orders.as_fd().as_raw_fd() as u64;
        if let Some(queue) = &self.queue {
            // If it cannot be watched, its orders are not taken; its end is.
            let _ = watch(queue, orders.as_fd(), number);
        }
        self.served.push(ServedController::new(pid, operator, orders));
    }

    pub(crate) fn get_mut(&mut self, pid: i32) -> Option<&mut ServedController> {
        self.served.iter_mut().find(|served| served.pid == pid)
    }

    /// Whether this is a control process.
    pub(crate) fn has(&self, pid: i32) -> bool {
        self.served.iter().any(|served| served.pid == pid)
    }

    /// Counts a control process as one that follows the log.
    pub(crate) fn follow(&mut self, pid: i32) -> OrderAnswer {
        let Some(rank) = self.get_mut(pid).map(|served| served.operator.rank) else {
            return OrderAnswer::Full;
        };
        let followers = self.served.iter().filter(|served| served.follows);
        if !has_place(rank, followers.map(|served| served.operator.rank), MAX_FOLLOWERS) {
            return OrderAnswer::Full;
        }
        self.served.iter_mut().filter(|served| served.pid == pid).for_each(|served| served.follows = true);
        self.look_again();
        OrderAnswer::Done(1)
    }

    /// Removes a control process that has ended.
    pub(crate) fn remove(&mut self, pid: i32) {
        self.served.retain(|served| served.pid != pid);
        self.look_again();
    }

    /// Looks again at the controllers that wait for a control process.
    fn look_again(&mut self) {
        self.is_full = false;
        let Some(queue) = &self.queue else { return };
        for waiting in &self.waiting {
            // Those that are watched already stay as they are.
            let _ = watch(queue, waiting.stream.as_fd(), waiting.stream.as_raw_fd() as u64);
        }
        self.watch_socket(true);
    }

    /// Closes everything: the server has stopped. Control processes see the end of their channel;
    /// those that do not exit in a moment are overdue.
    pub(crate) fn close(&mut self) {
        if self.queue.is_none() {
            return;
        }
        self.kill_at = Some(Instant::now() + CLOSE_WITHIN);
        self.waiting.clear();
        self.served.iter_mut().for_each(|served| served.orders.close());
        self.queue = None;
        self.handed = None;
        self.socket = None;
    }
}

/// Whether a controller has closed its socket without a request.
fn has_gone(stream: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(rustix::net::recv(stream, &mut [0; 1][..], flags), Ok((_, 1..)) | Err(Errno::AGAIN))
}

fn watch(queue: &OwnedFd, descriptor: BorrowedFd<'_>, number: u64) -> Result<(), Errno> {
    epoll::add(queue, descriptor, EventData::new_u64(number), EventFlags::IN)
}

/// Tells a controller that may do nothing so.
fn refuse(stream: &OwnedFd) {
    let line = b"{\"error\":\"this user may not read or change this server\",\"code\":111}\n";
    let _ = rustix::net::send(stream, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_observers_make_room_for_readers_and_these_for_owners() {
        let mut controllers = Controllers::new(None, None, true, &Ok).expect("a queue");
        let mut arrive = |rank: Rank, times: usize| {
            for _ in 0..times {
                let stream = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("one");
                controllers.arrive(stream, Operator { uid: 0, pid: 1, rank });
            }
            let count = |wanted| controllers.waiting.iter().filter(|one| one.operator.rank == wanted).count();
            [count(Rank::Steward), count(Rank::Reader), count(Rank::Owner)]
        };
        assert_eq!(arrive(Rank::Steward, MAX_WAITING + 1), [MAX_WAITING, 0, 0]);
        assert_eq!(arrive(Rank::Reader, 10), [MAX_WAITING - 10, 10, 0]);
        assert_eq!(arrive(Rank::Owner, MAX_WAITING - 4), [0, 4, MAX_WAITING - 4]);
        assert_eq!(arrive(Rank::Steward, 1), [0, 4, MAX_WAITING - 4]);
        assert_eq!(arrive(Rank::Owner, 5), [0, 0, MAX_WAITING]);
        assert_eq!(arrive(Rank::Reader, 1), [0, 0, MAX_WAITING]);
    }
}
