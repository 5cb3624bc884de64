//! The room that each copy of a template makes in a full jail where programs are process 1 of
//! theirs: in namespaces of its own, in the place of those that the template is in.

use std::fs;
use std::path::{Path, PathBuf};

use tine_sys::namespaces::Kinds;
use tine_sys::plant::OF_A_COPY;

use super::choices::PrivateNetwork;
use super::full::FullJail;
use super::house::proc_mount;
use super::mounts::KindOfMount;
use super::plan::Plan;
use crate::error::{Error, ErrorKind};

/// What a copy does to be in a room of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyRoom {
    /// What it mounts, in order.
    pub(crate) mounts: Vec<KindOfMount>,
    /// Whether it has a network of its own, with the loopback interface.
    pub(crate) has_loopback: bool,
    /// The instructions of the filter that it adds, after which it can make no other room; none
    /// without a filter of system calls.
    pub(crate) filter: Vec<u64>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// The highest number of a capability.
    pub(crate) last_capability: u32,
}

impl CopyRoom {
    /// The namespaces of the copy.
    pub(crate) fn kinds(&self) -> Kinds {
        kinds(self.has_loopback)
    }

    /// Whether a file is in what the room has of its own: there, a copy does not see what the
    /// template has.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        self.mounts.iter().any(|mount| path.starts_with(&mount.path))
    }
}

fn last_capability() -> Result<u32, Error> {
    const FILE: &str = "/proc/sys/kernel/cap_last_cap";
    let text = fs::read_to_string(FILE);
    let number = text.and_then(|text| text.trim_end().parse().map_err(std::io::Error::other));
    number.map_err(|why| Error::system(format_args!("cannot read {FILE}"), &why, "mount /proc"))
}

fn kinds(has_loopback: bool) -> Kinds {
    if has_loopback { OF_A_COPY.and(Kinds::NETWORK) } else { OF_A_COPY }
}

impl Plan {
    /// The jail of templates, whose room always has a first process of the server: none of its
    /// copies can be it. Where connections are to be process 1, they are so in rooms of their own,
    /// which they may make. No client is behind the connection that a template has; a copy gets one
    /// that is held to its port already.
    pub(crate) fn of_templates(&self) -> Plan {
        let mut plan = Plan { holds_clients: false, ..self.clone() };
        if let Some(full) = plan.full.as_mut().filter(|full| !full.has_init) {
            full.has_init = true;
            let has_loopback = full.network == PrivateNetwork::Loopback;
            plan.filter.iter_mut().for_each(|filter| filter.let_copies_into(kinds(has_loopback)));
        }
        plan
    }

    /// The room of each copy, if it has one of its own. `directory`: its working directory.
    ///
    /// # Errors
    /// The jail has what a copy cannot make for itself.
    pub(crate) fn copy_room(&self, directory: Option<&Path>) -> Result<Option<CopyRoom>, Error> {
        let Some(full) = self.full.as_ref().filter(|full| !full.has_init) else { return Ok(None) };
        let refused = |what: &str| {
            let next =
                "leave one of them out, or have copies share the room of their template (`--jail-init yes`)";
            Error::new(
                ErrorKind::Jail,
                format_args!("a copy of a template cannot be process 1 of its jail with {what}"),
                next,
            )
        };
        if self.capabilities.is_some_and(|kept| !kept.is_empty()) {
            return Err(refused("capabilities that are kept"));
        }
        let own = full.house.own_mounts().ok_or_else(|| {
            refused("a temporary file system that has another one, or a path of the system, below it")
        })?;
        let has_loopback = full.network == PrivateNetwork::Loopback;
        let filter = self.filter.as_ref().map(|filter| filter.for_copies(kinds(has_loopback))).transpose();
        let filter = filter.map_err(|why| {
            Error::new(ErrorKind::Jail, "the jail cannot compile a filter for copies", "use `--warm=no`")
                .because(&std::io::Error::other(why))
        })?;
        let filter = filter.unwrap_or_default().into_iter().map(|instruction| {
            let [low, high] = instruction.code.to_ne_bytes();
            let [a, b, c, d] = instruction.k.to_ne_bytes();
            u64::from_ne_bytes([low, high, instruction.jt, instruction.jf, a, b, c, d])
        });
        Ok(Some(CopyRoom {
            mounts: [proc_mount()].into_iter().chain(own).collect(),
            has_loopback,
            filter: filter.collect(),
            directory: directory.unwrap_or(Path::new("/")).to_owned(),
            last_capability: last_capability()?,
        }))
    }
}

impl FullJail {
    /// Lets as many user namespaces be made in that of the forker, where copies need theirs.
    pub(crate) fn with_user_namespaces(self, most: usize) -> FullJail {
        FullJail { user_namespaces: most, ..self }
    }
}
