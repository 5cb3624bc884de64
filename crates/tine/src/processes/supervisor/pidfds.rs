//! The exits of processes that execute a program, by a descriptor for each (pidfd_open(2)).
//!
//! After execve(2) the exit signal of a process is SIGCHLD, and several of those are coalesced into
//! one. A process without a descriptor, because the system denies it or there are too many, is
//! looked for after each SIGCHLD.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open};

/// Descriptors that are left for everything else: without one, the supervisor cannot search for
/// descendants in `/proc`, and would find none.
const RESERVED: u64 = 16;

/// Processes whose exit is waited for.
#[derive(Debug)]
pub(super) struct PidFds {
    queue: OwnedFd,
    watched: HashMap<i32, OwnedFd>,
    /// Whether a process has no descriptor, or had none.
    has_unwatched: bool,
}

impl PidFds {
    /// A queue for [`PidFds::new`].
    pub(super) fn queue() -> Result<OwnedFd, Errno> {
        epoll::create(epoll::CreateFlags::CLOEXEC)
    }

    pub(super) fn new(queue: OwnedFd) -> PidFds {
        PidFds { queue, watched: HashMap::new(), has_unwatched: false }
    }

    /// Readable while one of them has exited.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.queue
    }

    /// Watches a child that has not been reaped.
    pub(super) fn watch(&mut self, pid: i32) {
        self.has_unwatched |= self.try_watch(pid).is_err();
    }

    /// Whether an exit can go without a report by a descriptor.
    pub(super) fn has_unwatched(&self) -> bool {
        self.has_unwatched
    }

    fn try_watch(&mut self, pid: i32) -> Result<(), Errno> {
        let id = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
        let descriptor = pidfd_open(id, PidfdFlags::empty())?;
        // The lowest that is free. Asked each time: the limit can be changed (prlimit(2)).
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if descriptor.as_raw_fd() as u64 + RESERVED >= limit {
            return Err(Errno::MFILE);
        }
        epoll::add(&self.queue, &descriptor, epoll::EventData::new_u64(pid as u64), epoll::EventFlags::IN)?;
        self.watched.insert(pid, descriptor);
        Ok(())
    }

    /// The processes that have exited and are still watched.
    pub(super) fn take(&mut self) -> Vec<i32> {
        if self.watched.is_empty() {
            return Vec::new();
        }
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; 256];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = epoll::wait(&self.queue, &mut buffer, Some(&now));
        ended.map_or_else(
            |_| Vec::new(),
            |(ended, _)| ended.iter().map(|event| event.data.u64() as i32).collect(),
        )
    }

    /// Stops watching a process.
    pub(super) fn forget(&mut self, pid: i32) {
        // Closing the descriptor removes it from the queue.
        self.watched.remove(&pid);
    }
}
