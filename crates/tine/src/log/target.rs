//! Where the log goes, as a user chooses it.

use std::path::{Path, PathBuf};

use super::format::Format;
use super::level::LogLevel;
use crate::error::{Error, next_move};

/// Where the lines of the log go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogTarget {
    /// Standard error. If that is a stream of the journal (`JOURNAL_STREAM`, systemd.exec(5)), each
    /// line has its priority in front (sd-daemon(3)).
    #[default]
    Stderr,
    /// A file, to which lines are appended. It is opened again at SIGHUP.
    File(PathBuf),
    /// The system log, by messages of RFC 5424 to `/dev/log`.
    Syslog,
    /// The journal, with a field for each key.
    Journal,
}

/// How the log of a server is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSettings {
    pub(crate) format: Format,
    pub(crate) level: LogLevel,
    pub(crate) target: LogTarget,
}

impl LogTarget {
    /// Refuses a file that cannot be one.
    ///
    /// # Errors
    /// The directory of the file is missing, or the file is a directory.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let LogTarget::File(path) = self else { return Ok(()) };
        let cannot = |why: &std::io::Error| {
            let what = format_args!("cannot write the log file {}", path.display()).to_string();
            Error::system(what, why, next_move::of_file(why))
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = std::fs::metadata(parent.unwrap_or(Path::new("."))).map_err(|why| cannot(&why))?;
        if !directory.is_dir() {
            return Err(cannot(&rustix::io::Errno::NOTDIR.into()));
        }
        if path.file_name().is_none() || path.is_dir() {
            return Err(cannot(&rustix::io::Errno::ISDIR.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_needs_a_directory_and_is_none() {
        for (path, part) in [
            ("/dev/null", None),
            ("tine.log", None),
            ("/", Some("is a directory")),
            ("/tmp", Some("is a directory")),
            ("", Some("is a directory")),
            ("/no such directory/log", Some("does not exist")),
            ("/dev/null/log", Some("a file, not a directory")),
        ] {
            let error = LogTarget::File(path.into()).check().err().map(|error| error.to_string());
            assert_eq!(error.is_some(), part.is_some(), "{path}: {error:?}");
            assert!(error.unwrap_or_default().contains(part.unwrap_or_default()), "{path}");
        }
    }
}
