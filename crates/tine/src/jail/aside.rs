//! Work in a process that is forked for it, and what it reports.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::pipe::{PipeFlags, pipe_with};
use tine_sys::process::{Alone, Fresh, How, Side, exit_now, wait_for};

/// Does a job in a process that `fork` creates. Returns its report, empty if it died before, and
/// how the process ended.
///
/// # Errors
/// The kernel refuses a pipe or the fork.
pub(super) fn reported(
    alone: &Alone,
    fork: impl FnOnce(&Alone) -> io::Result<Side>,
    job: impl FnOnce(&Fresh) -> Vec<u8>,
) -> io::Result<(Vec<u8>, How)> {
    let (receiver, sender) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork(alone)? {
        Side::Child(fresh) => {
            let sent = File::from(sender).write_all(&job(&fresh));
            exit_now(i32::from(sent.is_err()))
        }
        Side::Parent(pid) => {
            drop(sender);
            let mut report = Vec::new();
            File::from(receiver).read_to_end(&mut report)?;
            Ok((report, wait_for(pid)?))
        }
    }
}
