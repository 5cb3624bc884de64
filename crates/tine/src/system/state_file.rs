//! Files of state that outlive the server: written whole, under another name first, so that a full
//! disk or a crash leaves the old file.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces the file; makes its directory if that is missing.
///
/// # Errors
/// The directory cannot be made, or the file cannot be written whole: the old file stays.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{}", std::process::id()));
    let unfinished = PathBuf::from(name);
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // After a power failure there is the old file, or the new one.
        file.sync_data()
    });
    written.and_then(|()| std::fs::rename(&unfinished, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&unfinished);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let directory = std::env::temp_dir().join(format!("tine-state-{}", std::process::id()));
        let path = directory.join("a/b.json");
        write(&path, "one").expect("written");
        write(&path, "two").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "two");
        let entries = || std::fs::read_dir(directory.join("a")).expect("there").count();
        assert_eq!(entries(), 1);
        assert!(write(Path::new("/dev/full/x"), "").is_err());
        // A directory cannot be replaced by a file.
        std::fs::create_dir(directory.join("a/c")).expect("made");
        write(&directory.join("a/c"), "three").expect_err("a directory");
        assert_eq!(entries(), 2);
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
