//! The process of a connection: the steps from the fork to the handler or program, and to the exit.
//!
//! It has no descriptor of the server and none of another connection, and no shared memory that
//! decides: what it may touch is [`ConnContext`] and its own [`Job`].

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::Pid;
use tine_sys::cmdline::Title;
use tine_sys::exec::CgroupEntry;
use tine_sys::fd::{Floor, Kept};
use tine_sys::identity::become_user;
use tine_sys::memory::FlagReader;
use tine_sys::process::{Alone, Fresh, exit_now};

use crate::admission::reason::Reason;
use crate::connection::handler::Handler;
use crate::connection::{self, Connection};
use crate::error::reason;
use crate::ipc::board::Entry;
use crate::ipc::members::Members;
use crate::ipc::messages::{Sender, StderrPipe};
use crate::ipc::stats::ConnStats;
use crate::jail::confinement::Confinement;
use crate::lifecycle::crash::take_place;
use crate::lifecycle::outcome::{ExitReport, SILENT};
use crate::log::Log;
use crate::net::proxied::Proxied;
#[cfg(feature = "tracing")]
use crate::processes::handler_events;
use crate::processes::start::show_connection;
use crate::program::launch::Launcher;
use crate::program::served::{LaunchContext, ProgramConnection};
use crate::system::parent::kill_with;
use crate::system::users::Identity;

/// What every connection process may touch. Forkers, spares and workers have it, too.
pub(crate) struct ConnContext<'a, H> {
    pub(crate) handler: &'a mut H,
    /// The program that is executed instead of calling the handler, if there is one.
    pub(crate) launcher: Option<Launcher<'a>>,
    /// The jail of handlers.
    pub(crate) jail: Confinement,
    /// The user of handlers, where their processes change it themselves.
    pub(crate) identity: Option<&'a Identity>,
    /// The channel of the stderr logger, where that reads the standard error of handlers.
    pub(crate) stderr_logger: Option<Sender<StderrPipe>>,
    /// Whether a crash is noted, for its report.
    pub(crate) notes_crashes: bool,
    pub(crate) stats: ConnStats,
    /// The processes, where the program shares state.
    pub(crate) members: Members,
    pub(crate) drain: FlagReader,
    pub(crate) alone: &'a Alone,
    pub(crate) log: Log,
    pub(crate) title: Option<Title>,
    /// What the client gets before the handler is called.
    pub(crate) banner: &'a [u8],
    /// The process with which connection processes die; `None` if they outlive the server.
    pub(crate) parent: Option<Pid>,
    /// The descriptors of the server are from here on.
    pub(crate) first_server_fd: Floor,
    /// What the handler has opened in the forker.
    pub(crate) kept: Kept,
    /// Flush the standard library's buffer of standard output after the handler.
    pub(crate) flush_stdout: bool,
    /// Exit with [`SILENT`] after a connection on which the client sent nothing.
    pub(crate) reports_silence: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) socket: OwnedFd,
    pub(crate) slot: usize,
    pub(crate) entry: Entry,
    pub(crate) proxied: Option<Box<Proxied>>,
}

impl Job {
    /// The connection for a program.
    fn for_program<'a>(&'a self, launch_context: &'a LaunchContext) -> ProgramConnection<'a> {
        let Job { socket, entry, proxied, .. } = self;
        ProgramConnection { socket, entry: *entry, proxied: proxied.as_deref(), launch_context }
    }
}

/// Serves one connection and exits.
pub(crate) fn serve<H>(
    fresh: &Fresh,
    context: &mut ConnContext<'_, H>,
    job: Job,
    launch: &mut LaunchContext,
) -> !
where
    H: Handler,
{
    if context.launcher.is_some() {
        execute(fresh, context, job, launch);
    }
    if let Some(logger) = &context.stderr_logger {
        // Out of descriptors: standard error stays that of the server.
        let _ = logger.open_pipe(job.entry.id).map(rustix::stdio::dup2_stderr);
    }
    context.jail.hold(&job.socket).unwrap_or_else(|why| context.fail(job.slot, &why));
    context.enter_jail(job.slot, launch.cgroup.as_ref());
    // The listeners, the server's other descriptors, and a socket that another forker may have
    // left.
    tine_sys::fd::close_from_keeping(fresh, context.first_server_fd, &context.kept, job.socket.as_fd());
    show_connection(job.entry, context.title.as_mut(), context.log.privacy());
    let report = handle(context, job, &mut true);
    exit_now(context.exit_code(&report))
}

/// Executes the program in this process, or in a child of it; exits if it cannot be executed.
fn execute<H>(fresh: &Fresh, context: &mut ConnContext<'_, H>, job: Job, launch: &mut LaunchContext) -> ! {
    let Some(mut launcher) = context.launcher.take() else { exit_now(111) };
    let fail = |report: ExitReport| -> ! {
        context.stats.report(job.slot, &report);
        exit_now(report.exit_code())
    };
    if launcher.prepares() {
        show_connection(job.entry, context.title.as_mut(), context.log.privacy());
        let target = job.for_program(launch);
        let log = &context.log;
        let report = |host: &str| {
            let (peer, proxied) = (&job.entry.peer, job.proxied.as_deref());
            log.for_connection().report(peer, proxied, Reason::Denied.name(), "reject", Some(host));
        };
        match launcher.prepare(fresh, &target, context.first_server_fd, report) {
            Ok(variables) => launch.variables = variables,
            Err(report) => fail(report),
        }
    }
    let target = job.for_program(launch);
    let report = match launcher.stays() {
        true => {
            show_connection(job.entry, context.title.as_mut(), context.log.privacy());
            launcher.stay(fresh, &target, context.first_server_fd)
        }
        false => launcher.execute(&target),
    };
    fail(report)
}

/// Runs the handler on a connection and reports how it ended. A worker goes on afterwards. `begins`
/// is cleared once the handler has begun in this process; a process that it cannot begin in ends.
pub(crate) fn handle<H>(context: &mut ConnContext<'_, H>, job: Job, begins: &mut bool) -> ExitReport
where
    H: Handler,
{
    let Job { socket, slot, entry, proxied } = job;
    let stats = context.stats;
    context.members.enter(slot);
    if context.notes_crashes {
        stats.note_faults(slot);
    }
    let trace = context.log.logs_bytes().then(|| Box::new(context.log.for_connection()));
    let client = (entry.id, entry.peer, proxied);
    let start = entry.start;
    let mut connection = Connection::new(socket, client, start, slot, stats, context.drain, trace);
    #[cfg(feature = "tracing")]
    handler_events::begin(context.log.for_connection(), entry.id, context.stderr_logger.is_some());
    let handler = &mut *context.handler;
    let banner = context.banner;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        if *begins {
            handler.on_child()?;
            *begins = false;
        }
        if !banner.is_empty() {
            connection.write_all(banner)?;
        }
        handler.serve(connection)
    }));
    #[cfg(feature = "tracing")]
    handler_events::end();
    if context.flush_stdout {
        // A line without a newline is still in the buffer, and `_exit` would lose it.
        let _ = io::stdout().flush();
    }
    let report = match ended {
        // A reset counts, also if the handler ignored it. It is stored already.
        Ok(Ok(())) if stats.was_reset(slot) => return ExitReport::Reset,
        Ok(Ok(())) => {
            stats.done(slot);
            return ExitReport::Done;
        }
        Ok(Err(error)) => ExitReport::from_error(&error),
        Err(thrown) => ExitReport::from_panic(&*thrown),
    };
    let place = if matches!(report, ExitReport::Panic(_)) { take_place() } else { String::new() };
    stats.report_at(slot, &report, &place);
    report
}

impl<H> ConnContext<'_, H> {
    /// The jail of handlers, or that of programs.
    pub(crate) fn jail_mut(&mut self) -> &mut Confinement {
        match &mut self.launcher {
            Some(launcher) => launcher.jail_mut(),
            None => &mut self.jail,
        }
    }

    /// Enters cgroup and jail of handlers; exits if that fails.
    #[inline]
    pub(crate) fn enter_jail(&self, slot: usize, cgroup: Option<&CgroupEntry>) {
        // The change of user has cleared it (prctl(2)). In a room with a first process of its own,
        // that one ends with the parent, and all others with it.
        let parent = self.parent.filter(|_| self.identity.is_some() || self.jail.is_first());
        let die = || parent.map_or(Ok(()), |parent| Ok(kill_with(parent)?));
        let entered = self.enter_rights(cgroup).and_then(|()| die());
        entered.unwrap_or_else(|why| self.fail(slot, &why));
    }

    /// Ends a connection that its handler does not get.
    #[cold]
    pub(crate) fn fail(&self, slot: usize, why: &io::Error) -> ! {
        let report = ExitReport::Error(reason(why));
        self.stats.report(slot, &report);
        exit_now(report.exit_code())
    }

    /// Enters cgroup and jail of handlers, as the user that they are for.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(crate) fn enter_rights(&self, cgroup: Option<&CgroupEntry>) -> io::Result<()> {
        if let Some(cgroup) = cgroup {
            cgroup.enter().map_err(|why| io::Error::new(why.kind(), format!("cgroup: {}", reason(&why))))?;
        }
        if let Some(identity) = self.identity {
            become_user(self.alone, &identity.to_ids())?;
        }
        if self.jail.is_any() { self.jail.enter_alone(self.alone) } else { Ok(()) }
    }

    /// The exit code for a report. Unlike the report, no other process can write it.
    pub(crate) fn exit_code(&self, report: &ExitReport) -> i32 {
        match report.exit_code() {
            0 if self.reports_silence && !connection::take_received_any() => SILENT,
            code => code,
        }
    }
}
