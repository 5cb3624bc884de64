//! Refuses settings that contradict each other.

use std::path::{Component, Path};

use rustix::net::AddressFamily;

use super::{Wish, served_by_root};
use crate::error::Error;
use crate::jail::choices::PrivateNetwork;
use crate::jail::layer::Layer;
use crate::jail::temporary::{TEMPORARY, TemporaryFileSystem};
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
            (!self.temporary_file_systems.is_empty(), "temporary-file-system"),
            (self.jail_init.is_some(), "jail-init"),
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
        self.temporary_file_systems.iter().try_for_each(|own| self.check_temporary(own))?;
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
        let binds = self.bind_paths.iter().chain(&self.bind_read_only_paths);
        if let Some(bind) = binds.into_iter().find(|bind| bind.at != bind.source && !is_place(&bind.at)) {
            return Err(Error::usage(
                format_args!("the path {} in the jail is not absolute", bind.at.display()),
                "write the path of the system, a colon, and that of the jail: /srv/app-2:/app",
            ));
        }
        let named = self.read_write_paths.iter().filter(|_| self.mode == JailMode::Full);
        let places = self.bind_paths.iter().chain(&self.bind_read_only_paths).map(|bind| &bind.at);
        if let Some(path) = named.chain(places).find(|path| is_own(path)) {
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

    /// Refuses a temporary file system at a place that makes no sense.
    fn check_temporary(&self, own: &TemporaryFileSystem) -> Result<(), Error> {
        let path = own.path.as_path();
        let error = |what: &str, next: &str| {
            Err(Error::usage(format_args!("the temporary file system {} {what}", path.display()), next))
        };
        if !is_place(path) {
            return error(
                "is not at an absolute path",
                "write a path of the jail, and a size: /var/cache:64M",
            );
        }
        if is_own(path) {
            return error("is at a place that a full jail has itself", "name another path");
        }
        if path == Path::new(TEMPORARY) {
            return error("is there in every full jail", "set its size with private-tmp");
        }
        if own.size.is_some_and(|size| size < SMALLEST_TMP) {
            return error("is smaller than a page of memory", "set it to 4K or more, as 16M");
        }
        let binds = self.bind_paths.iter().chain(&self.bind_read_only_paths).map(|bind| &bind.at);
        if binds.chain(&self.read_write_paths).any(|bind| bind == path) {
            return error("is where a path of the system is", "name another path for one of them");
        }
        if self.temporary_file_systems.iter().filter(|other| other.path == path).count() > 1 {
            return error("is named twice", "name it once");
        }
        if self.inaccessible_paths.iter().any(|hidden| path.starts_with(hidden)) {
            return error("is in inaccessible-paths", "name it in one of them: it also hides what is there");
        }
        Ok(())
    }
}

/// Whether a path is one that something can be mounted at.
fn is_place(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// Whether a full jail has a path of its own.
fn is_own(path: &Path) -> bool {
    OWN_PLACES.iter().any(|own| path.starts_with(own)) || path == Path::new("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_file_system_is_at_a_place_of_its_own() {
        let full = || Jail::new(JailMode::Full).bind_path("/srv/a", "/srv/b").inaccessible_path("/home");
        for (path, size, expected) in [
            ("/var/cache", None, None),
            ("/tmp/x", Some(4096), None),
            ("/srv", None, None),
            ("/srv/b/c", None, None),
            ("/device", None, None),
            ("cache", None, Some("is not at an absolute path")),
            ("/var/../srv", None, Some("is not at an absolute path")),
            ("/", None, Some("a full jail has itself")),
            ("/dev/shm", None, Some("a full jail has itself")),
            ("/proc", None, Some("a full jail has itself")),
            ("/tmp/", None, Some("is there in every full jail")),
            ("/work", Some(4095), Some("is smaller than a page")),
            ("/srv/b", None, Some("is where a path of the system is")),
            ("/data", None, Some("is named twice")),
            ("/home", None, Some("is in inaccessible-paths")),
            ("/home/a", None, Some("is in inaccessible-paths")),
        ] {
            let jail = full().temporary_file_system("/data", None).temporary_file_system(path, size);
            let error = jail.check(false).err().map(|error| error.what().to_owned());
            match (&error, expected) {
                (None, None) => {}
                (Some(what), Some(part)) => assert!(what.contains(part), "{path}: {what}"),
                _ => panic!("{path}: {error:?}"),
            }
        }
        let light = Jail::new(JailMode::Light).temporary_file_system("/data", None);
        let error = light.check(false).expect_err("only a full one has it");
        assert!(error.what().contains("temporary-file-system is set"), "{}", error.what());
    }
}
