//! The process of a room whose first process is that of the connection. It has the namespaces that
//! process joins, mounts `/proc` in them once there is a pid namespace, and ends when the program
//! runs: until then, it ends the process of the connection if the supervisor ends.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendFlags, SocketType, send};
use rustix::process::{Signal, pidfd_send_signal};
use tine_sys::process::{Alone, Fresh, exit_now};

use super::init::{Ended, offer, wait};
use super::message::refusal;
use crate::ipc::text_channel::TextChannel;
use crate::jail::first_process::become_keeper;
use crate::jail::full::FullJail;
use crate::jail::room::MOUNTED;
use crate::processes::start::start_detached;

/// Runs as the process of a room until the process of its connection has executed the program, or
/// has given the room up.
pub(super) fn run(
    _fresh: &Fresh,
    alone: &Alone,
    full: &FullJail,
    channel: TextChannel,
    supervisor: Option<OwnedFd>,
) -> ! {
    start_detached(c"tine: room");
    // It waits for the process that mounts `/proc`.
    tine_sys::signal::default(Signal::CHILD.as_raw());
    let start = offer(full, channel, SocketType::SEQPACKET, become_keeper);
    if wait(&start, supervisor.as_ref()) == Ended::Watched
        && let Some((start, process)) = serve(alone, start)
        && wait(&start, supervisor.as_ref()) == Ended::Supervisor
    {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
    exit_now(0)
}

/// Mounts the `/proc` of the process of the connection, and returns that process; `None` if there
/// is none.
fn serve(alone: &Alone, start: OwnedFd) -> Option<(OwnedFd, OwnedFd)> {
    let start = TextChannel::from(start);
    let received = start.receive().ok()??;
    let [pids, process] = <[OwnedFd; 2]>::try_from(received.descriptors).ok()?;
    let start = OwnedFd::from(start);
    let mounted = FullJail::furnish_late(alone, pids.as_fd());
    let reply = mounted.map_or_else(|why| refusal(&why).into_bytes(), |()| MOUNTED.to_vec());
    send(&start, &reply, SendFlags::NOSIGNAL).ok()?;
    Some((start, process))
}
