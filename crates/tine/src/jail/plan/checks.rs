//! Refuses settings that contradict each other.

use std::path::{Component, Path, PathBuf};

use rustix::net::AddressFamily;

use super::{Wish, served_by_root};
use crate::error::Error;
use crate::jail::choices::PrivateNetwork;
use crate::jail::layer::Layer;
use crate::jail::{Jail, JailMode};

/// A page of memory: a file system of it cannot be smaller (tmpfs(5)).
const SMALLEST_TMP: u64 = 4096;

/// What a full jail makes itself.
const OWN_PLACES: [&str; 2] = ["/dev", "/proc"];

impl Jail {
    /// Refuses settings that contradict each other, on whatever system. `as_root`: the connections
    /// are served by the user 0, in whatever jail.
    ///
    /// # Errors
    /// They do.
    pub(crate) fn check(&self, as_root: bool) -> Result<(), Error> {
        self.check_limits()?;
        let needs = [Layer::SystemCalls, Layer::Files, Layer::Scope];
        if self.no_new_privileges == Some(false)
            && needs.into_iter().any(|layer| self.wish_for(layer) != Wish::None)
        {
            return Err(Error::usage(
                "a filter of system calls and Landlock are only possible without new privileges",
                "leave no-new-privileges out, or set the other protections to no",
            ));
        }
        let decides = [Layer::Files, Layer::Root].into_iter().any(|layer| self.wish_for(layer) != Wish::None);
        if !self.read_write_paths.is_empty() && !decides {
            return Err(Error::usage(
                "paths that can be written are set, and nothing keeps others from being written",
                "set protect-system to strict, or use a jail",
            ));
        }
        let in_full = [
            (self.root_directory.is_some(), "root-directory"),
            (!self.bind_paths.is_empty(), "bind-paths"),
            (!self.bind_read_only_paths.is_empty(), "bind-read-only-paths"),
            (self.private_tmp.is_some(), "private-tmp"),
            (self.uid_range.is_some(), "uid-range"),
            (self.private_users.is_some(), "private-users"),
            (self.private_network.is_some(), "private-network"),
            (!self.network_allow.is_empty(), "network-allow"),
        ];
        if let Some((_, name)) = in_full.iter().find(|(is_set, _)| *is_set && !self.wants_full()) {
            return Err(Error::usage(
                format_args!("{name} is set, and only a full jail has it"),
                "use a full jail, or leave it out",
            ));
        }
        self.check_places()?;
        self.check_network_allow()?;
        if self.mode == JailMode::Full && self.protect_system == Some(false) {
            return Err(Error::usage(
                "in a full jail, files of the system cannot be written",
                "name what can be with read-write-paths, or use another jail",
            ));
        }
        if as_root && self.mode != JailMode::None {
            return Err(served_by_root());
        }
        Ok(())
    }

    /// Refuses endpoints that all programs can connect to, or none.
    fn check_network_allow(&self) -> Result<(), Error> {
        if self.network_allow.is_empty() {
            return Ok(());
        }
        if self.private_network == Some(PrivateNetwork::Machine) {
            return Err(Error::usage(
                "network-allow names what can be connected to, and with the network of the machine all can",
                "set private-network to yes or loopback, or leave network-allow out",
            ));
        }
        let filter = self.filter();
        let has_family = |family| filter.families.as_ref().is_none_or(|families| families.has(family));
        let has_sockets = [AddressFamily::INET, AddressFamily::INET6].into_iter().any(has_family);
        if !has_sockets || !["connect", "socket"].iter().all(|call| filter.calls.has(call)) {
            return Err(Error::usage(
                "network-allow is set, and the filter of system calls lets no program connect",
                "allow socket and connect (system-call-filter) and AF_INET (restrict-address-families)",
            ));
        }
        if filter.calls.has("io_uring_setup") {
            return Err(Error::usage(
                "network-allow is set, and io_uring connects without the server",
                "leave io_uring out of system-call-filter",
            ));
        }
        Ok(())
    }

    /// Refuses places in a full jail that make no sense.
    fn check_places(&self) -> Result<(), Error> {
        let is_place =
            |path: &Path| path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
        let binds = self.bind_paths.iter().chain(&self.bind_read_only_paths);
        if let Some(bind) = binds.into_iter().find(|bind| bind.at != bind.source && !is_place(&bind.at)) {
            return Err(Error::usage(
                format_args!("the path {} in the jail is not absolute", bind.at.display()),
                "write the path of the system, a colon, and that of the jail: /srv/app-2:/app",
            ));
        }
        let named = self.read_write_paths.iter().filter(|_| self.mode == JailMode::Full);
        let places = self.bind_paths.iter().chain(&self.bind_read_only_paths).map(|bind| &bind.at);
        let is_own = |path: &&PathBuf| {
            OWN_PLACES.iter().any(|own| path.starts_with(own)) || path.as_path() == Path::new("/")
        };
        if let Some(path) = named.chain(places).find(is_own) {
            return Err(Error::usage(
                format_args!("a full jail has its own {}", path.display()),
                "name another path, or the root directory of the jail (root-directory)",
            ));
        }
        if self.private_tmp.is_some_and(|size| size < SMALLEST_TMP) {
            return Err(Error::usage(
                "private-tmp is smaller than a page of memory",
                "set it to 4K or more, as 16M",
            ));
        }
        Ok(())
    }
}
