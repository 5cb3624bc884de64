//! The pid file: the id of the master or of a single supervisor, for service managers and scripts
//! (`PIDFile=`, systemd.service(5)).

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A pid file that this process has written. Removed when it is dropped, unless another server has
/// replaced it.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    process: u32,
}

impl PidFile {
    /// Writes the file, in place of what is there: a killed server leaves its file behind. The file
    /// is complete from the moment that it has its name.
    ///
    /// # Errors
    /// The directory does not exist, or this process may not write to it.
    pub(crate) fn write(path: &Path) -> io::Result<PidFile> {
        let path = std::path::absolute(path)?;
        let process = std::process::id();
        let mut name = path.clone().into_os_string();
        name.push(format!(".{process}"));
        let unfinished = PathBuf::from(name);
        match std::fs::remove_file(&unfinished) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&unfinished)?;
        let written = file.write_all(format!("{process}\n").as_bytes());
        written.and_then(|()| std::fs::rename(&unfinished, &path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&unfinished);
        })?;
        Ok(PidFile { path, process })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A process that was forked has a copy of this value.
        if std::process::id() != self.process {
            return;
        }
        let written = std::fs::read_to_string(&self.path).unwrap_or_default();
        if written.trim().parse() == Ok(self.process) {
            // It fails where the file was removed, or where this user may no longer write: both are
            // harmless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_a_foreign_one_is_left() {
        let folder = std::env::temp_dir().join(format!("tine-pid-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a directory");
        let path = folder.join("tine.pid");
        std::fs::write(&path, "4711\n").expect("a file");
        let file = PidFile::write(&path).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).expect("written");
        std::fs::write(&path, "4711\n").expect("a file");
        drop(file);
        assert!(path.exists());
        assert_eq!(std::fs::read_dir(&folder).expect("a directory").count(), 1);
        PidFile::write(&folder.join("missing/tine.pid")).expect_err("no such directory");
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
