//! A command of the standard library that ends with the process that starts it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the process of this command killed when the thread that starts it ends
/// (`PR_SET_PDEATHSIG`, prctl(2)). A program with a set-user-ID bit is not killed.
pub fn end_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let step = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before.
        if getppid().is_some_and(|now| now != parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec, the step makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(step);
    }
}
