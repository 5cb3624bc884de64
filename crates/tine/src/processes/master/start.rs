//! Starts the supervisors of the services.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal};
use tine_sys::process::{Fresh, Side, exit_now, fork};

use super::{Master, ServiceSetup, cannot_start};
use crate::error::{Error, ErrorKind};
use crate::ipc::handover::link::Link;
use crate::ipc::handover::takeover::Told;
use crate::lifecycle::outcome::COMPLETED;
use crate::lifecycle::ready::Ready;
use crate::lifecycle::signals;
use crate::lifecycle::startup::{self, Start, StartEvent, StartReceiver, StartSender};
use crate::log::Log;
use crate::net::listener::Listener;
use crate::processes::start::cannot_die_with_parent;
use crate::processes::supervisor::run::{Stopped, run};
use crate::system::parent::signal_with;

/// In a process that was just forked: the service that it supervises, and its master.
pub(super) struct NewSupervisor {
    fresh: Fresh,
    service: usize,
    /// Where the supervisor reports how its start went.
    sender: Option<StartSender>,
    master: Pid,
    /// Where it hears of the next generation.
    link: Link,
}

impl Master<'_> {
    /// Starts all services, and notifies that the server is ready when each of them is.
    ///
    /// # Errors
    /// The first failure of one of them.
    pub(super) fn start_all(&mut self) -> Result<Start<NewSupervisor>, Error> {
        let mut starting = Vec::new();
        for service in 0..self.services.len() {
            let (sender, receiver) = startup::channel().map_err(|why| cannot_start("descriptors", &why))?;
            starting.push(receiver);
            let started = self.start(service, Some(sender)).map_err(|why| cannot_start("fork", &why))?;
            if let Some(new) = started {
                return Ok(Start::New(new));
            }
        }
        let stop = signals::stops().descriptor().map_err(|why| cannot_start("descriptors", &why))?;
        if !self.wait_for_reports(&starting, &stop)? {
            return Ok(Start::Stopped);
        }
        if !self.may_take_over(&starting, &stop)? {
            return Ok(Start::Stopped);
        }
        self.ready.write_pid_file()?;
        // The processes of all services can serve: only now do the services report it.
        starting.iter().for_each(StartReceiver::go_on);
        if !self.wait_for_reports(&starting, &stop)? {
            return Ok(Start::Stopped);
        }
        // Last to be killed when memory runs out, where that is permitted. The services have their
        // own.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        let listeners = self.services.iter().flat_map(|service| &service.server.listeners);
        self.ready.notify(listeners.filter_map(Listener::port_to_print))?;
        self.finish_takeover();
        self.observer.iter_mut().for_each(|observer| observer.serve(&mut self.log));
        Ok(Start::Ready)
    }

    /// In a hand-over: waits until the older generation lets this one take over, and has the
    /// services take the states. False if there is nothing to take over.
    fn may_take_over(&mut self, starting: &[StartReceiver], stop: &OwnedFd) -> Result<bool, Error> {
        let Some(takeover) = &mut self.takeover else { return Ok(true) };
        if takeover.built(stop.as_fd()) != Told::Go {
            return Ok(false);
        }
        starting.iter().for_each(StartReceiver::go_on);
        // None accepts before all have their state: a failure of one is a failure of all.
        self.wait_for_reports(starting, stop)
    }

    /// Waits for a report of each supervisor. False if a signal has stopped the server.
    fn wait_for_reports(&self, starting: &[StartReceiver], stop: &OwnedFd) -> Result<bool, Error> {
        for (receiver, service) in starting.iter().zip(&self.services) {
            let name = &service.name;
            match receiver.wait(stop.as_fd()).map_err(|why| cannot_start("memory", &why))? {
                StartEvent::Entered => {}
                StartEvent::Failed(error) => return Err(error.within(format_args!("service {name}"))),
                StartEvent::Ended => {
                    let what = format!("cannot start service {name}: its supervisor has ended");
                    let next = "look for its cause in the kernel's log (dmesg)";
                    return Err(Error::new(ErrorKind::System, what, next));
                }
                StartEvent::StopRequested => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Forks the supervisor of a service. Returns in both: `Some` in the new process.
    pub(super) fn start(
        &mut self,
        service: usize,
        sender: Option<StartSender>,
    ) -> std::io::Result<Option<NewSupervisor>> {
        // Before the fork: afterwards the parent may be another process already.
        let master = rustix::process::getpid();
        let (own, link) = Link::pair()?;
        match fork(self.alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => {
                self.pids.insert(pid, service);
                self.services[service].link = Some(own);
                Ok(None)
            }
            Side::Child(fresh) => {
                drop(own);
                Ok(Some(NewSupervisor { fresh, service, sender, master, link }))
            }
        }
    }

    /// Runs as the supervisor of a service. It keeps that service; the rest is closed first.
    pub(super) fn run_as(mut self, new: NewSupervisor) -> ! {
        let alone = self.alone;
        let service = self.services.swap_remove(new.service);
        let lines = self.log.channel();
        let takeover = self.takeover.take();
        let takes_over = takeover.is_some();
        let predecessor = takeover.and_then(|mut takeover| takeover.take_predecessor(Some(&service.name)));
        drop(self);
        tine_sys::signal::defaults(&new.fresh);
        let ServiceSetup { name, mut server, mut handler, controllers, link } = service;
        // That of a supervisor before this one.
        drop(link);
        server.lines = lines;
        (server.predecessor, server.takes_over, server.master) = (predecessor, takes_over, Some(new.link));
        server.controllers = controllers.map(|channel| channel.receiver);
        // A group of its own: a terminal's Ctrl-C reaches the master alone, which forwards it.
        let _ = rustix::process::setpgid(None, None);
        // The kernel keeps 15 bytes (PR_SET_NAME). A name without a zero byte cannot fail.
        let _ = CString::new(format!("tine: {name}")).map(|name| rustix::thread::set_name(&name));
        // TERM, so that it ends what it started first: the kernel would kill its own children only.
        let lives_with_master = signal_with(new.master, Signal::TERM);
        server.settings.master = Some(new.master);
        // The master notifies the service manager.
        tine_sys::environment::remove("NOTIFY_SOCKET", alone);
        server.ready = Ready::to_master(new.sender);
        let is_awaited = server.ready.has_master();
        let (format, level) = (server.log.format, server.log.level);
        let entered = lives_with_master.map_err(cannot_die_with_parent);
        let entered = entered.inspect_err(|error| server.ready.failed(error));
        match entered.and_then(|()| run(server, alone, &mut handler)) {
            Ok(Stopped::Requested) => exit_now(0),
            Ok(Stopped::Completed) => exit_now(COMPLETED),
            Err(error) => {
                // The master reports the error of a start.
                if !is_awaited {
                    Log::new(format, level, Some(name), None).fatal(&error);
                }
                exit_now(i32::from(error.exit_code()))
            }
        }
    }
}
