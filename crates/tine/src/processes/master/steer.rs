//! Controllers of a server with several services: the master checks who they are, and hands each to
//! every service by way of a control process of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal};
use tine_sys::process::{Fresh, Side, exit_now, fork, reap};

use super::state::{MasterEvent, MasterState};
use super::{Master, ServiceSetup, cannot_start};
use crate::error::{Error, next_move, reason};
use crate::ipc::messages::{Channel, ControllerArrival};
use crate::ipc::steering::{Order, OrderAnswer, channel};
use crate::lifecycle::timing::KILL_WAIT;
use crate::log::Log;
use crate::net::operator::Privilege;
use crate::processes::control::NewController;
use crate::processes::control::controllers::{ControllerEvent, Controllers, WaitingController};
use crate::processes::control::router::{self, RouterStart, ServiceStream};
use crate::processes::control::served::ServedController;
use crate::processes::start::StartReport;
use crate::settings::control::Control;
use crate::system::signal::signal_one;

/// In a control process that was just forked: what it has.
pub(super) struct NewControl {
    fresh: Fresh,
    master: Pid,
    controller: NewController,
    services: Vec<ServiceStream>,
}

/// Makes the control socket, and a channel to each service. `is_observed` if an observer asks, too.
pub(super) fn set_up_control(
    control: &Control,
    is_observed: bool,
    services: &mut [ServiceSetup],
    log: &mut Log,
) -> Result<Controllers, Error> {
    let failed = |why: std::io::Error| cannot_start("the control socket", &why);
    let socket = control.bind(log)?;
    let place = |fd: OwnedFd| Ok::<OwnedFd, std::io::Error>(fd);
    if socket.is_some() || is_observed {
        for service in services {
            service.server.settings.state_file =
                socket.as_ref().and_then(|socket| control.state_file(socket, Some(&service.name)));
            service.controllers = Some(Channel::new(&place).map_err(failed)?);
        }
    }
    Controllers::new(socket, None, is_observed, &place).map_err(failed)
}

impl Master<'_> {
    /// Handles what controllers have sent. In a control process that it forked, returns what that
    /// has.
    pub(super) fn serve_controllers(
        &mut self,
        state: &MasterState,
        events: &mut Vec<MasterEvent>,
    ) -> Option<NewControl> {
        for event in self.controllers.take_events() {
            match event {
                ControllerEvent::Refused(operator) => self.log.control_denied(operator),
                ControllerEvent::Request(waiting) => match self.start_control(waiting, state) {
                    Ok(None) => {}
                    Ok(Some(new)) => return Some(new),
                    Err(why) => {
                        let next = format!("the command can be repeated; {}", next_move::of_call(&why));
                        self.log.error("cannot serve a controller", &reason(&why), &next);
                    }
                },
                // It is a child that is not reaped yet.
                ControllerEvent::Overdue(pid) => _ = signal_one(pid, Signal::KILL),
                ControllerEvent::Order(pid, order @ (Order::Reload | Order::Upgrade), path) => {
                    self.replace_for(pid, order, path);
                }
                ControllerEvent::Order(pid, order, _) => self.carry_out(pid, order, state, events),
            }
        }
        None
    }

    /// Forks the control process of a controller. Returns in both: `Some` in the new one.
    fn start_control(
        &mut self,
        waiting: WaitingController,
        state: &MasterState,
    ) -> std::io::Result<Option<NewControl>> {
        let WaitingController { stream, operator } = waiting;
        let (orders, receiver) = channel()?;
        let mut streams = Vec::new();
        let services = self.services.iter().enumerate();
        for (number, service) in services.filter(|(number, _)| !state.is_done(*number)) {
            let flags = SocketFlags::CLOEXEC;
            let (own, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            if let Some(channel) = &service.controllers {
                // If the service is behind, its end is closed, and the control process sees it.
                channel.sender.send(theirs.as_fd(), &ControllerArrival { operator });
            }
            streams.push(ServiceStream { number, name: service.name.clone(), stream: own });
        }
        let master = rustix::process::getpid();
        // The control process reads the lines of the master; supervisors do not have them.
        self.log_ring.iter().for_each(|ring| ring.set_in_forks(true));
        let forked = fork(self.alone, Signal::CHILD.as_raw());
        self.log_ring.iter().for_each(|ring| ring.set_in_forks(false));
        match forked? {
            Side::Parent(pid) => {
                self.controllers.add(pid, operator, receiver);
                Ok(None)
            }
            Side::Child(fresh) => {
                let controller = NewController { stream, operator, orders };
                Ok(Some(NewControl { fresh, master, controller, services: streams }))
            }
        }
    }

    /// Runs as a control process. It keeps what it was forked with; the rest is closed first.
    pub(super) fn run_control(self, new: NewControl) -> ! {
        let NewControl { fresh, master, controller, services } = new;
        let alone = self.alone;
        let mut log = self.log.for_connection();
        log.keep_lines_in(None);
        let log_ring = self.log_ring;
        drop(self);
        tine_sys::signal::defaults(&fresh);
        if log_ring.is_some_and(|ring| ring.make_read_only().is_err()) {
            exit_now(111);
        }
        let report = StartReport { role: "control".to_owned(), supervisor: None, log };
        router::run(RouterStart { alone, master, controller, services, log: log_ring, report })
    }

    fn carry_out(&mut self, pid: i32, order: Order, state: &MasterState, events: &mut Vec<MasterEvent>) {
        if order == Order::Follow {
            let answer = self.controllers.follow(pid);
            if let Some(served) = self.controllers.get_mut(pid) {
                served.orders.answer(answer);
            }
            return;
        }
        // A control process gives no other order than its operator may; one that is taken over
        // could. What a master does itself needs the highest privilege.
        let may = |served: &&mut ServedController| served.operator.rank.may(Privilege::Steer);
        let Some(served) = self.controllers.get_mut(pid).filter(may) else { return };
        let operator = served.operator;
        served.awaits_stop = true;
        if state.is_stopping() {
            // It sees the end of the server.
            return;
        }
        match order {
            Order::Drain => {
                self.log.control(operator, "drain", None);
                // As by the signal: older generations drain, too, and no newer one takes over.
                self.on_command(Signal::TERM.as_raw(), events);
            }
            Order::DrainService(service) if service < self.services.len() => {
                self.log.control(operator, "drain", Some(&self.services[service].name));
                self.drains.push((pid, service));
                events.push(MasterEvent::DrainRequested(service));
            }
            // The others are for the services.
            _ => {}
        }
    }

    /// Closes the controllers that were handed to services that have ended for good, and answers
    /// the operators that have waited for it.
    pub(super) fn answer_drains(&mut self, state: &MasterState) {
        for (_, service) in self.services.iter().enumerate().filter(|(number, _)| state.is_done(*number)) {
            while let Some(Ok(Some(_))) =
                service.controllers.as_ref().map(|channel| channel.receiver.receive())
            {}
        }
        let done = self.drains.extract_if(.., |(_, service)| state.is_done(*service));
        for (pid, _) in done {
            if let Some(served) = self.controllers.get_mut(pid) {
                served.orders.answer(OrderAnswer::Done(1));
            }
        }
    }

    /// Waits for the control processes, which see that the server has stopped and reply so. One
    /// whose controller does not read is killed.
    pub(super) fn end_controls(&mut self) {
        let mut pids: Vec<i32> = self.controllers.served.iter().map(|served| served.pid).collect();
        self.controllers.close();
        let deadline = Instant::now() + KILL_WAIT;
        loop {
            pids.retain(|pid| matches!(reap(*pid), Ok(None)));
            if pids.is_empty() || Instant::now() >= deadline {
                break;
            }
            self.wait(Some(deadline));
            self.reap_only();
        }
        pids.iter().for_each(|pid| _ = signal_one(*pid, Signal::KILL));
    }

    /// Reaps the control processes that have ended.
    pub(super) fn reap_controls(&mut self) {
        let pids: Vec<i32> = self.controllers.served.iter().map(|served| served.pid).collect();
        for pid in pids {
            match reap(pid) {
                Ok(None) => continue,
                Ok(Some(ended)) => self.log.control_ended(&ended),
                // It was reaped already.
                Err(_) => {}
            }
            self.controllers.remove(pid);
            self.drains.retain(|(drained_for, _)| *drained_for != pid);
        }
    }
}
