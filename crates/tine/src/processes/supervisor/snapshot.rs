//! What the supervisor tells a control process: a copy of all that it knows.

use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::process::exit_now;

use super::role::Role;
use super::{SharedMemory, Supervisor};
use crate::connection::handler::Handler;
use crate::ipc::messages::Channel;
use crate::ipc::setting::Setting;
use crate::log::ring::LogRing;
use crate::net::listener::Listener;
use crate::processes::control::crashes::CrashQuestions;
use crate::processes::control::view::{ListenerView, ProcessView, SettingView, View};
use crate::processes::control::{ControlStart, NewController};
use crate::processes::start::StartReport;
use crate::system::procfs::ProcessUsage;
use crate::watch::diag::Diag;

impl<'a, H> Supervisor<'a, H>
where
    H: Handler,
{
    /// It parses what a controller sends, so it can change no memory that decides.
    pub(super) fn keep_for_control(
        self,
        supervisor: Pid,
        mut report: StartReport,
        controller: NewController,
    ) -> ControlStart<'a> {
        let processes = self.processes();
        let warm_forkers = self.has_warm_program().then_some(self.settings.forkers);
        let phase = self.phase_name();
        let settings = Setting::ALL.map(|setting| {
            let (value, at_start) = (self.settings.value(setting), self.at_start.value(setting));
            SettingView { setting, value, at_start }
        });
        let settings = settings.into();
        let SharedMemory { board, admission, stats, members, log_ring, .. } = self.memory;
        report.log.keep_lines_in(None);
        let logger = self.channels.crashes.map(|channel| channel.sender);
        // Without descriptors, this request has no answer.
        let crashes = logger.and_then(|logger| {
            Some(CrashQuestions { logger, reply: Channel::new(&Ok::<OwnedFd, Errno>).ok()? })
        });
        let has_program = self.settings.program.is_some();
        let memory = board.into_reader().and_then(|board| {
            stats.make_read_only()?;
            members.make_read_only()?;
            log_ring.map_or(Ok(()), LogRing::make_read_only)?;
            admission.unmap().map(|()| board)
        });
        let Ok(board) = memory else { exit_now(111) };
        let view = View {
            service: self.settings.service,
            privacy: self.settings.privacy,
            pid: supervisor.as_raw_pid(),
            phase,
            addresses: self.listeners.iter().map(|listener| listener.name.clone()).collect(),
            listeners: self.listeners.iter().map(listener_view).collect(),
            generation: self.history.generation,
            max_connections: self.settings.max_connections,
            has_program,
            warm_forkers,
            fleet: self.fleet.link.is_some().then_some(self.fleet.view),
            processes,
            usage: ProcessUsage::of(supervisor.as_raw_pid()),
            board,
            stats,
            members,
            log: log_ring,
            history: self.history,
            crashes,
            bans: self.bans.views(SystemTime::now()),
            first_bytes: self.watcher.first_bytes(),
            settings,
            jail: self.settings.jail_plan,
            ending: self.killings.all(),
            diag: Diag::socket().ok().map(Diag::new),
            ports: self.listeners.iter().filter_map(Listener::family_and_port).collect(),
        };
        let identity = self.settings.identity;
        ControlStart { alone: self.alone, supervisor, identity, controller, view, report }
    }

    /// The forkers and helpers, and the templates.
    fn processes(&self) -> Vec<ProcessView> {
        let restarts = |role| self.children.restarts.get(&role).copied().unwrap_or(0);
        let roles = self.children.table.roles().filter(|(_, role)| *role != Role::Control);
        let view = |(pid, role): (i32, Role)| ProcessView {
            role: role.log_name().into(),
            pid,
            restarts: restarts(role),
            usage: ProcessUsage::of(pid),
        };
        let mut processes: Vec<ProcessView> = roles.map(view).collect();
        let writer = self.log_writer.as_ref().map(|writer| &writer.companion);
        let observer = self.observer.as_ref().map(|observer| &observer.companion);
        let link = self.fleet.link.as_ref().map(|link| &link.companion);
        processes.extend(writer.into_iter().chain(observer).chain(link).filter_map(|companion| {
            let (role, pid) = (companion.role().to_owned(), companion.pid()?);
            let (restarts, usage) = (companion.restarts(), ProcessUsage::of(pid));
            Some(ProcessView { role, pid, restarts, usage })
        }));
        processes.extend(self.templates());
        processes.sort_by(|a, b| a.role.cmp(&b.role));
        processes
    }

    fn phase_name(&self) -> &'static str {
        match (self.memory.board.is_draining() || self.is_announced, self.capacity.is_paused) {
            (true, _) => "draining",
            (false, true) => "paused",
            (false, false) => "serving",
        }
    }
}

fn listener_view(listener: &Listener) -> ListenerView {
    let queue = listener.accept_queue();
    ListenerView {
        address: listener.name.clone(),
        queued: queue.map(|queue| queue.length),
        backlog: queue.map(|queue| queue.backlog),
        overflows: queue.and_then(|_| tine_sys::socket::drops(listener.as_fd()).ok()),
    }
}
