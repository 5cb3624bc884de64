//! Files in memory, for the tests of imports.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::World;

/// The only files that there are, with their texts. There is neither a host nor a named port.
pub(super) struct Folder<'a>(pub(super) &'a [(&'a str, &'a str)]);

impl World for Folder<'_> {
    fn read(&self, file: &Path) -> io::Result<String> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == file);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.0.iter().map(|(name, _)| PathBuf::from(name));
        Ok(names.filter(|name| name.parent() == Some(folder)).collect())
    }

    fn addresses(&self, _host: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn port(&self, _name: &str) -> Option<u16> {
        None
    }
}
