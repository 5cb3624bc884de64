//! The system calls that tine needs and that `rustix` does not offer safely.
//!
//! This is the only crate of the workspace with `unsafe` code: forks, waiting with resource usage,
//! signal dispositions, memory shared between processes, process titles, the change of user, the
//! steps of a jail. It does not wrap what `rustix` offers as safe functions, and makes no
//! decisions: it does not know servers or connections.
//!
//! A function that is right only at certain times takes a token for it: [`process::Alone`] where
//! there must be one thread, [`process::Fresh`] where the process must have been forked.

pub mod arena;
pub mod available;
pub mod beside;
pub mod call_notices;
pub mod clock;
pub mod cmdline;
pub mod connect_filter;
mod cstrings;
pub mod environment;
pub mod exec;
pub mod fault;
pub mod fd;
mod flag;
pub mod frozen;
pub mod helper_command;
pub mod identity;
pub mod jail;
mod limits;
pub mod memory;
pub mod namespaces;
pub mod other_memory;
pub mod plant;
pub mod process;
mod raw;
pub mod resolver;
pub mod signal;
pub mod socket;
pub mod socket_filter;
mod socket_option;
pub mod trace;
pub mod vsock;
pub mod wait;

use std::fmt;
use std::io;

/// The text of an operating system error in lower case, without "(os error N)".
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

/// Converts the return value of a C library function, -1 with the error in `errno`, into a result.
fn check(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// An error with the name of what failed in front of its cause.
fn about(what: impl fmt::Display, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{what}: {}", reason(why)))
}
