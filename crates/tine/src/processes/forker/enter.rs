//! A forker's first steps: from the fork to the loop.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};

use super::Forker;
use super::run::CONTROL;
use crate::processes::conn;
use crate::program::launch::Launcher;

/// The steps from the fork to the loop.
pub(super) fn enter<H>(forker: &mut Forker<'_, H>) -> std::io::Result<OwnedFd> {
    // A group of its own, for the same reason as a connection.
    rustix::process::setpgid(None, None)?;
    rustix::thread::set_name(&std::ffi::CString::new(format!("tine: forker {}", forker.index + 1))?)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    // Connections inherit these two: no core files of clients' data, and first in line when memory
    // runs out. Where the score may not be set, the kernel's own choice stands.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    if let Some(identity) = &forker.settings.identity
        && !forker.settings.has_cgroups()
    {
        tine_sys::identity::become_user(forker.alone, &identity.to_ids())?;
    }
    // After the change of user, which clears it (prctl(2)).
    conn::kill_on_exit_of(forker.supervisor);
    forker.title = forker.settings.titles.then(tine_sys::cmdline::Title::take_over).transpose()?;
    if !forker.board_is_inherited() {
        forker.board.exclude_from_fork()?;
        forker.door.exclude_from_fork()?;
    }
    if let Some((program, path)) = forker.settings.program.as_ref().zip(forker.program_path) {
        let lowest = forker.first_server_fd;
        let identity = forker.settings.identity.as_ref().filter(|_| forker.settings.has_cgroups());
        let stderr_logger = forker.stderr_logger.take();
        forker.launcher = Some(Launcher::new(
            program,
            path.to_owned(),
            identity,
            forker.parent_death_pid(),
            stderr_logger,
            lowest,
        )?);
    }
    event_queue(forker, &forker.control)
}

/// An epoll instance with every listener, and after them what comes back from the delayer, of which it wakes one of
/// those who wait; and a word from the supervisor.
pub(crate) fn event_queue<H>(forker: &Forker<'_, H>, word: impl AsFd) -> std::io::Result<OwnedFd> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let queue = forker.first_server_fd.duplicate(queue)?;
    let back = forker.delayer.map(|delayer| delayer.back.as_fd());
    for (number, clients) in forker.listeners.iter().map(AsFd::as_fd).chain(back).enumerate() {
        let one_of_us = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&queue, clients, epoll::EventData::new_u64(number as u64), one_of_us)?;
    }
    epoll::add(&queue, word, epoll::EventData::new_u64(CONTROL), epoll::EventFlags::IN)?;
    Ok(queue)
}
