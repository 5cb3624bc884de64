//! Starting the supervisor of a service.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use tine_sys::process::{Alone, Side, exit_now, fork};

use super::run::{Master, cannot_start};
use crate::error::Error;
use crate::lifecycle::ready::Ready;
use crate::log::Log;
use crate::net::listener::Listener;
use crate::processes::start::signal_with;
use crate::processes::supervisor;
use crate::services::Service;

impl Master<'_> {
    /// Starts all services, and says that the server is ready when each of them is.
    pub(super) fn start_all(&mut self) -> Result<(), Error> {
        for service in 0..self.services.len() {
            let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
            let (reader, writer) = pipe.map_err(|why| cannot_start("pipes", &why.into()))?;
            if let Some(own) = &mut self.own {
                own.starting.push(reader);
            }
            self.start(service, Some(writer)).map_err(|why| cannot_start("fork", &why))?;
        }
        let Some(own) = &mut self.own else { return Ok(()) };
        for (reader, service) in own.starting.drain(..).zip(&self.services) {
            // Either it says so, or the end of the pipe says that it cannot any more.
            if !matches!(rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut [0; 1])), Ok(1)) {
                return Err(Error::system(
                    format_args!("cannot start service {}", service.name),
                    &std::io::Error::other("its supervisor has ended"),
                    "its own line in the log says why",
                ));
            }
        }
        // Last in line when memory runs out, where that may be had. The services have chosen theirs.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        let listeners = self.services.iter().flat_map(|service| &service.server.listeners);
        own.ready.notify(listeners.filter_map(Listener::port_to_print))
    }

    /// Forks the supervisor of a service; `ready` is where it says so.
    pub(super) fn start(&mut self, service: usize, ready: Option<OwnedFd>) -> std::io::Result<()> {
        // Asked for before the fork: afterwards the parent may be somebody else already.
        let master = rustix::process::getpid();
        match fork(self.alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => {
                self.pids.insert(pid, service);
                Ok(())
            }
            Side::Child(fresh) => {
                tine_sys::signal::defaults(&fresh);
                self.own = None;
                let service = self.services.swap_remove(service);
                self.services.clear();
                become_supervisor(self.alone, service, ready, master)
            }
        }
    }
}

/// Lives as the supervisor of a service.
fn become_supervisor(alone: &Alone, service: Service, ready: Option<OwnedFd>, master: Pid) -> ! {
    let Service { name, mut server, mut handler } = service;
    // A group of its own: a terminal's Ctrl-C reaches the top alone, which hands it on.
    let _ = rustix::process::setpgid(None, None);
    // Bytes beyond the fifteenth are not kept (PR_SET_NAME). A name without a zero byte cannot fail.
    let _ = CString::new(format!("tine: {name}")).map(|name| rustix::thread::set_name(&name));
    // It ends all that it started first: the kernel would only kill its own children.
    signal_with(master, Signal::TERM);
    server.settings.master = Some(master);
    // The service manager is told by the top.
    tine_sys::environment::remove("NOTIFY_SOCKET", alone);
    server.ready = Ready::at(ready);
    let (format, level) = (server.format, server.level);
    match supervisor::run::run(server.into_setup(), alone, &mut handler) {
        Ok(()) => exit_now(0),
        Err(error) => {
            Log::new(format, level, Some(name)).fatal(&error);
            exit_now(i32::from(error.exit_code()))
        }
    }
}
