//! The files that a template is made of: whether one of them changes.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

/// Files that change, as the kernel reports it (inotify(7)).
#[derive(Debug)]
pub(super) struct Sources {
    events: OwnedFd,
    files: HashMap<i32, PathBuf>,
}

impl Sources {
    /// Watches files. One that cannot be watched, as at the limit on watches, is left out: the
    /// template is renewed after its time, too.
    pub(super) fn watch<'a>(files: impl IntoIterator<Item = &'a Path>) -> rustix::io::Result<Sources> {
        use inotify::WatchFlags as Flags;
        // A file that another one replaces loses a link.
        let changes = Flags::MODIFY | Flags::ATTRIB | Flags::DELETE_SELF | Flags::MOVE_SELF;
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let watch = |file: &Path| Some((inotify::add_watch(&events, file, changes).ok()?, file.to_owned()));
        let files = files.into_iter().filter_map(watch).collect();
        Ok(Sources { events, files })
    }

    /// The file of the first event that has come, and of no other: one is enough.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let event = reader.next().ok()?;
        Some(self.files.get(&event.wd()).cloned().unwrap_or_default())
    }
}

impl AsFd for Sources {
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
        std::fs::create_dir(&folder).expect("new");
        let [one, other, none] = ["one", "other", "none"].map(|name| folder.join(name));
        for replaces in [false, true] {
            std::fs::write(&one, "1").expect("a file");
            let sources = Sources::watch([&*one, &*none]).expect("inotify");
            assert_eq!(sources.changed(), None);
            std::fs::write(&other, "2").expect("a file");
            assert_eq!(sources.changed(), None);
            match replaces {
                true => std::fs::rename(&other, &one).expect("renamed"),
                false => std::fs::write(&one, "3").expect("written"),
            }
            assert_eq!(sources.changed().as_deref(), Some(&*one));
        }
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
