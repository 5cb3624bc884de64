//! What the kernel, and the container around the server, give of a jail.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use tine_sys::jail;
use tine_sys::process::Alone;

use super::cause::Clues;
use super::controllers::CgroupFacts;
use super::filter::CallFilter;
use super::full::FullJail;
use super::step::StepError;
use super::tried::Tried;

/// What can be had, or the error of the call that says so.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The namespaces and the root of a full jail, if one was asked about.
    pub(super) house: Result<(), StepError>,
    /// What may have refused them.
    pub(super) clues: Clues,
    /// The version of Landlock.
    pub(super) landlock: Result<u32, Errno>,
    /// The rules of Landlock about files.
    pub(super) file_rules: Result<(), Errno>,
    pub(super) no_new_privileges: Result<(), Errno>,
    /// Whether capabilities can be dropped.
    pub(super) capabilities: Result<(), Errno>,
    pub(super) filters: Result<(), Errno>,
    /// Whether the sockets of clients can be held to their port.
    pub(super) holding: Result<(), Errno>,
    pub(super) deny_write_execute: Result<(), Errno>,
    /// Whether another process can connect in place of those in the jail.
    pub(super) connecting: Result<(), Errno>,
    pub(super) cgroups: CgroupFacts,
}

impl Facts {
    /// Asks the kernel; changes nothing. What can only be tried is tried in processes of their own:
    /// not by a process with several threads. `cgroup`: the directory of cgroups that was named.
    pub(crate) fn ask(full: Option<&FullJail>, cgroup: Option<&Path>, alone: Option<&Alone>) -> Facts {
        let filters = match CallFilter::is_possible() {
            true => jail::has_filters().map_err(errno),
            false => Err(Errno::NOSYS),
        };
        let tried = alone.map_or(Tried::NOT, Tried::aside);
        let house = match (full, alone) {
            (None, _) => Ok(()),
            // With capabilities over its namespaces, a handler could undo what they take away.
            (Some(full), Some(alone)) => full.try_out(alone).and_then(|()| {
                let step = "drop of capabilities".to_owned();
                tried.capabilities.map_err(|errno| StepError { step, errno })
            }),
            (Some(_), None) => Err(StepError::with_threads()),
        };
        Facts {
            clues: if house.is_err() { Clues::look() } else { Clues::default() },
            house,
            landlock: jail::landlock_version()
                .map_err(errno)
                .and_then(|version| tried.landlock.map(|()| version)),
            file_rules: tried.file_rules,
            no_new_privileges: rustix::thread::no_new_privs().and(tried.no_new_privileges),
            capabilities: tried.capabilities,
            filters: filters.and(tried.filters),
            holding: tine_sys::socket_filter::can_hold().map_err(errno),
            deny_write_execute: jail::has_deny_write_execute().map_err(errno),
            connecting: tried.connecting,
            cgroups: CgroupFacts::ask(cgroup),
        }
    }
}

fn errno(why: io::Error) -> Errno {
    Errno::from_io_error(&why).unwrap_or(Errno::INVAL)
}
