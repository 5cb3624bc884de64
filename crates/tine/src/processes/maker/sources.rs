//! The files that a template is made of: whether one of them changes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::inotify;

use crate::program::warm::FileVersion;

/// Files that change, as the kernel reports it (inotify(7)).
#[derive(Debug)]
pub(super) struct SourceFiles {
    events: OwnedFd,
    files: HashMap<i32, PathBuf>,
    /// One that had changed before it was watched.
    changed_before: Option<PathBuf>,
}

impl SourceFiles {
    /// Watches files, and checks that they are those that were opened. One that cannot be watched,
    /// as at the limit on watches, is left out: the template is renewed after its time, too. `root`
    /// is in front of each path.
    pub(super) fn watch(
        root: &str,
        files: BTreeMap<PathBuf, FileVersion>,
    ) -> rustix::io::Result<SourceFiles> {
        use inotify::WatchFlags as Flags;
        // A file that another one replaces loses a link.
        let changes = Flags::MODIFY | Flags::ATTRIB | Flags::DELETE_SELF | Flags::MOVE_SELF;
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let mut watched = SourceFiles { events, files: HashMap::new(), changed_before: None };
        for (file, version) in files {
            let mut path = OsString::from(root);
            path.push(&file);
            let path = PathBuf::from(path);
            let number = inotify::add_watch(&watched.events, &path, changes);
            // After that: from here on, a change is an event.
            let is_same = fs::metadata(&path).is_ok_and(|now| FileVersion::of(&now) == version);
            if !is_same {
                watched.changed_before = Some(file);
            } else if let Ok(number) = number {
                watched.files.insert(number, file);
            }
        }
        Ok(watched)
    }

    /// The file that had changed before it was watched, once.
    pub(super) fn take_changed_before(&mut self) -> Option<PathBuf> {
        self.changed_before.take()
    }

    /// The file of the first event that has come, and of no other: one is enough.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let event = reader.next().ok()?;
        Some(self.files.get(&event.wd()).cloned().unwrap_or_default())
    }
}

impl AsFd for SourceFiles {
    /// Readable when a file has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_or_replaced_has_changed() {
        let folder = std::env::temp_dir().join(format!("tine-sources-{}", std::process::id()));
        fs::create_dir(&folder).expect("new");
        let [one, other, none] = ["one", "other", "none"].map(|name| folder.join(name));
        let version = |file: &PathBuf| FileVersion::of(&fs::metadata(file).expect("a file"));
        for replaces in [false, true] {
            fs::write(&one, "1").expect("a file");
            let opened = version(&one);
            let mut sources = SourceFiles::watch("", [(one.clone(), opened)].into()).expect("inotify");
            assert_eq!((sources.take_changed_before(), sources.changed()), (None, None));
            fs::write(&other, "22").expect("a file");
            assert_eq!(sources.changed(), None);
            match replaces {
                true => fs::rename(&other, &one).expect("renamed"),
                false => fs::write(&one, "33").expect("written"),
            }
            assert_eq!(sources.changed().as_ref(), Some(&one));
            let files = [(one.clone(), opened), (none.clone(), opened)].into();
            let mut late = SourceFiles::watch("", files).expect("inotify");
            assert!(late.take_changed_before().is_some_and(|file| [&one, &none].contains(&&file)));
        }
        fs::remove_dir_all(folder).expect("removed");
    }
}
