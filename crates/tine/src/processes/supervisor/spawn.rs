//! Starts the processes of a server, and hands each what it keeps.

use std::fmt::Display;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::process::Pid;
use tine_sys::process::{Fresh, Side, exit_now, fork, reap};

use super::Supervisor;
use super::children::ChildKind;
use super::keep::or_exit;
use super::role::Role;
use super::setup::cannot_start;
use crate::connection::handler::Handler;
use crate::error::{Error, ErrorKind};
use crate::lifecycle::outcome::Outcome;
use crate::lifecycle::signals;
use crate::lifecycle::startup::{self, Start, StartEvent, StartSender};
use crate::lifecycle::timing::KILL_WAIT;
use crate::net::listener::Listener;
use crate::net::shortfall;
use crate::processes::bus_link::BusLink;
use crate::processes::cgroup_cleaner;
use crate::processes::connector;
use crate::processes::control::{self, NewController};
use crate::processes::delayer;
use crate::processes::forker::door::Door;
use crate::processes::forker::run as forker;
use crate::processes::forker::trusted::{ForkerStart, SupervisorLink};
use crate::processes::job_worker;
use crate::processes::observer::Observer;
use crate::processes::proxy_reader;
use crate::processes::rejector;
use crate::processes::start::StartReport;
use crate::processes::stderr_logger;
use crate::settings::Settings;
use crate::system::cgroups::Cgroups;
use crate::system::descendants;

/// In a process that was just forked: what it is, and its supervisor.
pub(super) struct NewRole {
    fresh: Fresh,
    role: Role,
    supervisor: Pid,
    report: StartReport,
    /// Of a control process.
    controller: Option<NewController>,
}

impl<'a, H> Supervisor<'a, H>
where
    H: Handler,
{
    /// Starts every process, and notifies that the server is ready when each of them can serve.
    ///
    /// # Errors
    /// The first failure of one of them.
    pub(super) fn start_all(&mut self, roles: &[Role]) -> Result<Start<NewRole>, Error> {
        tine_sys::memory::share_constants();
        // The memory of long lists of rules, for one: each process would have a copy.
        tine_sys::memory::trim_heap();
        let (sender, receiver) = startup::channel().map_err(|why| cannot_start("descriptors", &why))?;
        let mut sender = Some(sender);
        for role in roles {
            let started = self.start(*role, &mut sender).map_err(|why| cannot_start("fork", &why))?;
            if let Some(new) = started {
                return Ok(Start::New(new));
            }
        }
        // With that of the last process, the channel ends.
        drop(sender);
        let stop = signals::stops().descriptor().map_err(|why| cannot_start("descriptors", &why))?;
        for entered in 0..=roles.len() {
            if entered == roles.len() {
                // The first forker tries what a connection needs.
                self.wake_forker(0);
            }
            match receiver.wait(stop.as_fd()).map_err(|why| cannot_start("memory", &why))? {
                StartEvent::Entered => {}
                StartEvent::Failed(error) => return Err(error.within("cannot start the server")),
                StartEvent::Ended => return Err(self.describe_silent_end()),
                StartEvent::StopRequested => return Ok(Start::Stopped),
            }
        }
        if !self.ready.entered() || !self.wait_for_predecessor(stop.as_fd())? {
            return Ok(Start::Stopped);
        }
        self.take_state()?;
        if self.handovers.takes_over && !self.ready.entered() {
            return Ok(Start::Stopped);
        }
        self.announce()?;
        // Clients have waited in the backlog until here: the server's lines come before theirs.
        self.channels.wake_forkers();
        self.finish_takeover();
        self.observer.iter_mut().for_each(|observer| observer.serve(&mut self.log));
        Ok(Start::Ready)
    }

    /// The roles that this server has.
    pub(super) fn roles(&self) -> Vec<Role> {
        let channels = &self.channels;
        // An operator who bans clients needs it, too: it is started then.
        let rejects = self.settings.limits.rejects() || self.bans.are_any();
        let rejector = rejects.then_some(Role::Rejector);
        let delayer = channels.delayer.is_some().then_some(Role::Delayer);
        let proxy_reader = channels.proxy_reader.is_some().then_some(Role::ProxyReader);
        let has_logger = channels.stderr.is_some() || channels.crashes.is_some();
        let stderr_logger = has_logger.then_some(Role::StderrLogger);
        let cgroup_cleaner = channels.cleaner.is_some().then_some(Role::CgroupCleaner);
        let connector = channels.connecting.is_some().then_some(Role::Connector);
        let helpers = [rejector, delayer, proxy_reader, stderr_logger, cgroup_cleaner, connector];
        let workers = self.jobs.iter().map(|pool| pool.workers).sum();
        let forkers = (0..self.settings.forkers).map(Role::Forker);
        forkers.chain(helpers.into_iter().flatten()).chain((0..workers).map(Role::JobWorker)).collect()
    }

    /// The error of a process that has ended without a report.
    fn describe_silent_end(&mut self) -> Error {
        let deadline = Instant::now() + KILL_WAIT;
        loop {
            let roles: Vec<(i32, Role)> = self.children.table.roles().collect();
            for (pid, role) in roles {
                if let Ok(Some(ended)) = reap(pid) {
                    self.children.table.remove(pid);
                    let outcome = Outcome::new(ended.how, None);
                    return ended_silently(format_args!("{} has ended ({outcome})", role.log_name()));
                }
            }
            // A process closes its descriptors a moment before it can be reaped.
            if Instant::now() >= deadline {
                return ended_silently("a process has ended");
            }
            self.fds.wait_for_exit();
        }
    }

    /// Ends a start that has failed or was stopped: kills every process and reaps it.
    pub(super) fn end_start(&mut self) {
        self.kill_all();
        // The cgroup cleaner exits by itself.
        self.channels.close_helpers();
        let deadline = Instant::now() + KILL_WAIT;
        while !self.children.table.is_empty() && Instant::now() < deadline {
            let pids: Vec<i32> = self.children.table.pids().collect();
            for pid in pids.into_iter().filter(|pid| !matches!(reap(*pid), Ok(None))) {
                self.children.table.remove(pid);
            }
            if !self.children.table.is_empty() {
                self.fds.wait_for_exit();
            }
        }
        // Makers of templates, and their templates.
        let _ = descendants::kill(|| self.orphans());
        self.cgroups.iter().for_each(Cgroups::end);
        self.observer.take().iter_mut().for_each(Observer::end);
        self.fleet.link.take().into_iter().for_each(BusLink::end);
        self.end_log();
    }

    /// Logs the listeners, and notifies that clients can connect.
    fn announce(&mut self) -> Result<(), Error> {
        // Last to be killed when memory runs out, where that is permitted. The forkers have their
        // own.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        self.ready.write_pid_file()?;
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
    /// Before the server is ready, the new process takes the sender.
    ///
    /// # Errors
    /// EAGAIN, ENOMEM.
    pub(super) fn start(
        &mut self,
        role: Role,
        sender: &mut Option<StartSender>,
    ) -> std::io::Result<Option<NewRole>> {
        if role == Role::ProxyReader {
            self.memory.board.number_proxy_reader();
        }
        if role.is_forker() || role == Role::Connector {
            let place = self.first_server_fd;
            self.channels.connecting.iter_mut().for_each(|channels| channels.collect(place));
        }
        Ok(self.fork_as(role, sender, None)?.err())
    }

    /// Forks a control process. Returns in both: its process id, or what this process is.
    ///
    /// # Errors
    /// EAGAIN, ENOMEM.
    pub(super) fn start_control(
        &mut self,
        controller: NewController,
    ) -> std::io::Result<Result<i32, NewRole>> {
        self.fork_as(Role::Control, &mut None, Some(controller))
    }

    fn fork_as(
        &mut self,
        role: Role,
        sender: &mut Option<StartSender>,
        controller: Option<NewController>,
    ) -> std::io::Result<Result<i32, NewRole>> {
        // Before the fork: afterwards the parent may be another process already.
        let supervisor = rustix::process::getpid();
        match fork(self.alone, self.fds.exit_signal)? {
            Side::Parent(pid) => {
                self.children.table.add(pid, ChildKind::Role(role));
                Ok(Ok(pid))
            }
            Side::Child(fresh) => {
                let log = self.log.for_connection();
                let report = StartReport { role: role.log_name().into(), supervisor: sender.take(), log };
                Ok(Err(NewRole { fresh, role, supervisor, report, controller }))
            }
        }
    }

    /// Runs as the process with this role, with what that keeps; the rest is closed first.
    pub(super) fn run_as(mut self, new: NewRole) -> ! {
        let NewRole { fresh, role, supervisor, report, controller } = new;
        tine_sys::signal::defaults(&fresh);
        if !role.is_forker()
            && role != Role::Connector
            && let Some(channels) = self.channels.connecting.take()
        {
            or_exit(channels.take_away());
        }
        let shares = matches!(role, Role::Forker(_) | Role::Control | Role::JobWorker(_));
        if !shares {
            or_exit(self.memory.members.leave());
        }
        match role {
            Role::Forker(index) => {
                let (settings, start) = self.keep_for_forker(index, supervisor);
                forker::run(&settings, start, report)
            }
            Role::Rejector => match self.keep_for_rejector(supervisor, report) {
                Some(start) => rejector::run(start),
                None => exit_now(0),
            },
            Role::Delayer => match self.keep_for_delayer(supervisor) {
                Some(start) => delayer::run::run(&start, report),
                // The server drains.
                None => exit_now(0),
            },
            Role::ProxyReader => match self.keep_for_proxy_reader(supervisor, report) {
                Some(start) => proxy_reader::run::run(start),
                // The server drains.
                None => exit_now(0),
            },
            Role::StderrLogger => match self.keep_for_stderr_logger(supervisor, report) {
                Some(start) => stderr_logger::run(start),
                None => exit_now(0),
            },
            Role::CgroupCleaner => match self.keep_for_cgroup_cleaner(report) {
                Some(start) => cgroup_cleaner::run(start),
                None => exit_now(0),
            },
            Role::Connector => match self.keep_for_connector(supervisor, report) {
                Some(start) => connector::run::run(start),
                // The server drains.
                None => exit_now(0),
            },
            Role::JobWorker(index) => match self.keep_for_job_worker(index, supervisor, report) {
                Some(start) => job_worker::run(&fresh, start),
                None => exit_now(0),
            },
            Role::Control => match controller {
                Some(controller) => control::run::run(self.keep_for_control(supervisor, report, controller)),
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
            calls: self.channels.connecting.map(|channels| or_exit(channels.for_forker())),
            stderr: self.channels.stderr.map(|channel| channel.sender),
            stats: self.memory.stats,
            members: self.memory.members,
            drain: self.memory.drain,
            log: self.log,
            program_path: self.program_path,
            cgroups: self.cgroups,
            first_server_fd: self.first_server_fd,
        };
        (self.settings, start)
    }
}

/// The error of a start in which a process has ended without a report.
fn ended_silently(what: impl Display) -> Error {
    let what = format!("cannot start the server: {what}");
    Error::new(ErrorKind::System, what, "look for its cause in the kernel's log (dmesg)")
}
