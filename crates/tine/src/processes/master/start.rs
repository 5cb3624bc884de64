//! Starts the supervisors of the services.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use tine_sys::process::{Fresh, Side, exit_now, fork};

use super::{Master, ServiceSetup, cannot_start};
use crate::error::Error;
use crate::lifecycle::ready::Ready;
use crate::log::Log;
use crate::net::listener::Listener;
use crate::processes::start::signal_with;
use crate::processes::supervisor;

/// In a process that was just forked: the service that it supervises, and its master.
pub(super) struct NewSupervisor {
    fresh: Fresh,
    service: usize,
    /// Where the supervisor reports that it is ready.
    ready: Option<OwnedFd>,
    master: Pid,
}

impl Master<'_> {
    /// Starts all services, and notifies that the server is ready when each of them is. In a
    /// process that was forked, returns what it is.
    pub(super) fn start_all(&mut self) -> Result<Option<NewSupervisor>, Error> {
        let mut starting = Vec::new();
        for service in 0..self.services.len() {
            let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
            let (reader, writer) = pipe.map_err(|why| cannot_start("pipes", &why.into()))?;
            starting.push(reader);
            let started = self.start(service, Some(writer)).map_err(|why| cannot_start("fork", &why))?;
            if started.is_some() {
                return Ok(started);
            }
        }
        for (service, reader) in starting.iter().enumerate() {
            // The supervisor writes when it is ready; if it ends before, the pipe does, too.
            if !matches!(rustix::io::retry_on_intr(|| rustix::io::read(reader, &mut [0; 1])), Ok(1)) {
                self.wait_for_end_of(service);
                return Err(Error::system(
                    format_args!("cannot start service {}", self.services[service].name),
                    &std::io::Error::other("its supervisor has ended"),
                    "its own line in the log says why",
                ));
            }
        }
        // Last to be killed when memory runs out, where that is permitted. The services have their
        // own.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        let listeners = self.services.iter().flat_map(|service| &service.server.listeners);
        self.ready.notify(listeners.filter_map(Listener::port_to_print))?;
        Ok(None)
    }

    /// Forks the supervisor of a service. Returns in both: `Some` in the new process.
    pub(super) fn start(
        &mut self,
        service: usize,
        ready: Option<OwnedFd>,
    ) -> std::io::Result<Option<NewSupervisor>> {
        // Before the fork: afterwards the parent may be another process already.
        let master = rustix::process::getpid();
        match fork(self.alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => {
                self.pids.insert(pid, service);
                Ok(None)
            }
            Side::Child(fresh) => Ok(Some(NewSupervisor { fresh, service, ready, master })),
        }
    }

    /// Runs as the supervisor of a service. It keeps that service; the rest is closed first.
    pub(super) fn run_as(mut self, new: NewSupervisor) -> ! {
        let alone = self.alone;
        let service = self.services.swap_remove(new.service);
        drop(self);
        tine_sys::signal::defaults(&new.fresh);
        let ServiceSetup { name, mut server, mut handler } = service;
        // A group of its own: a terminal's Ctrl-C reaches the master alone, which forwards it.
        let _ = rustix::process::setpgid(None, None);
        // The kernel keeps 15 bytes (PR_SET_NAME). A name without a zero byte cannot fail.
        let _ = CString::new(format!("tine: {name}")).map(|name| rustix::thread::set_name(&name));
        // TERM, so that it ends what it started first: the kernel would kill its own children only.
        signal_with(new.master, Signal::TERM);
        server.settings.master = Some(new.master);
        // The master notifies the service manager.
        tine_sys::environment::remove("NOTIFY_SOCKET", alone);
        server.ready = Ready::at(new.ready);
        let (format, level) = (server.format, server.level);
        match supervisor::run::run(server, alone, &mut handler) {
            Ok(()) => exit_now(0),
            Err(error) => {
                Log::new(format, level, Some(name)).fatal(&error);
                exit_now(i32::from(error.exit_code()))
            }
        }
    }
}
