//! Cgroups for servers under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::folder::Folder;
use crate::procfs;
use crate::server::Server;
use crate::wait::wait_until;

/// A cgroup of a test, as it would be delegated to a server. Dropping it kills what is left in it.
pub struct DelegatedCgroup {
    /// Path of its directory.
    pub path: PathBuf,
    mounted: Option<Folder>,
}

impl DelegatedCgroup {
    /// Creates an empty cgroup. `name` must differ between the tests of one process.
    ///
    /// # Panics
    /// If no cgroup v2 hierarchy can be written or mounted.
    #[must_use]
    pub fn new(name: &str) -> DelegatedCgroup {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
        let existing = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
        });
        // In a container, the hierarchy may be read-only.
        let writable = existing.filter(|mount| fs::create_dir(mount.join("tine-probe")).is_ok());
        let (mount, mounted) = match writable {
            Some(mount) => (mount, None),
            None => {
                let folder = Folder::new(&format!("cgroup-{name}"));
                let done = Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&folder.0).status();
                assert!(done.is_ok_and(|done| done.success()), "no cgroup v2 hierarchy can be mounted");
                (folder.0.clone(), Some(folder))
            }
        };
        let _ = fs::remove_dir(mount.join("tine-probe"));
        let path = mount.join(format!("tine-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup");
        DelegatedCgroup { path, mounted }
    }

    /// Serves a shell script with `--cgroup`.
    #[must_use]
    pub fn shell(&self, options: &[&str], script: &str) -> Server {
        self.program(options, &["sh", "-c", script])
    }

    /// Serves a program with `--cgroup`.
    ///
    /// # Panics
    /// If the path is not UTF-8.
    #[must_use]
    pub fn program(&self, options: &[&str], program: &[&str]) -> Server {
        let path = self.path.to_str().expect("a path in UTF-8");
        Server::program(&[options, &["--cgroup", path]].concat(), program)
    }

    /// The processes in it and in the cgroups below it.
    #[must_use]
    pub fn members(&self) -> BTreeSet<i32> {
        members(&self.path)
    }

    /// The number of daemons in it that programs have left behind.
    #[must_use]
    pub fn daemons(&self) -> usize {
        self.members().into_iter().filter_map(procfs::process).filter(|one| one.name == "sleep").count()
    }
}

/// The cgroups directly below a cgroup.
#[must_use]
pub fn cgroups_in(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn members(of: &Path) -> BTreeSet<i32> {
    let own = fs::read_to_string(of.join("cgroup.procs")).unwrap_or_default();
    let below = cgroups_in(of);
    own.lines().filter_map(|pid| pid.parse().ok()).chain(below.iter().flat_map(|one| members(one))).collect()
}

fn remove(path: &Path) {
    cgroups_in(path).iter().for_each(|below| remove(below));
    let _ = fs::remove_dir(path);
}

impl Drop for DelegatedCgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        wait_until("the cgroup is empty", || self.members().is_empty().then_some(()));
        remove(&self.path);
        if let Some(folder) = &self.mounted {
            let _ = Command::new("umount").arg(&folder.0).status();
        }
    }
}
