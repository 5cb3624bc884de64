//! The files that a link needs: the configuration of the resolver, which it reads when it resolves
//! a name; random numbers; and the authorities of certificates, which it keeps in memory.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use async_nats::rustls::RootCertStore;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{MemfdFlags, memfd_create};

/// What glibc and musl read to resolve a name (resolv.conf(5), nsswitch.conf(5)).
const RESOLVER: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

/// What a static program reads random numbers from: it does not find getrandom(2) in a library.
const RANDOM: [&str; 2] = ["/dev/random", "/dev/urandom"];

/// The files of the resolver.
pub(super) fn of_resolver() -> Vec<PathBuf> {
    RESOLVER.map(PathBuf::from).to_vec()
}

/// All files that are read again and again.
pub(super) fn readable() -> Vec<PathBuf> {
    RESOLVER.iter().chain(&RANDOM).map(PathBuf::from).collect()
}

/// A file in memory, which this process can open whatever it is confined to.
#[derive(Debug)]
pub(super) struct Kept(std::fs::File);

impl Kept {
    fn new(text: &[u8]) -> std::io::Result<Kept> {
        let mut file = std::fs::File::from(memfd_create("authorities", MemfdFlags::CLOEXEC)?);
        file.write_all(text)?;
        Ok(Kept(file))
    }

    /// The same contents as a file.
    ///
    /// # Errors
    /// Those of open(2), read(2) and memfd_create(2).
    pub(super) fn of_file(path: &Path) -> std::io::Result<Kept> {
        Kept::new(&std::fs::read(path)?)
    }

    /// The authorities of the system (PEM, RFC 7468), without those that the library cannot use:
    /// it would use none then.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn of_system() -> std::io::Result<Kept> {
        let mut usable = RootCertStore::empty();
        let mut text = String::new();
        for certificate in rustls_native_certs::load_native_certs().certs {
            let encoded = STANDARD.encode(&certificate);
            if usable.add(certificate).is_ok() {
                text.push_str("-----BEGIN CERTIFICATE-----\n");
                for line in encoded.as_bytes().chunks(64) {
                    text.push_str(&String::from_utf8_lossy(line));
                    text.push('\n');
                }
                text.push_str("-----END CERTIFICATE-----\n");
            }
        }
        Kept::new(text.as_bytes())
    }

    /// Where to open it.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Files as they were when this process started.
#[derive(Debug)]
pub(super) struct Originals(Vec<(PathBuf, Option<State>)>);

/// What is another after a change of a file: device, inode, size, and time in nanoseconds.
type State = (u64, u64, u64, i64, i64);

fn state(path: &Path) -> Option<State> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

impl Originals {
    pub(super) fn note(paths: impl IntoIterator<Item = PathBuf>) -> Originals {
        Originals(paths.into_iter().map(|path| (path.clone(), state(&path))).collect())
    }

    /// One that has changed since. A file in its place cannot be read: the confinement is about
    /// the file that was there.
    pub(super) fn changed(&self) -> Option<&Path> {
        self.0.iter().find(|(path, before)| state(path) != *before).map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_kept_as_they_are() {
        let path = std::env::temp_dir().join(format!("tine-link-authorities-{}", std::process::id()));
        std::fs::write(&path, "authorities").expect("written");
        let originals = Originals::note([path.clone(), "/nonexistent/file".into()]);
        assert_eq!(originals.changed(), None);
        let kept = Kept::of_file(&path).expect("a file in memory");
        let other = path.with_extension("new");
        std::fs::write(&other, "authorities").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert_eq!(originals.changed(), Some(path.as_path()));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(std::fs::read(kept.path()).expect("text"), b"authorities");
    }

    #[test]
    fn authorities_of_the_system_are_certificates() {
        let text =
            std::fs::read_to_string(Kept::of_system().expect("a file in memory").path()).expect("text");
        let count = text.matches("-----BEGIN CERTIFICATE-----\n").count();
        assert_eq!(count, rustls_native_certs::load_native_certs().certs.len());
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}
