//! What the kernel, and the container around the server, give of a jail.

use std::io;

use rustix::io::Errno;
use tine_sys::jail;

use super::filter::CallFilter;

/// What can be had, or the error of the call that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The version of Landlock.
    pub(super) landlock: Result<u32, Errno>,
    pub(super) no_new_privileges: Result<(), Errno>,
    pub(super) filters: Result<(), Errno>,
    pub(super) deny_write_execute: Result<(), Errno>,
}

impl Facts {
    /// Asks the kernel; changes nothing.
    pub(crate) fn ask() -> Facts {
        let filters = match CallFilter::is_possible() {
            true => jail::has_filters().map_err(errno),
            false => Err(Errno::NOSYS),
        };
        Facts {
            landlock: jail::landlock_version().map_err(errno),
            no_new_privileges: rustix::thread::no_new_privs().map(drop),
            filters,
            deny_write_execute: jail::has_deny_write_execute().map_err(errno),
        }
    }
}

fn errno(why: io::Error) -> Errno {
    Errno::from_io_error(&why).unwrap_or(Errno::INVAL)
}
