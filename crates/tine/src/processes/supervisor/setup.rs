//! Checks and makes everything that the server needs before its first fork, so that nothing fails
//! while half a server runs.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use tine_sys::fd::Floor;
use tine_sys::process::Alone;

use super::bans::Bans;
use super::capacity::Capacity;
use super::channels::Channels;
use super::children::Children;
use super::crash_reports::CrashReports;
use super::fleet::Fleet;
use super::handovers::Handovers;
use super::held_ends::HeldEnds;
use super::killings::Killings;
use super::older::Older;
use super::reached::ReachedLimits;
use super::timers::Timers;
use super::wait::SupervisorFds;
use super::{SharedMemory, Supervisor, requirements};
use crate::admission::Admission;
use crate::admission::access::watch::RuleFiles;
use crate::error::{Error, next_move};
use crate::ipc::board::Board;
use crate::ipc::handover::link::Link;
use crate::ipc::handover::takeover::{Predecessor, Takeover};
use crate::ipc::jobs::JobPool;
use crate::ipc::members::Members;
use crate::ipc::messages::{ControllerArrival, Receiver};
use crate::ipc::stats::ConnStats;
use crate::lifecycle::ready::Ready;
use crate::lifecycle::stop_handle::StopHandle;
use crate::log::channel::LineSender;
use crate::log::ring::LogRing;
use crate::log::{Log, LogSettings};
use crate::net::listener::Listener;
use crate::processes::control::controllers::Controllers;
use crate::processes::handover::generations::Generations;
use crate::processes::log_writer::LogWriter;
use crate::settings::Settings;
use crate::settings::derived::beyond_the_system;
use crate::settings::link::LinkSetup;
use crate::settings::observer::ObserverSetup;
use crate::settings::replacement::Replacement;
use crate::system::cgroups::Cgroups;
use crate::system::open_files::raise_limit;
use crate::watch::destroyed::DestroyedSockets;
use crate::watch::diag::Diag;
use crate::watch::history::History;
use crate::watch::watcher::Watcher;

/// Descriptors of the supervisor, beside one for each program.
const OTHER_DESCRIPTORS: u64 = 256;

/// What a server hands to its supervisor.
pub(crate) struct Setup {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) settings: Settings,
    /// The processes of the service, where the program shares state.
    pub(crate) members: Members,
    /// The workers that do jobs.
    pub(crate) jobs: Vec<JobPool>,
    pub(crate) log: LogSettings,
    /// The channel to the log writer, where there is one: of the master, or the supervisor's own.
    pub(crate) lines: Option<LineSender>,
    pub(crate) ready: Ready,
    /// Controllers that the master hands over.
    pub(crate) controllers: Option<Receiver<ControllerArrival>>,
    /// How the server is observed, where this is its first process.
    pub(crate) observation: Option<ObserverSetup>,
    /// How the service is linked with other nodes.
    pub(crate) link: Option<LinkSetup>,
    /// It is, by an observer that runs already.
    pub(crate) is_observed: bool,
    /// How the server is replaced, where this is its first process.
    pub(crate) replacement: Option<Replacement>,
    /// The hand-over that this process was executed for, where it is the first of its server.
    pub(crate) takeover: Option<Takeover>,
    /// The older supervisor of this service.
    pub(crate) predecessor: Option<Predecessor>,
    /// All services of the server take over together.
    pub(crate) takes_over: bool,
    /// The master, which tells about the next generation.
    pub(crate) master: Option<Link>,
    /// Where the program can stop the server, if this is its first process.
    pub(crate) stop_handles: Vec<StopHandle>,
}

impl Setup {
    fn take_handovers(&mut self) -> Handovers {
        let is_first = self.settings.master.is_none();
        let generations = is_first.then(|| Generations::new(self.replacement.take()));
        Handovers::new(generations, self.predecessor.take(), self.takes_over, self.master.take())
    }
}

impl<'a, H> Supervisor<'a, H> {
    /// Makes a supervisor, without a child yet. It takes `ready` and `writer` when
    /// nothing can fail any more.
    ///
    /// # Errors
    /// The settings cannot be served, or the system is out of memory or descriptors.
    pub(super) fn set_up(
        mut setup: Setup,
        ready: &mut Ready,
        writer: &mut Option<LogWriter>,
        alone: &'a Alone,
        handler: &'a mut H,
    ) -> Result<Self, Error> {
        let handovers = setup.take_handovers();
        let Setup { mut listeners, mut settings, members, jobs, log, lines, controllers: handed, .. } = setup;
        let (mut log, program_path) = check_settings(&mut settings, log, lines, &handovers, alone)?;
        settings.keeps_records = settings.control.is_any() || handed.is_some() || setup.is_observed;
        let memory =
            SharedMemory::new(&mut settings, (members, &jobs), &mut log).map_err(|why| cannot_make(&why))?;
        check_system(&mut settings, &listeners, alone, &memory, &mut log)?;
        let first_server_fd = move_descriptors_up(&mut listeners, &mut log, ready, writer)?;
        let place = |fd: OwnedFd| first_server_fd.duplicate(fd);
        let fds = SupervisorFds::new(&place, setup.stop_handles).map_err(|why| cannot_make(&why))?;
        let rule_files = watch_rule_files(&memory.admission, &place, &mut log);
        let controllers = bind_control(&mut settings, handed, setup.is_observed, &place, &mut log)?;
        let crash_reports = CrashReports::prepare(&settings, std::any::type_name::<H>(), &place)?;
        let has_controllers = controllers.are_possible();
        let channels = Channels::new(&settings, has_controllers, &place).map_err(|why| cannot_make(&why))?;
        let (watcher, held_ends) =
            watch_connections(&mut settings, &listeners, has_controllers, &place, &mut log);
        Ok(Supervisor {
            alone,
            handler,
            jobs,
            bans: load_bans(&settings, &memory.board)?,
            memory,
            channels,
            program_path,
            cgroups: make_cgroups(&settings)?,
            reached: ReachedLimits::new(&settings.jail_plan, &place),
            first_server_fd,
            fds,
            children: Children::new(),
            timers: Timers::new(settings.max_connections),
            watcher,
            controllers,
            killings: Killings::default(),
            history: History::new(if has_controllers { settings.history } else { 0 }),
            held_ends,
            capacity: Capacity::new(settings.slots()),
            rule_files,
            crash_reports,
            ends_connections: false,
            handovers,
            older: Older::default(),
            serves_backlog: true,
            is_announced: false,
            at_start: settings.at_start(),
            fleet: Fleet::new(settings.limits.fleet),
            settings,
            listeners,
            log,
            ready: std::mem::take(ready),
            log_writer: writer.take(),
            observer: None,
        })
    }
}

/// Checks the settings, and completes them with what others know. Returns the log, and the path of
/// the program.
fn check_settings(
    settings: &mut Settings,
    log: LogSettings,
    lines: Option<LineSender>,
    handovers: &Handovers,
    alone: &Alone,
) -> Result<(Log, Option<CString>), Error> {
    ignore_file_size();
    settings.log_level = log.level;
    handovers.prepare(settings);
    let log = Log::new(log.format, log.level, settings.service.clone(), lines);
    let mut program_path = settings.check()?;
    if let Some(program) = &mut settings.program {
        program.look_up_login(settings.identity.as_ref());
    }
    let mut log = log.with_privacy(settings.privacy);
    plan_jail(settings, &mut program_path, alone, &mut log)?;
    Ok((log, program_path))
}

/// Adapts the settings to the system, and checks that it can do what they want.
fn check_system(
    settings: &mut Settings,
    listeners: &[Listener],
    alone: &Alone,
    memory: &SharedMemory,
    log: &mut Log,
) -> Result<(), Error> {
    adapt(settings, listeners, log);
    requirements::hold_clients(settings, listeners)?;
    requirements::check(settings, alone, memory.flags.weakness(), log)
}

/// The processes that a connection can have in a full jail, where it has a user of its own.
const TASKS: u64 = 64;

/// The limit on the size of files (`RLIMIT_FSIZE`) holds for the log and for files in memory.
/// Beyond it, lines are lost and memory is not sealed; the signal would end the server.
fn ignore_file_size() {
    tine_sys::signal::ignore(rustix::process::Signal::XFSZ.as_raw());
}

/// Decides what is in force of the jail, and tells it.
fn plan_jail(
    settings: &mut Settings,
    program_path: &mut Option<CString>,
    alone: &Alone,
    log: &mut Log,
) -> Result<(), Error> {
    let path = program_path.as_ref().map(|path| Path::new(OsStr::from_bytes(path.to_bytes())));
    settings.jail_plan = settings.plan_jail(path, alone)?;
    if let Some(full) = &settings.jail_plan.full {
        let alone = full.users.are_alone();
        // A cgroup tells that the limit was reached.
        let by_user = alone && !settings.jail_plan.counts_tasks();
        let tasks = by_user.then(|| settings.jail.resources().tasks.unwrap_or(TASKS));
        settings.program.iter_mut().for_each(|program| program.adapt_to_full_jail(alone, tasks));
        // The working directory is another one there.
        let absolute = path.and_then(|path| std::path::absolute(path).ok());
        *program_path = absolute.and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
    }
    if let Some(lifetime) = settings.jail.max_lifetime() {
        settings.timeouts.lifetime.get_or_insert(lifetime);
    }
    log.jail(&settings.jail_plan);
    Ok(())
}

/// Creates the cgroups of the server. In a full jail, the forkers have not its privileges.
fn make_cgroups(settings: &Settings) -> Result<Option<Cgroups>, Error> {
    let plan = &settings.jail_plan;
    Cgroups::make(&plan.cgroups, plan.full.as_ref().map(|full| full.users.of_forkers()))
}

/// Reads the bans of before the start, and puts them in force.
fn load_bans(settings: &Settings, board: &Board) -> Result<Bans, Error> {
    let mut bans = Bans::load(settings.state_file.clone())?;
    bans.put_on(board);
    Ok(bans)
}

/// Watches the files of the access rules, if these come from files.
fn watch_rule_files(
    admission: &Admission,
    place: &impl Fn(OwnedFd) -> std::io::Result<OwnedFd>,
    log: &mut Log,
) -> Option<RuleFiles> {
    let source = admission.limits().rules.as_ref()?.source()?;
    Some(RuleFiles::watch(source, |fd: rustix::io::Result<OwnedFd>| place(fd.ok()?).ok(), log))
}

/// Prepares to watch connections, and to hold back the ends of programs until their bytes are
/// known.
fn watch_connections(
    settings: &mut Settings,
    listeners: &[Listener],
    has_controllers: bool,
    place: &impl Fn(OwnedFd) -> std::io::Result<OwnedFd>,
    log: &mut Log,
) -> (Watcher, HeldEnds) {
    let diag = settings.watch_rules().are_any().then(|| place(Diag::socket().ok()?).ok());
    let ports: Vec<(bool, u16)> = listeners.iter().filter_map(Listener::family_and_port).collect();
    let tells_bytes = settings.program.is_some() && has_controllers;
    let destroyed = if tells_bytes { DestroyedSockets::new(&ports, place) } else { None };
    settings.notes_sockets = settings.watch_rules().need_sockets();
    (Watcher::new(settings.watch_rules(), diag, listeners, log), HeldEnds::new(destroyed, ports))
}

/// Binds the control socket, and notes where the bans of its server are kept. In a service,
/// `handed` has the controllers instead.
fn bind_control(
    settings: &mut Settings,
    handed: Option<Receiver<ControllerArrival>>,
    is_observed: bool,
    place: &impl Fn(OwnedFd) -> std::io::Result<OwnedFd>,
    log: &mut Log,
) -> Result<Controllers, Error> {
    let socket = settings.control.bind(log)?;
    if let Some(socket) = &socket {
        settings.state_file = settings.control.state_file(socket, None);
    }
    Controllers::new(socket, handed, is_observed, place)
        .map_err(|why| cannot_start("the control socket", &why))
}

impl SharedMemory {
    /// Maps the memory; the access rules move from the settings into it. Operators who can reach
    /// the server can read and set the log.
    fn new(
        settings: &mut Settings,
        (members, jobs): (Members, &[JobPool]),
        log: &mut Log,
    ) -> std::io::Result<SharedMemory> {
        let is_operated = settings.keeps_records;
        let (flags, [drain, log_level]) = tine_sys::memory::flags()?;
        let slots = settings.slots();
        let board = Board::new(slots, drain, settings.limits.proxy.is_some(), settings.exit_after)?;
        let has_ended = settings.reuse > 1 && (is_operated || settings.crash_dir.is_some());
        let board = if has_ended { board.with_ended()? } else { board };
        board.set_limits_mode(settings.limits.mode);
        let stats = ConnStats::new(slots)?;
        members.take_over(slots + jobs.iter().map(|pool| pool.workers).sum::<usize>())?;
        let log_ring = is_operated.then(LogRing::new).transpose()?;
        if is_operated {
            log.keep_lines_in(log_ring);
            log.follow_level(log_level);
        }
        let admission = Admission::with_secret(settings.limits.clone(), settings.source_secret)?;
        if let Some(rules) = &mut settings.limits.rules {
            rules.forget_words();
        }
        settings.limits.penalty_exempt = None;
        settings.limits.log_exclude = None;
        Ok(SharedMemory { board, admission, stats, members, log_ring, flags, drain })
    }
}

pub(super) fn cannot_start(what: &str, why: &std::io::Error) -> Error {
    Error::system(format_args!("cannot start the server: {what}"), why, next_move::of_call(why))
}

fn cannot_make(why: &std::io::Error) -> Error {
    cannot_start("shared memory and descriptors", why)
}

/// Adapts the settings to inherited listeners that block, and to the limits of the system.
fn adapt(settings: &mut Settings, listeners: &[Listener], log: &mut Log) {
    if listeners.iter().any(|listener| listener.blocks) && (settings.forkers > 1 || settings.has_spares()) {
        if settings.has_spares() {
            log.warning("an inherited socket blocks, so one forker accepts and there are no spares; pass it non-blocking to have both");
        }
        // Between poll and accept, no other process may take the client: accept would block.
        settings.forkers = 1;
        settings.spares = 0;
        settings.reuse = 1;
    }
    make_room_for_descriptors(settings, log);
    if let Some(text) = beyond_the_system(settings.max_connections) {
        log.warning(&text);
    }
}

/// Raises the limit on descriptors to one for each running program, as far as the hard limit
/// allows. Programs start with the limit that this process was started with.
fn make_room_for_descriptors(settings: &mut Settings, log: &mut Log) {
    let Some(program) = &mut settings.program else { return };
    let needed = settings.max_connections as u64 + OTHER_DESCRIPTORS;
    let (given, room) = raise_limit(needed);
    if room < needed {
        log.warning(&format!(
            "{} programs at a time need a descriptor each, and the limit is {room}: the ends of some are noticed later, and cost more; raise it (`ulimit -Hn`)",
            settings.max_connections
        ));
    }
    if given.current.is_some_and(|given| given < room) {
        program.keep_open_files(given.current.unwrap_or(u64::MAX), given.maximum.unwrap_or(u64::MAX));
    }
}

/// Moves the descriptors made so far above those that the program has open itself. Returns the
/// boundary between the two.
fn move_descriptors_up(
    listeners: &mut [Listener],
    log: &mut Log,
    ready: &mut Ready,
    writer: &mut Option<LogWriter>,
) -> Result<Floor, Error> {
    let to_move: Vec<BorrowedFd> = listeners.iter().map(AsFd::as_fd).collect();
    let floor = Floor::above_open(&to_move);
    for listener in listeners {
        listener.move_above(floor.number()).map_err(|why| cannot_make(&why.into()))?;
    }
    log.move_above(floor.number());
    ready.prepare(floor.number())?;
    if let Some(writer) = writer {
        writer.move_above(floor.number()).map_err(|why| cannot_make(&why))?;
    }
    Ok(floor)
}
