//! The first process of a room. It furnishes the room, reaps what is left in it, and ends with the
//! process of the connection, which is the second: the kernel ends all others with it
//! (pid_namespaces(7)). Where that is a template, it ends with the last process in the room.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tine_sys::process::{Alone, Fresh, Side, exit_now, fork, has_others};

use super::message::{ROOM, refusal};
use crate::ipc::text_channel::TextChannel;
use crate::jail::first_process::become_first;
use crate::jail::full::FullJail;
use crate::jail::room::WITH_TEMPLATE;
use crate::processes::start::start_detached;

/// The number of the process of the connection in its pid namespace.
const SECOND: i32 = 2;

/// Runs as the first process of a room until the process of its connection has ended.
pub(super) fn run(
    _fresh: &Fresh,
    alone: &Alone,
    full: &FullJail,
    channel: TextChannel,
    supervisor: Option<OwnedFd>,
) -> ! {
    start_detached(c"tine: init");
    let start = offer(full, channel, SocketType::STREAM, become_first);
    if wait(&start, supervisor.as_ref()) == Ended::Watched {
        // A byte, or the end of a forker that may have been killed after it created the process.
        let mut begun = [0];
        let _ = recv(&start, &mut begun[..], RecvFlags::empty());
        if let Ok(second) = process(SECOND) {
            drop(start);
            let ended = wait(&second, supervisor.as_ref());
            if begun == *WITH_TEMPLATE && ended == Ended::Watched {
                wait_for_all(alone, supervisor.as_ref());
            }
        }
    }
    exit_now(0)
}

/// Waits until no other process is in the room, or the supervisor has ended. `/proc` does not show
/// those of other users.
fn wait_for_all(alone: &Alone, supervisor: Option<&OwnedFd>) {
    let mut last = newest(alone);
    let mut number = SECOND;
    while has_others() {
        number = match number {
            // Those that were created meanwhile, and, if their numbers have begun anew, the others.
            number if number >= last => {
                last = newest(alone);
                SECOND
            }
            number => number + 1,
        };
        if process(number).is_ok_and(|process| wait(&process, supervisor) == Ended::Supervisor) {
            return;
        }
    }
}

/// The highest number that a process in the room can have: the next one gets a higher one, unless
/// numbers begin anew.
fn newest(alone: &Alone) -> i32 {
    match fork(alone, Signal::CHILD.as_raw()) {
        Ok(Side::Child(_)) => exit_now(0),
        // The kernel reaps it: SIGCHLD is ignored.
        Ok(Side::Parent(pid)) => pid,
        Err(_) => HIGHEST,
    }
}

/// The highest number of a process that Linux gives out (`PID_MAX_LIMIT`).
const HIGHEST: i32 = 1 << 22;

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

fn process(number: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(Pid::from_raw(number).ok_or(Errno::SRCH)?, PidfdFlags::empty())
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
