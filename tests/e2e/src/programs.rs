//! Programs that tests run to their end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::run;

/// Runs a command that has to succeed, and returns its standard output.
///
/// # Panics
/// If it fails.
pub fn succeeds(command: &mut Command) -> String {
    let (code, out, err) = run(command);
    assert_eq!(code, 0, "{command:?}: {err}");
    out
}

/// git in a folder, without the settings of the machine.
#[must_use]
pub fn git(folder: &str) -> Command {
    let mut git = Command::new("git");
    git.args(["-C", folder, "-c", "user.name=t", "-c", "user.email=t@localhost"]);
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git
}

/// Every file below a directory, with its contents.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            found.extend(
                tree(&entry.path())
                    .into_iter()
                    .map(|(name, bytes)| (Path::new(&entry.file_name()).join(name), bytes)),
            );
        } else {
            found.insert(entry.file_name().into(), std::fs::read(entry.path()).expect("a file"));
        }
    }
    found
}
