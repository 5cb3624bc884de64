//! The system calls that tine needs and that `rustix` does not offer safely.
//!
//! This is the only crate of the workspace that writes `unsafe`. What belongs here: forking, waiting
//! with resource usage, signal dispositions, memory shared between processes, process titles,
//! becoming another user. What does not: anything `rustix` already offers with a safe face, and any
//! decision; this crate knows nothing of servers or connections.

pub mod clock;
pub mod cmdline;
mod cstrings;
pub mod environment;
pub mod exec;
pub mod fd;
pub mod identity;
mod limits;
pub mod memory;
pub mod process;
mod raw;
pub mod signal;
pub mod socket;
pub mod wait;

use std::io;

/// The system's words, without the number that the standard library adds.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// Turns the "minus one and `errno`" of the C library into a result.
fn check(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
