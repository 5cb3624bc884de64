//! The names of files that a program makes, renames or removes before its point: all of its copies
//! share them.

use std::fmt;

use super::call::{Look, NamedCall, WORKING_DIRECTORY};

/// A change of names that a call makes if it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileChange {
    Created(String),
    Renamed(String, String),
    Removed(String),
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileChange::Created(path) => write!(f, "{path} created"),
            FileChange::Renamed(from, to) => write!(f, "{from} renamed to {to}"),
            FileChange::Removed(path) => write!(f, "{path} removed"),
        }
    }
}

/// What is left of all changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileChanges(pub(super) Vec<FileChange>);

impl FileChanges {
    /// The paths of what was made or changed.
    pub(super) fn paths(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|change| match change {
            FileChange::Created(path) | FileChange::Renamed(_, path) | FileChange::Removed(path) => path,
        })
    }

    /// Notes a change. What was made here and is gone again was never there.
    pub(super) fn note(&mut self, change: FileChange) {
        let made = |all: &[FileChange], path: &str| {
            all.iter().position(|change| matches!(change, FileChange::Created(own) if own == path))
        };
        let change = match change {
            FileChange::Removed(path) => match made(&self.0, &path) {
                Some(at) => return drop(self.0.remove(at)),
                None => FileChange::Removed(path),
            },
            FileChange::Renamed(from, to) => match made(&self.0, &from) {
                Some(at) => {
                    self.0.remove(at);
                    FileChange::Created(to)
                }
                None => FileChange::Renamed(from, to),
            },
            created @ FileChange::Created(_) => created,
        };
        if !self.0.contains(&change) {
            self.0.push(change);
        }
    }
}

/// The change that a call makes if it succeeds.
pub(super) fn file_change(call: &NamedCall, look: &dyn Look) -> Option<FileChange> {
    let path = |at: usize| path(look, WORKING_DIRECTORY, call.arguments[at]);
    // Behind the descriptor of a directory.
    let path_from = |at: usize| self::path(look, call.descriptor(at), call.arguments[at + 1]);
    let [created, removed] = [FileChange::Created, FileChange::Removed];
    match call.name {
        "mkdir" | "mknod" => path(0).map(created),
        "link" | "symlink" => path(1).map(created),
        "mkdirat" | "mknodat" => path_from(0).map(created),
        "symlinkat" => path_from(1).map(created),
        "linkat" => path_from(2).map(created),
        "rmdir" | "unlink" => path(0).map(removed),
        "unlinkat" => path_from(0).map(removed),
        "rename" => Some(FileChange::Renamed(path(0)?, path(1)?)),
        "renameat" | "renameat2" => Some(FileChange::Renamed(path_from(0)?, path_from(2)?)),
        "bind" => bound(call, look).map(created),
        "creat" => opened(look, WORKING_DIRECTORY, call.arguments[0], CREATES),
        "open" => opened(look, WORKING_DIRECTORY, call.arguments[0], call.arguments[1]),
        "openat" => opened(look, call.descriptor(0), call.arguments[1], call.arguments[2]),
        // The first field of its structure.
        "openat2" => opened(look, call.descriptor(0), call.arguments[1], look.word(call.arguments[2])?),
        _ => None,
    }
}

/// A path in the memory of a task.
fn path(look: &dyn Look, directory: i32, address: u64) -> Option<String> {
    let path = if address == 0 { None } else { look.text(address) }?;
    absolute(look, directory, &path)
}

/// A path that begins at the root.
fn absolute(look: &dyn Look, directory: i32, path: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(path);
    match (text.starts_with('/'), text.is_empty()) {
        (_, true) => None,
        (true, _) => Some(text.into_owned()),
        (false, _) => Some(match look.directory(directory) {
            Some(start) => format!("{}/{text}", start.trim_end_matches('/')),
            None => text.into_owned(),
        }),
    }
}

/// `O_CREAT`.
const CREATES: u64 = 0o100;

/// A file that open(2) makes: one that is not there yet.
fn opened(look: &dyn Look, directory: i32, path: u64, flags: u64) -> Option<FileChange> {
    if flags & CREATES == 0 {
        return None;
    }
    let path = look.text(path)?;
    (!look.exists(directory, &path)).then(|| absolute(look, directory, &path).map(FileChange::Created))?
}

/// The path of a Unix socket that bind(2) makes.
fn bound(call: &NamedCall, look: &dyn Look) -> Option<String> {
    const UNIX: u16 = 1;
    const LONGEST: u64 = 110;
    let length = usize::try_from(call.arguments[2].min(LONGEST)).ok()?;
    let address = look.read(call.arguments[1], length)?;
    let (family, path) = address.split_first_chunk::<2>()?;
    // Without a name in the abstract namespace, which begins with a zero byte.
    let path = path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
    (u16::from_ne_bytes(*family) == UNIX).then(|| absolute(look, WORKING_DIRECTORY, path))?
}

#[cfg(test)]
mod tests {
    use super::super::call::fake::{FakeTask, call};
    use super::*;

    const OLD: u64 = 0x1000;
    const NEW: u64 = 0x2000;
    const HOW: u64 = 0x3000;
    const UNIX: u64 = 0x4000;
    const ABSTRACT: u64 = 0x5000;
    const RELATIVE: u64 = 0x6000;

    fn task() -> FakeTask {
        let memory = vec![
            (OLD, b"/old\0".to_vec()),
            (NEW, b"/new\0".to_vec()),
            (HOW, 0o101_u64.to_ne_bytes().to_vec()),
            (UNIX, [&1_u16.to_ne_bytes()[..], b"/run/s\0\0"].concat()),
            (RELATIVE, b"own\0".to_vec()),
            (ABSTRACT, [&1_u16.to_ne_bytes()[..], b"\0name"].concat()),
        ];
        FakeTask { memory, files: vec!["/old".into()], ..FakeTask::default() }
    }

    #[test]
    fn calls_that_change_names() {
        let at = (-100_i64).cast_unsigned();
        for (name, arguments, expected) in [
            ("open", &[NEW, 0o101][..], "/new created"),
            ("open", &[OLD, 0o101], ""),
            ("open", &[NEW, 1], ""),
            ("creat", &[NEW], "/new created"),
            ("openat", &[at, NEW, 0o100], "/new created"),
            ("openat2", &[at, NEW, HOW], "/new created"),
            ("mkdir", &[NEW], "/new created"),
            ("mkdirat", &[at, NEW], "/new created"),
            ("mknodat", &[at, NEW], "/new created"),
            ("link", &[OLD, NEW], "/new created"),
            ("linkat", &[at, OLD, at, NEW], "/new created"),
            ("symlinkat", &[OLD, at, NEW], "/new created"),
            ("unlink", &[OLD], "/old removed"),
            ("unlinkat", &[at, OLD], "/old removed"),
            ("rmdir", &[OLD], "/old removed"),
            ("rename", &[OLD, NEW], "/old renamed to /new"),
            ("renameat2", &[at, OLD, at, NEW], "/old renamed to /new"),
            ("bind", &[3, UNIX, 10], "/run/s created"),
            ("bind", &[3, ABSTRACT, 7], ""),
            ("bind", &[3, UNIX, 1], ""),
            ("mkdir", &[RELATIVE], "/home/own created"),
            ("openat", &[at, RELATIVE, 0o100], "/home/own created"),
            // A directory that is not known.
            ("mkdirat", &[7, RELATIVE], "own created"),
            ("unlink", &[0], ""),
            ("read", &[NEW], ""),
        ] {
            let change = file_change(&call(name, arguments), &task());
            let text = change.map(|change| change.to_string()).unwrap_or_default();
            assert_eq!(text, expected, "{name} {arguments:x?}");
        }
    }

    #[test]
    fn what_is_made_and_gone_again_was_never_there() {
        let mut changes = FileChanges::default();
        let [a, b, c] = ["a", "b", "c"].map(String::from);
        for change in [
            FileChange::Created(a.clone()),
            FileChange::Removed(a.clone()),
            FileChange::Removed(a.clone()),
            FileChange::Created(a.clone()),
            FileChange::Renamed(a.clone(), b.clone()),
            FileChange::Created(b.clone()),
            FileChange::Renamed(c.clone(), a.clone()),
        ] {
            changes.note(change);
        }
        let text: Vec<_> = changes.0.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["a removed", "b created", "c renamed to a"]);
    }
}
