//! Directories for the files of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::server::tine;

/// A temporary directory of one test, removed when it is dropped.
pub struct Folder(
    /// Path of the directory.
    pub PathBuf,
);

impl Folder {
    /// Creates an empty directory. `name` must differ between the tests of one process.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    pub fn new(name: &str) -> Folder {
        Folder::new_in(std::env::temp_dir(), name)
    }

    /// The same in another directory than that for temporary files.
    ///
    /// # Panics
    /// As [`Folder::new`].
    #[must_use]
    pub fn new_in(directory: impl Into<PathBuf>, name: &str) -> Folder {
        let path = directory.into().join(format!("tine-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory can be created");
        Folder(path)
    }

    /// The path of an entry, whether it exists or not.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Copies the `tine` under test to where every user can execute it, and returns its path.
    ///
    /// # Panics
    /// If it has not been built.
    #[must_use]
    pub fn copy_of_tine(&self) -> PathBuf {
        let path = self.0.join("tine");
        fs::copy(tine(), &path).expect("a copy");
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755)).expect("our directory");
        path
    }

    /// Writes a file and returns its path. Creates the subdirectory if `name` has one.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a path below the directory")).expect("a subdirectory");
        fs::write(&path, text).expect("the file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
