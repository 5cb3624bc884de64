//! A forker's answer to a failing accept or fork: pause, try again, and log it once for all
//! forkers.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::memory::Memory;
use super::state::pause;
use super::trusted::Forker;
use crate::error::reason;
use crate::net::accept::advice;

/// After this long without a failure, the failure is over.
const CALM: Duration = Duration::from_secs(1);

/// Pauses, and logs the failure if no forker has done so yet.
pub(super) fn fail<H>(forker: &mut Forker<'_, H>, memory: &mut Memory, what: &str, errno: Errno) {
    memory.failures += 1;
    memory.last_failure = Some(Instant::now());
    memory.paused_until = Some(Instant::now() + pause(memory.failures));
    let trusted = &forker.trusted;
    // The end of any connection may free what is missing.
    trusted.door.board.set_wants_slot(trusted.index, true);
    trusted.wake_supervisor();
    if trusted.door.board.set_failure(errno.raw_os_error()) {
        forker.context.log.error(what, &reason(&errno.into()), advice(errno));
    }
}

/// Ends the pause. The recovery is logged once nothing has failed for a second: at a limit, success
/// and failure alternate.
pub(super) fn succeed<H>(forker: &mut Forker<'_, H>, memory: &mut Memory) {
    let Some(last) = memory.last_failure else {
        return;
    };
    memory.failures = 0;
    memory.paused_until = None;
    if last.elapsed() > CALM {
        memory.last_failure = None;
        if forker.trusted.door.board.set_failure(0) {
            forker.context.log.recovered("processes can be created again");
        }
    }
}
