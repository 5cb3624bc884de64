//! A worker of a pool of jobs: does what handlers have submitted, one job after the other.
//!
//! It runs the program's own code, as a handler does, but for no connection: it has no client's
//! socket, no listener, and not the memory that decides. It is the user of the connections, and
//! in no jail.

use std::ffi::CString;

use rustix::process::Pid;
use tine_sys::fd::{Floor, close_from};
use tine_sys::process::{Alone, Fresh, exit_now};

use crate::error::{Error, next_move};
use crate::ipc::jobs::{JobPool, Turn};
use crate::ipc::members::Members;
use crate::lifecycle::outcome::ExitReport;
use crate::processes::start::{StartReport, cannot, cannot_die_with_parent, change_user};
use crate::system::parent::kill_with;
use crate::system::users::Identity;

/// What the supervisor hands to a worker: everything that it keeps.
pub(crate) struct WorkerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) supervisor: Pid,
    pub(crate) identity: Option<Identity>,
    /// The number of the worker, from 0.
    pub(crate) index: usize,
    /// The slot behind those of connections that it is a member by.
    pub(crate) slot: usize,
    pub(crate) pool: JobPool,
    pub(crate) members: Members,
    pub(crate) first_server_fd: Floor,
    pub(crate) report: StartReport,
}

/// Runs as a worker until no process is left that could submit a job, and none waits.
pub(crate) fn run(fresh: &Fresh, start: WorkerStart) -> ! {
    if let Err(error) = enter(&start) {
        start.report.failed(error);
    }
    start.report.entered();
    let WorkerStart { mut pool, members, slot, first_server_fd, report, .. } = start;
    // Its descriptors are among those that are closed next.
    drop(report);
    close_from(fresh, first_server_fd);
    members.enter_worker(slot, &pool.name);
    loop {
        match pool.turn() {
            Turn::Done => {}
            Turn::Panicked => exit_now(ExitReport::Panic(String::new()).exit_code()),
            Turn::Closed => exit_now(0),
        }
    }
}

/// A group of its own, the name, the user, and the end with the supervisor.
fn enter(start: &WorkerStart) -> Result<(), Error> {
    rustix::process::setpgid(None, None)
        .map_err(cannot("make a process group (setpgid)", next_move::of_call))?;
    // A name without a zero byte cannot fail.
    let name = CString::new(format!("tine: job {}", start.index + 1));
    let _ = name.map(|name| rustix::thread::set_name(&name));
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    start.identity.as_ref().map(|identity| change_user(start.alone, identity)).transpose()?;
    kill_with(start.supervisor).map_err(cannot_die_with_parent)
}
