//! Reading files of rules again when they have changed.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::inotify;

use super::run::Supervisor;
use crate::admission::access::Source;
use crate::connection::Connection;
use crate::error::HandlerError;
use crate::log::Log;

/// Changes are taken together for so long: an editor makes several.
const GATHER: Duration = Duration::from_millis(50);

/// The files of rules, and what the kernel tells of their folders (inotify(7)).
#[derive(Debug)]
pub(super) struct Rules {
    source: Source,
    /// Readable when something happens in a folder. `None`: only SIGHUP has them read again.
    events: Option<OwnedFd>,
    seen: Vec<Option<Seen>>,
    /// When to look, once something has happened.
    look_at: Option<Instant>,
}

/// By what a changed file is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl Rules {
    /// Begins to watch.
    pub(super) fn watch(
        source: Source,
        high: impl Fn(rustix::io::Result<OwnedFd>) -> Option<OwnedFd>,
        log: &mut Log,
    ) -> Rules {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = high(inotify::init(flags)).filter(|events| watch_folders(events, &source));
        if events.is_none() {
            log.warning("files of rules cannot be watched (inotify): they are read again at SIGHUP only");
        }
        let seen = source.files().map(see).collect();
        Rules { source, events, seen, look_at: None }
    }

    pub(super) fn events(&self) -> Option<&OwnedFd> {
        self.events.as_ref()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Gives up what only the supervisor needs, in another process.
    pub(super) fn close(&mut self) {
        self.events = None;
    }

    /// Takes note that something happened in a folder.
    fn hear(&mut self) {
        let Some(events) = &self.events else { return };
        let mut some = false;
        while let Ok(1..) = rustix::io::read(events, &mut [0; 4096]) {
            some = true;
        }
        if some {
            self.look_at.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Whether it is time to look, and a file is another one than it was.
    fn have_changed(&mut self) -> bool {
        if self.look_at.is_none_or(|at| at > Instant::now()) {
            return false;
        }
        self.look_at = None;
        let seen: Vec<Option<Seen>> = self.source.files().map(see).collect();
        // One that has gone may be on its way back: who replaces a file by moving it away first.
        let changed = seen != self.seen && seen.iter().all(Option::is_some);
        if changed {
            self.seen = seen;
        }
        changed
    }
}

/// Watches the folders in which the files are, by their names and as what those stand for. A file may be replaced by
/// another of its name, which no watch of the file itself would see.
fn watch_folders(events: &OwnedFd, source: &Source) -> bool {
    let flags = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::ONLYDIR;
    source.files().all(|file| {
        let behind = file.canonicalize().ok();
        [Some(file), behind.as_deref()].into_iter().flatten().all(|file| {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(OsStr::from_bytes(b".")));
            inotify::add_watch(events, folder, flags).is_ok()
        })
    })
}

fn see(file: &Path) -> Option<Seen> {
    use std::os::unix::fs::MetadataExt;
    let facts = file.metadata().ok()?;
    Some(Seen { file: (facts.dev(), facts.ino()), length: facts.len(), modified: facts.modified().ok() })
}

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    /// Reads the rules again if a file has changed.
    pub(super) fn check_rules(&mut self) {
        let Some(rules) = &mut self.rules else { return };
        rules.hear();
        if rules.have_changed() {
            self.read_rules_again();
        }
    }

    /// What SIGHUP asks for.
    pub(super) fn reload(&mut self) {
        match self.rules {
            Some(_) => self.read_rules_again(),
            None => {
                self.log.warning("SIGHUP: there is no configuration to reload yet; nothing is changed");
            }
        }
    }

    /// Reads the rules again. A fault leaves the old ones in force.
    fn read_rules_again(&mut self) {
        let Some(rules) = &self.rules else { return };
        match self.door.read_again(&rules.source) {
            Ok(number) => self.log.reload(number),
            Err(error) => self.log.trouble(
                "the rules are not read again, the old ones stay in force",
                &error.to_string(),
                "mend the file",
            ),
        }
        // What a great list took is not copied at the next fork of a helper.
        tine_sys::memory::trim_heap();
    }
}
