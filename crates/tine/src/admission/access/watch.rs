//! Detects changes of the rule files (inotify(7)), in the supervisor.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::inotify;

use super::list::RuleSource;
use crate::log::Log;

/// Time from the first change to the check of the files: an editor makes several changes to save
/// one.
const GATHER: Duration = Duration::from_millis(50);

/// The rule files, and the watches of their folders (inotify(7)).
#[derive(Debug)]
pub(crate) struct RuleFiles {
    source: RuleSource,
    /// Readable after a change in a folder. `None`: the files are read again at SIGHUP only.
    events: Option<OwnedFd>,
    /// The files at the last check; `None` for a file that did not exist.
    known: Vec<Option<FileId>>,
    /// When to check the files, after a change in a folder.
    check_at: Option<Instant>,
}

/// Identity and state of a file: a different value means that the file was changed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileId {
    /// Device and inode.
    inode: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl RuleFiles {
    /// Starts to watch the folders of the files. `high` moves a descriptor out of the way of those
    /// that programs get.
    pub(crate) fn watch(
        source: RuleSource,
        high: impl Fn(rustix::io::Result<OwnedFd>) -> Option<OwnedFd>,
        log: &mut Log,
    ) -> RuleFiles {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = high(inotify::init(flags)).filter(|events| watch_folders(events, &source));
        if events.is_none() {
            log.warning("rule files cannot be watched (inotify failed): they are read again at SIGHUP only");
        }
        let known = source.files().map(FileId::of).collect();
        RuleFiles { source, events, known, check_at: None }
    }

    /// The files themselves, to read them again.
    pub(crate) fn source(&self) -> &RuleSource {
        &self.source
    }

    pub(crate) fn events(&self) -> Option<&OwnedFd> {
        self.events.as_ref()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.check_at
    }

    /// Reads the pending events, and schedules a check of the files if there were any.
    pub(crate) fn read_events(&mut self) {
        let Some(events) = &self.events else { return };
        let mut any = false;
        while let Ok(1..) = rustix::io::read(events, &mut [0; 4096]) {
            any = true;
        }
        if any {
            self.check_at.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Checks the files if a check is due: whether one was changed or replaced.
    pub(crate) fn have_changed(&mut self) -> bool {
        if self.check_at.is_none_or(|at| at > Instant::now()) {
            return false;
        }
        self.check_at = None;
        let found: Vec<Option<FileId>> = self.source.files().map(FileId::of).collect();
        // A missing file may be about to return: some editors move the old file away first.
        let changed = found != self.known && found.iter().all(Option::is_some);
        if changed {
            self.known = found;
        }
        changed
    }
}

impl FileId {
    fn of(file: &Path) -> Option<FileId> {
        let metadata = file.metadata().ok()?;
        Some(FileId {
            inode: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

/// Watches the folders of the files, and those of the files that symbolic links lead to. A watch of
/// the file itself would miss its replacement by another file of the same name.
fn watch_folders(events: &OwnedFd, source: &RuleSource) -> bool {
    let flags = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::ONLYDIR;
    source.files().all(|file| {
        let target = file.canonicalize().ok();
        [Some(file), target.as_deref()].into_iter().flatten().all(|file| {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(OsStr::from_bytes(b".")));
            inotify::add_watch(events, folder, flags).is_ok()
        })
    })
}
