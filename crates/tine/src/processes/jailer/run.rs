//! The jailer's loop: keeps rooms ready.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, Fresh, Side, exit_now, fork_into};

use super::message::refusal;
use super::{init, keeper};
use crate::ipc::members::Members;
use crate::ipc::text_channel::TextChannel;
use crate::jail::full::FullJail;
use crate::jail::protection::empty_bounding_set;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::start_detached;
use crate::system::parent::kill_with;

/// Rooms that are ready, at most: as many as connections may come at once and find one.
pub(crate) const ROOMS: usize = 8;

/// Below this number, rooms are made at once. The forker has taken up to two more by then.
const FEW: usize = 4;

/// Otherwise they are made when the processors have served those that have come.
const REFILL_DELAY: Duration = Duration::from_millis(4);

/// What a jailer is started with.
pub(crate) struct JailerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) full: &'a FullJail,
    /// What the program shares, which is not for a jailer.
    pub(crate) members: Members,
    /// The number of its forker, from 0.
    pub(crate) index: usize,
    /// The process whose end ends all rooms, unless connections outlive the server.
    pub(crate) supervisor: Option<Pid>,
    pub(crate) first_server_fd: Floor,
}

/// Runs as a jailer until its forker ends.
pub(super) fn run(
    fresh: &Fresh,
    start: &JailerStart,
    forker: Pid,
    channel: TextChannel,
    supervisor: Option<OwnedFd>,
) -> ! {
    tine_sys::signal::defaults(fresh);
    // Without it, the first processes of rooms would stay as zombies.
    tine_sys::signal::ignore(Signal::CHILD.as_raw());
    // A name without a zero byte cannot fail.
    let name = CString::new(format!("tine: jailer {}", start.index + 1)).unwrap_or_default();
    start_detached(&name);
    if kill_with(forker).is_err() || start.members.leave().is_err() {
        exit_now(111);
    }
    let mut kept = vec![channel.as_fd()];
    kept.extend(supervisor.as_ref().map(|supervisor| supervisor.as_fd()));
    tine_sys::fd::close_from_except(fresh, start.first_server_fd, &kept);
    if let Err(why) = start.full.build(start.alone) {
        let _ = channel.send(&refusal(&why), &[]);
        exit_now(111);
    }
    // It has no log. A kernel that refuses this refuses it to the forker, whose start fails then.
    empty_bounding_set();
    let _ = ConfinedRole::Jailer.confine("jailer");
    tine_sys::memory::trim_heap();
    tine_sys::memory::trim_stack();
    let mut ready = 0;
    loop {
        while ready < ROOMS {
            ready += 1;
            match fork_into(start.alone, start.full.ahead()) {
                Ok(Side::Child(fresh)) if start.full.has_init => {
                    init::run(&fresh, start.alone, start.full, channel, supervisor)
                }
                Ok(Side::Child(fresh)) => keeper::run(&fresh, start.alone, start.full, channel, supervisor),
                Ok(Side::Parent(_)) => {}
                Err(why) => drop(channel.send(&refusal(&why), &[])),
            }
        }
        ready -= wait_for_taken(&channel, ready);
    }
}

/// Waits until rooms were taken, and returns how many; exits if the forker has ended.
fn wait_for_taken(channel: &TextChannel, ready: usize) -> usize {
    let mut taken = 0;
    let mut until: Option<Instant> = None;
    loop {
        match channel.receive() {
            Ok(Some(_)) => {
                taken += 1;
                if ready - taken < FEW {
                    return taken;
                }
                until.get_or_insert_with(|| Instant::now() + REFILL_DELAY);
            }
            Ok(None) => exit_now(0),
            Err(_) if until.is_some_and(|until| until <= Instant::now()) => return taken,
            Err(_) => {
                let mut poll = [PollFd::new(channel, PollFlags::IN)];
                let _ = tine_sys::wait::until(&mut poll, until);
            }
        }
    }
}
