//! A forker's first steps: from its fork to its loop.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::net::AddressFamily;
use rustix::process::Pid;
use tine_sys::fd::{Floor, Kept};

use super::begin::start_handler;
use super::calls::CallsLink;
use super::memory::{CONTROL_EVENT, IDENTIFIED_EVENT, Memory, RELEASED_EVENT};
use super::templates::Templates;
use super::trial::Trial;
use super::trusted::{Forker, ForkerStart, Trusted};
use crate::connection;
use crate::connection::handler::Handler;
use crate::error::{Error, ErrorKind, next_move};
use crate::ipc::messages::{Sender, StderrPipe};
use crate::jail::confinement::Confinement;
use crate::lifecycle::crash::note_panics;
use crate::net::listener::Listener;
use crate::processes::conn::ConnContext;
use crate::processes::jailer::client::Jailer;
use crate::processes::jailer::run::JailerStart;
use crate::processes::maker::run::MakerStart;
use crate::processes::start::{StartReport, cannot, cannot_die_with_parent, change_user};
use crate::program::launch::{Launcher, enter_directory};
use crate::program::warm::ClientKind;
use crate::settings::Settings;
use crate::system::cgroups::Cgroups;
use crate::system::parent::kill_with;

/// Becomes a forker; exits if that fails. Returns the trial of the start where the supervisor waits
/// for it.
pub(super) fn enter<'a, H>(
    settings: &'a Settings,
    start: ForkerStart<'a, H>,
    report: StartReport,
) -> (Forker<'a, H>, Memory, Option<(Trial, StartReport)>)
where
    H: Handler,
{
    // One forker tries what a connection needs, when every process of the server runs.
    let tries = start.index == 0 && report.is_awaited();
    let trial = tries.then(|| Trial::prepare(&settings.jail_plan));
    let (forker, memory) = match try_enter(settings, start) {
        Ok(entered) => entered,
        Err(error) => report.failed(error),
    };
    report.entered();
    (forker, memory, trial.map(|trial| (trial, report)))
}

fn try_enter<'a, H>(
    settings: &'a Settings,
    start: ForkerStart<'a, H>,
) -> Result<(Forker<'a, H>, Memory), Error>
where
    H: Handler,
{
    prepare_process(settings, &start)?;
    start.members.enter_forker();
    let parent = (!settings.leaves_connections).then_some(start.supervisor);
    let first_server_fd = start.first_server_fd;
    let (program_stderr, handler_stderr) = match settings.program {
        Some(_) => (start.stderr, None),
        None => (None, start.stderr),
    };
    let notes_crashes = note_crashes(settings)?;
    let launcher = launcher_of(settings, start.program_path, parent, program_stderr, first_server_fd)?;
    let kept = match settings.program {
        Some(_) => Kept::default(),
        None => start_handler(start.handler, first_server_fd)?,
    };
    let title = settings.titles.then(tine_sys::cmdline::Title::take_over).transpose();
    let mut context = ConnContext {
        handler: start.handler,
        launcher,
        jail: Confinement::default(),
        identity: settings.late_identity().filter(|_| settings.program.is_none()),
        stderr_logger: handler_stderr,
        notes_crashes,
        stats: start.stats,
        members: start.members,
        drain: start.drain,
        alone: start.alone,
        log: start.log,
        title: title.map_err(cannot("change the command line for titles", next_move::of_call))?,
        banner: &settings.banner,
        parent,
        first_server_fd,
        kept,
        flush_stdout: settings.flushes_stdout,
        reports_silence: start.door.admission.has_penalties(),
    };
    let mut trusted = Trusted {
        index: start.index,
        alone: start.alone,
        settings,
        listeners: start.listeners,
        door: start.door,
        link: start.link,
        cgroups: start.cgroups,
        jailer: None,
        templates: None,
        first_server_fd,
    };
    let memory = finish(&mut trusted, &mut context, start.supervisor, start.calls)?;
    Ok((Forker { trusted, context }, memory))
}

/// Makes what a forker and its connections have in common, and their jail last.
fn finish<'a, H>(
    trusted: &mut Trusted<'a>,
    context: &mut ConnContext<'a, H>,
    supervisor: Pid,
    calls: Option<CallsLink>,
) -> Result<Memory, Error> {
    keep_from_connections(trusted, context)?;
    // In the jail, nothing can be traced.
    trusted.templates = start_templates(trusted, context, supervisor)?;
    let events = event_queue(trusted, &trusted.link.control);
    let events = events.map_err(cannot("wait for clients", next_move::of_call))?;
    let memory = Memory::new(events, &trusted.door);
    make_jail(trusted, context, calls)?;
    Ok(memory)
}

/// Leaves out of connection processes what is not for them, and has them note what is asked for.
fn keep_from_connections<H>(trusted: &Trusted, context: &mut ConnContext<'_, H>) -> Result<(), Error> {
    let settings = trusted.settings;
    if settings.keeps_records || context.log.logs_connections() {
        connection::note_first_bytes();
    }
    if !trusted.is_inherited() {
        let kept = trusted.door.exclude_from_fork();
        kept.map_err(cannot("keep shared memory from connections (madvise)", next_move::of_call))?;
        // A connection process logs what it receives, and a rule by host name that denies its
        // client.
        let logs_itself = match settings.program {
            Some(_) => context.log.may_log_bytes(),
            None => context.log.may_log_in_connections(),
        };
        if !logs_itself && trusted.door.admission.limits().rules.is_none() {
            context.log.exclude_ring_from_fork();
        }
    }
    Ok(())
}

/// Starts what has the program made a template, if it is started warm.
fn start_templates<'a, H>(
    trusted: &Trusted<'a>,
    context: &mut ConnContext<'a, H>,
    supervisor: Pid,
) -> Result<Option<Templates<'a>>, Error> {
    let settings = trusted.settings;
    let (Some(warm), Some(launcher)) = (settings.warm(), &mut context.launcher) else { return Ok(None) };
    if launcher.stays() || launcher.prepares() || settings.has_spares() {
        context.log.warm_off(trusted.index, "settings");
        return Ok(None);
    }
    let start = MakerStart {
        alone: trusted.alone,
        settings,
        warm,
        client: trusted.listeners.first().map_or(ClientKind::Tcp, client_kind),
        members: context.members,
        index: trusted.index,
        supervisor,
        first_server_fd: trusted.first_server_fd,
    };
    let mut templates = Templates::new(start, &trusted.door.board);
    templates.start_maker(launcher)?;
    Ok(Some(templates))
}

/// The kind of the clients of a listener.
fn client_kind(listener: &Listener) -> ClientKind {
    match rustix::net::sockopt::socket_domain(listener) {
        Ok(AddressFamily::UNIX) => ClientKind::Unix,
        Ok(AddressFamily::VSOCK) => ClientKind::Vsock,
        _ => ClientKind::Tcp,
    }
}

/// What executes the program, if the server has one, at this path.
fn launcher_of<'a>(
    settings: &'a Settings,
    path: Option<CString>,
    parent: Option<Pid>,
    stderr: Option<Sender<StderrPipe>>,
    first_server_fd: Floor,
) -> Result<Option<Launcher<'a>>, Error> {
    let Some((program, path)) = settings.program.as_ref().zip(path) else { return Ok(None) };
    // In a full jail, the directory is one of the room.
    if settings.jail_plan.full.is_none() {
        enter_directory(program)?;
    }
    let identity = settings.late_identity();
    let launcher = Launcher::new(program, path, identity, parent, stderr, first_server_fd)?;
    Ok(Some(launcher.with_banner(&settings.banner)))
}

/// Makes the jail of the connections, as far as a forker does: after all that it does itself.
fn make_jail<H>(
    trusted: &mut Trusted,
    context: &mut ConnContext<'_, H>,
    calls: Option<CallsLink>,
) -> Result<(), Error> {
    let settings = trusted.settings;
    if let Some(full) = &settings.jail_plan.full {
        let start = JailerStart {
            alone: trusted.alone,
            full,
            members: context.members,
            index: trusted.index,
            supervisor: context.parent,
            first_server_fd: trusted.first_server_fd,
        };
        trusted.jailer = Some(Jailer::start(&start)?);
    }
    // Not after the filter of the jail, which may refuse another one.
    calls.map_or(Ok(()), CallsLink::hand_out)?;
    let serving = settings.serving_kind();
    *context.jail_mut() = Confinement::make(&settings.jail_plan, serving, trusted.first_server_fd)?;
    Ok(())
}

/// Has the panics and faults of handlers noted where they are reported; true if they are.
fn note_crashes(settings: &Settings) -> Result<bool, Error> {
    if settings.crash_dir.is_none() || settings.program.is_some() {
        return Ok(false);
    }
    note_panics();
    let installed = tine_sys::fault::install();
    installed.map(|()| true).map_err(cannot("note faults (sigaltstack)", next_move::of_call))
}

/// What connection processes inherit: signals, group, name, limits, user.
fn prepare_process<H>(settings: &Settings, start: &ForkerStart<'_, H>) -> Result<(), Error> {
    // A group of its own, for the same reason as a connection.
    rustix::process::setpgid(None, None)
        .map_err(cannot("make a process group (setpgid)", next_move::of_call))?;
    // A name without a zero byte cannot fail.
    let name = CString::new(format!("tine: forker {}", start.index + 1));
    let _ = name.map(|name| rustix::thread::set_name(&name));
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = null.and_then(rustix::stdio::dup2_stdin);
    null.map_err(cannot("open /dev/null", next_move::of_null_device))?;
    // No core files of clients' data, and first to be killed when memory runs out. Where the score
    // may not be set, the kernel's own choice stands.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let limited = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    limited.map_err(cannot("switch core files off (setrlimit)", next_move::of_call))?;
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    match (&settings.jail_plan.full, &settings.identity) {
        (Some(full), _) => {
            let entered = start.cgroups.as_ref().map_or(Ok(()), Cgroups::enter_as_forker);
            entered.map_err(cannot("enter a cgroup of the server", next_move::of_call))?;
            let next = "see `tine jail-check` for its cause";
            full.enter_users(start.alone).map_err(|why| {
                Error::new(ErrorKind::Jail, "cannot enter the user namespace of the jail", next).because(&why)
            })?;
        }
        (None, Some(identity)) if settings.late_identity().is_none() => change_user(start.alone, identity)?,
        (None, _) => {}
    }
    // After the change of user, which clears it (prctl(2)).
    kill_with(start.supervisor).map_err(cannot_die_with_parent)
}

/// An epoll instance with every listener, the channels of clients that delayer and proxy reader
/// pass back, and a wakeup. Of the processes that wait for a client, the kernel wakes one.
pub(crate) fn event_queue(trusted: &Trusted, wakeup: impl AsFd) -> std::io::Result<OwnedFd> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let queue = trusted.first_server_fd.duplicate(queue)?;
    for (number, listener) in trusted.listeners.iter().enumerate() {
        add_exclusively(&queue, listener, number as u64)?;
    }
    if let Some(delayer) = &trusted.door.delayer {
        add_exclusively(&queue, &delayer.released, RELEASED_EVENT)?;
    }
    if let Some(reader) = &trusted.door.proxy_reader {
        add_exclusively(&queue, &reader.identified, IDENTIFIED_EVENT)?;
    }
    epoll::add(&queue, wakeup, epoll::EventData::new_u64(CONTROL_EVENT), epoll::EventFlags::IN)?;
    Ok(queue)
}

/// Adds a descriptor for which one of the waiting processes is to be woken. Before Linux 4.5 all of
/// them are.
fn add_exclusively(queue: &OwnedFd, descriptor: impl AsFd, event: u64) -> rustix::io::Result<()> {
    use epoll::EventFlags as Flags;
    let add = |flags| epoll::add(queue, descriptor.as_fd(), epoll::EventData::new_u64(event), flags);
    match add(Flags::IN | Flags::EXCLUSIVE) {
        Err(rustix::io::Errno::INVAL) => add(Flags::IN),
        added => added,
    }
}
