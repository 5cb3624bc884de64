//! The ruleset of Landlock (landlock(7)): which files can be read and executed, and which written.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::error::{Error, next_move};

/// The newest version that is made use of. Of an older kernel, the rules are those that it knows.
pub(super) const VERSION: ABI = ABI::V6;

/// Devices that programs write to without a trace.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx"];

/// Terminals, whose settings programs change.
const TERMINALS: &str = "/dev/pts";

/// Rules about files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRules {
    read_write: Vec<PathBuf>,
    inaccessible: Vec<PathBuf>,
}

impl FileRules {
    pub(super) fn new(read_write: &[PathBuf], inaccessible: &[PathBuf]) -> FileRules {
        FileRules { read_write: read_write.to_vec(), inaccessible: inaccessible.to_vec() }
    }

    /// Whether the rules let this directory be written.
    pub(super) fn may_write(&self, directory: &Path) -> bool {
        self.read_write.iter().any(|path| directory.starts_with(path))
    }
}

/// Makes the ruleset: files, with `scope` the signals and abstract sockets of processes in the
/// jail, with `refuses_tcp` the calls that connect and bind sockets of TCP.
///
/// # Errors
/// A path that was named cannot be opened; the kernel refuses the ruleset.
pub(super) fn make(
    files: Option<&FileRules>,
    scope: bool,
    refuses_tcp: bool,
) -> Result<Option<OwnedFd>, Error> {
    let refused = |why: RulesetError| {
        let why = system_error(&why);
        Error::system("cannot make the rules of the jail (Landlock)", &why, next_move::of_call(&why))
    };
    let mut ruleset = Ruleset::default();
    if files.is_some() {
        ruleset = ruleset.handle_access(AccessFs::from_all(VERSION)).map_err(refused)?;
    }
    if refuses_tcp {
        ruleset = ruleset.handle_access(AccessNet::from_all(VERSION)).map_err(refused)?;
    }
    if scope {
        ruleset = ruleset.scope(Scope::from_all(VERSION)).map_err(refused)?;
    }
    let mut created = ruleset.create().map_err(refused)?;
    if let Some(rules) = files {
        let reading = AccessFs::from_read(ABI::V1);
        for path in readable(&resolved(&rules.inaccessible)?).map_err(|why| cannot_list(&why))? {
            created = allow(created, &path, reading).map_err(|why| cannot_open(&path, &why))?;
        }
        let device = reading | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        for path in DEVICES.into_iter().chain([TERMINALS]).filter(|path| Path::new(path).exists()) {
            created = allow(created, Path::new(path), device).map_err(|why| cannot_open(path, &why))?;
        }
        for path in &rules.read_write {
            let writing = AccessFs::from_all(VERSION);
            created = allow(created, path, writing).map_err(|why| cannot_open(path, &why))?;
        }
    }
    Ok(created.into())
}

/// Adds a rule for what is below a path; for a file, the part of it that concerns files.
pub(super) fn allow(
    created: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, io::Error> {
    let opened = PathFd::new(path).map_err(|why| match why {
        PathFdError::OpenCall { source, .. } => source,
        other => io::Error::other(other),
    })?;
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(VERSION) };
    created.add_rule(PathBeneath::new(opened, access)).map_err(|why| system_error(&why))
}

/// The error of the system call below an error of the crate, for its number.
fn system_error(why: &RulesetError) -> io::Error {
    let first: &dyn std::error::Error = why;
    let causes = std::iter::successors(Some(first), |why| why.source());
    let numbers = causes.filter_map(|why| why.downcast_ref::<io::Error>()?.raw_os_error());
    match numbers.last() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(why.to_string()),
    }
}

fn cannot_open(path: impl AsRef<Path>, why: &io::Error) -> Error {
    let what = format!("cannot open {} for the jail", path.as_ref().display());
    Error::system(what, why, next_move::of_file(why))
}

fn cannot_list(why: &io::Error) -> Error {
    Error::system("cannot list the files beside the inaccessible ones", why, next_move::of_file(why))
}

/// The paths without links. One that is misspelt would protect nothing.
fn resolved(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    paths.iter().map(|path| fs::canonicalize(path).map_err(|why| cannot_open(path, &why))).collect()
}

/// The paths below which everything can be read: `/`, or, as rules only allow, all that is beside
/// the inaccessible paths and beside the directories above them. These have no links in them.
///
/// # Errors
/// A directory cannot be listed.
fn readable(inaccessible: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(Path::new("/"), inaccessible, &mut found)?;
    Ok(found)
}

fn collect(directory: &Path, inaccessible: &[PathBuf], found: &mut Vec<PathBuf>) -> io::Result<()> {
    if inaccessible.iter().any(|path| directory.starts_with(path)) {
        return Ok(());
    }
    if !inaccessible.iter().any(|path| path.starts_with(directory)) {
        found.push(directory.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What a link leads to has its own path.
        if !entry.file_type()?.is_symlink() {
            collect(&entry.path(), inaccessible, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_readable_but_what_is_inaccessible() {
        assert_eq!(readable(&[]).expect("a list"), [Path::new("/")]);
        let found = readable(&["/proc/sys/kernel".into(), "/proc/sys/kernel/random".into()]).expect("a list");
        for path in ["/proc/sys/vm", "/proc/self", "/dev"] {
            let path = Path::new(path);
            assert!(found.iter().any(|granted| granted == path) || path.is_symlink(), "{path:?}");
        }
        for path in ["/", "/proc", "/proc/sys", "/proc/sys/kernel", "/proc/sys/kernel/random"] {
            assert!(!found.iter().any(|granted| granted == Path::new(path)), "{path}");
        }
    }

    #[test]
    fn what_is_below_a_writable_path_can_be_written() {
        let rules = FileRules::new(&["/var/tmp".into()], &[]);
        for (path, expected) in [("/var/tmp", true), ("/var/tmp/a", true), ("/var", false), ("/tmp", false)] {
            assert_eq!(rules.may_write(Path::new(path)), expected, "{path}");
        }
    }
}
