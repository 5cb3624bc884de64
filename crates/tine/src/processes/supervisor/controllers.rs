//! The controllers of a server: processes that have connected to its control socket.
//!
//! The supervisor accepts them and checks who they are. Once one has sent something, it gets a
//! control process, which reads the request; the supervisor reads orders only, in fixed words.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::error::Error;
use crate::net::control_socket::{ControlSocket, Operator};
use crate::shared::steering::{Order, OrderReceiver};

/// Controllers that have sent nothing yet, at most; the oldest makes room for the next one.
const MAX_WAITING: usize = 64;

/// Control processes at a time, at most. Beyond, controllers wait.
const MAX_SERVED: usize = 16;

/// Orders that are taken from a control process before others have their turn.
const TURN: usize = 256;

/// The event of the control socket; others are the numbers of descriptors.
const SOCKET_EVENT: u64 = u64::MAX;

/// A controller that has sent nothing yet.
pub(super) struct Waiting {
    pub(super) stream: OwnedFd,
    pub(super) operator: Operator,
}

/// A controller that has a control process.
pub(super) struct Served {
    /// The control process.
    pub(super) pid: i32,
    pub(super) operator: Operator,
    pub(super) orders: OrderReceiver,
    /// Connections whose end this controller waits for.
    pub(super) killing: usize,
    /// Connections that have ended for it.
    pub(super) killed: u64,
    /// It waits for the ends of connections.
    pub(super) awaits_killed: bool,
    /// It waits until no process accepts.
    pub(super) awaits_pause: bool,
}

/// The control socket, and all controllers. Without a control socket, nothing of it is used.
pub(super) struct Controllers {
    socket: Option<ControlSocket>,
    /// Readable if anything below is to be looked at (epoll(7)).
    queue: Option<OwnedFd>,
    waiting: Vec<Waiting>,
    pub(super) served: Vec<Served>,
    /// The number of pauses so far.
    pub(super) pauses: u64,
    /// Whether the socket is watched: not while it has more controllers than can be taken.
    is_watched: bool,
}

/// What has happened.
pub(super) enum ControllerEvent {
    /// Controllers have connected, or could not.
    Refused(Operator),
    /// This controller has sent something, and gets a control process.
    Request(Waiting),
    /// The operator of this control process gives an order.
    Order(i32, Order),
}

impl Controllers {
    /// The controllers of a server with this control socket, or without one.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(super) fn new(
        socket: Option<ControlSocket>,
        place: &impl Fn(OwnedFd) -> std::io::Result<OwnedFd>,
    ) -> Result<Controllers, Error> {
        let mut controllers = Controllers {
            socket,
            queue: None,
            waiting: Vec::new(),
            served: Vec::new(),
            pauses: 0,
            is_watched: true,
        };
        if let Some(socket) = &mut controllers.socket {
            let cannot = |why: std::io::Error| super::setup::cannot_start("the control socket", &why);
            let queue = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|why| cannot(why.into()))?;
            let queue = place(queue).map_err(cannot)?;
            socket.place(&|fd| place(fd.try_clone_to_owned()?)).map_err(cannot)?;
            watch(&queue, socket.as_fd(), SOCKET_EVENT).map_err(|why| cannot(why.into()))?;
            controllers.queue = Some(queue);
        }
        Ok(controllers)
    }

    /// Whether operators can reach this server.
    pub(super) fn are_possible(&self) -> bool {
        self.queue.is_some()
    }

    /// Readable if something has happened.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }

    /// What has happened since the last call.
    pub(super) fn take_events(&mut self) -> Vec<ControllerEvent> {
        let Some(queue) = &self.queue else { return Vec::new() };
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 32];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((ready, _)) = epoll::wait(queue, &mut buffer, Some(&zero)) else { return Vec::new() };
        let ready: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
        let mut events = Vec::new();
        for event in ready {
            match event {
                SOCKET_EVENT => self.accept(&mut events),
                number => self.read(number, &mut events),
            }
        }
        events
    }

    fn accept(&mut self, events: &mut Vec<ControllerEvent>) {
        while let Some(socket) = &self.socket {
            match socket.accept() {
                Ok(Some((stream, Ok(operator)))) => {
                    if self.waiting.len() >= MAX_WAITING {
                        drop(self.waiting.remove(0));
                    }
                    let number = stream.as_raw_fd() as u64;
                    if self.queue.as_ref().is_some_and(|queue| watch(queue, stream.as_fd(), number).is_ok()) {
                        self.waiting.push(Waiting { stream, operator });
                    }
                }
                Ok(Some((stream, Err(operator)))) => {
                    refuse(&stream);
                    events.push(ControllerEvent::Refused(operator));
                }
                Ok(None) => return,
                // Out of descriptors: the controllers wait in the backlog until one ends.
                Err(_) => return self.watch_socket(false),
            }
        }
    }

    fn read(&mut self, number: u64, events: &mut Vec<ControllerEvent>) {
        let is_it = |descriptor: BorrowedFd<'_>| descriptor.as_raw_fd() as u64 == number;
        if let Some(served) = self.served.iter().find(|served| is_it(served.orders.as_fd())) {
            for _ in 0..TURN {
                match served.orders.receive() {
                    Ok(Some(order)) => events.push(ControllerEvent::Order(served.pid, order)),
                    Err(Errno::AGAIN) => return,
                    // The control process has ended, or sent what is no order: it is reaped.
                    Ok(None) | Err(_) => return self.stop_watching(number),
                }
            }
            return;
        }
        let Some(at) = self.waiting.iter().position(|waiting| is_it(waiting.stream.as_fd())) else { return };
        if self.served.len() + requests(events) < MAX_SERVED {
            self.stop_watching(number);
            events.push(ControllerEvent::Request(self.waiting.remove(at)));
        } else {
            // Looked at again when a control process has ended.
            self.stop_watching(number);
        }
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
        }
    }

    /// Adds the control process of a controller.
    pub(super) fn add(&mut self, pid: i32, operator: Operator, orders: OrderReceiver) {
        let number = orders.as_fd().as_raw_fd() as u64;
        if let Some(queue) = &self.queue {
            // If it cannot be watched, its orders are not taken; its end is.
            let _ = watch(queue, orders.as_fd(), number);
        }
        self.served.push(Served {
            pid,
            operator,
            orders,
            killing: 0,
            killed: 0,
            awaits_killed: false,
            awaits_pause: false,
        });
    }

    pub(super) fn get_mut(&mut self, pid: i32) -> Option<&mut Served> {
        self.served.iter_mut().find(|served| served.pid == pid)
    }

    /// Removes a control process that has ended; controllers that wait for one are looked at again.
    pub(super) fn remove(&mut self, pid: i32) {
        self.served.retain(|served| served.pid != pid);
        let Some(queue) = &self.queue else { return };
        for waiting in &self.waiting {
            // Those that are watched already stay as they are.
            let _ = watch(queue, waiting.stream.as_fd(), waiting.stream.as_raw_fd() as u64);
        }
        self.watch_socket(true);
    }

    /// Closes everything: the server has stopped. Control processes see the end of their channel.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        self.served.clear();
        self.queue = None;
        self.socket = None;
    }
}

fn requests(events: &[ControllerEvent]) -> usize {
    events.iter().filter(|event| matches!(event, ControllerEvent::Request(_))).count()
}

fn watch(queue: &OwnedFd, descriptor: BorrowedFd<'_>, number: u64) -> Result<(), Errno> {
    epoll::add(queue, descriptor, EventData::new_u64(number), EventFlags::IN)
}

/// Tells a controller that may do nothing so.
fn refuse(stream: &OwnedFd) {
    let line = b"{\"error\":\"this user may not read or change this server\",\"code\":111}\n";
    let _ = rustix::net::send(stream, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
