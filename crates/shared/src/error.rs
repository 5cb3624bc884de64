//! Errors of making shared state.

use std::fmt;
use std::io;

/// Why shared state cannot be made.
///
/// [`fmt::Display`] writes one line, `what: why; next move`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    next: &'static str,
    source: Option<io::Error>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server runs already, or this is another process than the one that made the first shared
    /// state: others would not have what is made now.
    TooLate,
    /// The name is not one, or another shared state has it.
    Name,
    /// A capacity is zero, or larger than it can be.
    Capacity,
    /// What is to be loaded cannot be read, or there is no memory for it.
    Load,
    /// The operating system has no memory, or refuses it.
    System,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl fmt::Display, next: &'static str) -> Error {
        Error { kind, what: what.to_string(), next, source: None }
    }

    #[cfg(not(loom))]
    pub(crate) fn caused(kind: ErrorKind, what: String, why: io::Error, next: &'static str) -> Error {
        Error { kind, what, next, source: Some(why) }
    }

    pub(crate) fn system(what: impl fmt::Display, why: io::Error) -> Error {
        let what = format!("{what}: {}", tine_sys::reason(&why));
        let next = "free memory and descriptors, or raise the limits (`ulimit -a`)";
        Error { kind: ErrorKind::System, what, next, source: Some(why) }
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed and why, without the next move.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The next move.
    #[must_use]
    pub fn next_move(&self) -> &'static str {
        self.next
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.next)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|why| why as _)
    }
}
