//! The first process of a room. It furnishes the room, reaps what is left in it, and ends with the
//! process of the connection, which is the second: the kernel ends all others with it
//! (pid_namespaces(7)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tine_sys::process::{Fresh, exit_now};

use super::message::{ROOM, refusal};
use crate::ipc::text_channel::TextChannel;
use crate::jail::first_process::become_first;
use crate::jail::full::FullJail;
use crate::processes::start::start_detached;

/// The number of the process of the connection in its pid namespace.
const SECOND: i32 = 2;

/// Runs as the first process of a room until the process of its connection has ended.
pub(super) fn run(_fresh: &Fresh, full: &FullJail, channel: TextChannel, supervisor: Option<OwnedFd>) -> ! {
    start_detached(c"tine: init");
    let start = offer(full, channel, SocketType::STREAM, become_first);
    if wait(&start, supervisor.as_ref()) == Ended::Watched {
        // A byte, or the end of a forker that may have been killed after it created the process.
        let _ = recv(&start, &mut [0; 1][..], RecvFlags::empty());
        if let Ok(second) = second_process() {
            drop(start);
            wait(&second, supervisor.as_ref());
        }
    }
    exit_now(0)
}

/// Furnishes the room, gives up what it can do, and offers the room to the forker. Returns the
/// socket by which it is told of its connection; exits if a step is refused.
pub(super) fn offer(
    full: &FullJail,
    channel: TextChannel,
    kind: SocketType,
    give_up: fn() -> io::Result<OwnedFd>,
) -> OwnedFd {
    let offered = full.furnish().and_then(|()| {
        let (start, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let own = give_up()?;
        channel.send(ROOM, &[own.as_fd(), theirs.as_fd()])?;
        Ok(start)
    });
    offered.unwrap_or_else(|why| {
        let _ = channel.send(&refusal(&why), &[]);
        exit_now(111)
    })
}

fn second_process() -> Result<OwnedFd, Errno> {
    let second = Pid::from_raw(SECOND).ok_or(Errno::SRCH)?;
    pidfd_open(second, PidfdFlags::empty())
}

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Watched,
    Supervisor,
}

/// Waits for an event of a descriptor, or the end of the supervisor.
pub(super) fn wait(watched: &OwnedFd, supervisor: Option<&OwnedFd>) -> Ended {
    let supervisor = supervisor.unwrap_or(watched);
    loop {
        let mut poll = [PollFd::new(watched, PollFlags::IN), PollFd::new(supervisor, PollFlags::IN)];
        tine_sys::wait::until(&mut poll, None).ok();
        if !poll[0].revents().is_empty() {
            return Ended::Watched;
        }
        if !poll[1].revents().is_empty() {
            return Ended::Supervisor;
        }
    }
}
