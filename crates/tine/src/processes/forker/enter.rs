//! A forker's first steps: from its fork to its loop.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use tine_sys::process::exit_now;

use super::memory::{CONTROL_EVENT, IDENTIFIED_EVENT, Memory, RELEASED_EVENT};
use super::trusted::{Forker, ForkerStart, Trusted};
use crate::error::reason;
use crate::log::Log;
use crate::processes::conn::ConnContext;
use crate::processes::start::kill_with;
use crate::program::launch::Launcher;
use crate::settings::Settings;

/// Becomes a forker; exits if that fails.
pub(super) fn enter<'a, H>(settings: &'a Settings, start: ForkerStart<'a, H>) -> (Forker<'a, H>, Memory) {
    let for_errors = start.log.for_connection();
    let entered = try_enter(settings, start).unwrap_or_else(|why| cannot_start(for_errors, &why));
    // The clock is looked up in the kernel's page once, here, instead of in each spare.
    crate::system::clock::now();
    tine_sys::memory::trim_heap();
    tine_sys::memory::trim_stack();
    entered
}

fn cannot_start(mut log: Log, why: &std::io::Error) -> ! {
    log.error("a forker cannot start", &reason(why), "the lines above say why");
    exit_now(111)
}

fn try_enter<'a, H>(
    settings: &'a Settings,
    start: ForkerStart<'a, H>,
) -> std::io::Result<(Forker<'a, H>, Memory)> {
    prepare_process(settings, &start)?;
    let parent = (!settings.leaves_connections).then_some(start.supervisor);
    let first_server_fd = start.first_server_fd;
    let launcher = match settings.program.as_ref().zip(start.program_path) {
        Some((program, path)) => {
            let identity = settings.identity.as_ref().filter(|_| settings.has_cgroups());
            Some(Launcher::new(program, path, identity, parent, start.stderr, first_server_fd)?)
        }
        None => None,
    };
    let context = ConnContext {
        handler: start.handler,
        launcher,
        stats: start.stats,
        drain: start.drain,
        log: start.log,
        title: settings.titles.then(tine_sys::cmdline::Title::take_over).transpose()?,
        parent,
        first_server_fd,
        flush_stdout: settings.flushes_stdout,
        reports_silence: start.door.admission.has_penalties(),
    };
    let trusted = Trusted {
        index: start.index,
        alone: start.alone,
        settings,
        listeners: start.listeners,
        door: start.door,
        link: start.link,
        cgroups: start.cgroups,
        first_server_fd,
    };
    if !trusted.is_inherited() {
        trusted.door.exclude_from_fork()?;
    }
    let events = event_queue(&trusted, &trusted.link.control)?;
    let memory = Memory::new(events, &trusted.door);
    Ok((Forker { trusted, context }, memory))
}

/// What connection processes inherit: signals, group, name, limits, user.
fn prepare_process<H>(settings: &Settings, start: &ForkerStart<'_, H>) -> std::io::Result<()> {
    // A group of its own, for the same reason as a connection.
    rustix::process::setpgid(None, None)?;
    // The name is for `ps` only.
    let _ = rustix::thread::set_name(&std::ffi::CString::new(format!("tine: forker {}", start.index + 1))?);
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    // No core files of clients' data, and first to be killed when memory runs out. Where the score
    // may not be set, the kernel's own choice stands.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    if let Some(identity) = &settings.identity
        && !settings.has_cgroups()
    {
        tine_sys::identity::become_user(start.alone, &identity.to_ids())?;
    }
    // After the change of user, which clears it (prctl(2)).
    kill_with(start.supervisor);
    Ok(())
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
