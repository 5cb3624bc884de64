//! Starts the processes of a server, and hands each what it keeps.

use rustix::process::Pid;
use tine_sys::process::{Fresh, Side, exit_now, fork};

use super::children::ChildKind;
use super::setup::cannot_start;
use super::state::Role;
use super::{SharedMemory, Supervisor};
use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::net::listener::Listener;
use crate::net::shortfall;
use crate::processes::cgroup_cleaner::{self, CleanerStart};
use crate::processes::delayer::{self, DelayerStart};
use crate::processes::forker::door::Door;
use crate::processes::forker::run as forker;
use crate::processes::forker::trusted::{ForkerStart, SupervisorLink};
use crate::processes::proxy_reader::{self, ProxyReaderStart};
use crate::processes::rejector::{self, RejectorStart};
use crate::processes::stderr_logger::{self, LoggerStart};
use crate::settings::Settings;

/// In a process that was just forked: what it is, and its supervisor.
pub(super) struct NewRole {
    fresh: Fresh,
    role: Role,
    supervisor: Pid,
}

impl<'a, H> Supervisor<'a, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Starts every process, and notifies that the server is ready.
    pub(super) fn start_all(&mut self, roles: &[Role]) -> Result<Option<NewRole>, Error> {
        tine_sys::memory::share_constants();
        // The memory of long lists of rules, for one: each process would have a copy.
        tine_sys::memory::trim_heap();
        for role in roles {
            let started = self.start(*role).map_err(|why| cannot_start("fork", &why))?;
            if started.is_some() {
                return Ok(started);
            }
        }
        self.announce()?;
        // Clients have waited in the backlog until here: the server's lines come before theirs.
        self.channels.wake_forkers();
        Ok(None)
    }

    /// Logs the listeners, and notifies that clients can connect.
    fn announce(&mut self) -> Result<(), Error> {
        // Last to be killed when memory runs out, where that is permitted. The forkers have their
        // own.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        let options = &self.settings.socket;
        for listener in &self.listeners {
            self.log.listen(&listener.name, listener.backlog(options.backlog));
        }
        shortfall::warnings(&self.listeners, options).iter().for_each(|text| self.log.warning(text));
        self.ready.notify(self.listeners.iter().filter_map(Listener::port_to_print))?;
        self.log.first_status(self.settings.max_connections);
        Ok(())
    }

    /// Forks a process with a role. Returns in both: `Some` in the new one.
    ///
    /// # Errors
    /// EAGAIN, ENOMEM.
    pub(super) fn start(&mut self, role: Role) -> std::io::Result<Option<NewRole>> {
        // Before the fork: afterwards the parent may be another process already.
        let supervisor = rustix::process::getpid();
        match fork(self.alone, self.fds.exit_signal)? {
            Side::Parent(pid) => {
                self.children.table.add(pid, ChildKind::Role(role));
                Ok(None)
            }
            Side::Child(fresh) => Ok(Some(NewRole { fresh, role, supervisor })),
        }
    }

    /// Runs as the process with this role, with what that keeps; the rest is closed first.
    pub(super) fn run_as(self, NewRole { fresh, role, supervisor }: NewRole) -> ! {
        tine_sys::signal::defaults(&fresh);
        match role {
            Role::Forker(index) => {
                let (settings, start) = self.keep_for_forker(index, supervisor);
                forker::run(&settings, start)
            }
            Role::Rejector => match self.keep_for_rejector(supervisor) {
                Some(start) => rejector::run(start),
                None => exit_now(0),
            },
            Role::Delayer => match self.keep_for_delayer(supervisor) {
                Some(start) => delayer::run::run(&start),
                // The server drains.
                None => exit_now(0),
            },
            Role::ProxyReader => match self.keep_for_proxy_reader(supervisor) {
                Some(start) => proxy_reader::run::run(start),
                // The server drains.
                None => exit_now(0),
            },
            Role::StderrLogger => match self.keep_for_stderr_logger(supervisor) {
                Some(start) => stderr_logger::run(start),
                None => exit_now(0),
            },
            Role::CgroupCleaner => match self.keep_for_cgroup_cleaner() {
                Some(start) => cgroup_cleaner::run(&start),
                None => exit_now(0),
            },
        }
    }

    fn keep_for_forker(mut self, index: usize, supervisor: Pid) -> (Settings, ForkerStart<'a, H>) {
        let door = Door {
            board: self.memory.board,
            admission: self.memory.admission,
            rejector: self.channels.rejector.map(|channel| channel.sender),
            delayer: self.channels.delayer.map(|channels| channels.for_forker()),
            proxy_reader: self.channels.proxy_reader.map(|channels| channels.for_forker()),
        };
        let link = SupervisorLink {
            control: self.channels.controls.swap_remove(index),
            retire: self.channels.retire,
            supervisor: self.channels.supervisor,
        };
        let start = ForkerStart {
            index,
            supervisor,
            alone: self.alone,
            handler: self.handler,
            listeners: self.listeners,
            door,
            link,
            stderr: self.channels.stderr.map(|channel| channel.sender),
            stats: self.memory.stats,
            drain: self.memory.drain,
            log: self.log,
            program_path: self.program_path,
            cgroups: self.cgroups,
            first_server_fd: self.first_server_fd,
        };
        (self.settings, start)
    }

    fn keep_for_rejector(self, supervisor: Pid) -> Option<RejectorStart<'a>> {
        Some(RejectorStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            limits: self.settings.limits,
            rejections: self.channels.rejector?.receiver,
            log: self.log,
        })
    }

    fn keep_for_delayer(self, supervisor: Pid) -> Option<DelayerStart<'a>> {
        let channels = self.channels.delayer?;
        Some(DelayerStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            board: self.memory.board,
            admission: self.memory.admission,
            arrivals: channels.arrivals.receiver,
            released: channels.released_sender?,
            rejector: self.channels.rejector?.sender,
            wakeup: channels.wakeup,
        })
    }

    /// It parses what other hosts send, so the memory that decides is taken away from it.
    fn keep_for_proxy_reader(self, supervisor: Pid) -> Option<ProxyReaderStart<'a>> {
        let SharedMemory { board, admission, .. } = self.memory;
        if board.unmap().and_then(|()| admission.unmap()).is_err() {
            exit_now(111);
        }
        let channels = self.channels.proxy_reader?;
        Some(ProxyReaderStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            timeout: self.settings.limits.proxy?.timeout,
            arrivals: channels.arrivals.receiver,
            identified: channels.identified_sender?,
            last: channels.last,
            log: self.log,
        })
    }

    fn keep_for_stderr_logger(self, supervisor: Pid) -> Option<LoggerStart<'a>> {
        Some(LoggerStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            pipes: self.channels.stderr?.receiver,
            log: self.log,
        })
    }

    fn keep_for_cgroup_cleaner(self) -> Option<CleanerStart> {
        Some(CleanerStart { supervisor_socket: self.channels.cleaner?.cleaner, cgroups: self.cgroups? })
    }
}
