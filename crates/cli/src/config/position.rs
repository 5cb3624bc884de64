//! A position in a file, for messages.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use crate::error::Error;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    file: Rc<Path>,
    pub(super) line: usize,
}

impl Position {
    /// A line of this file; the first is 1.
    #[must_use]
    pub fn new(file: Rc<Path>, line: usize) -> Position {
        Position { file, line }
    }

    /// A fault at this position, and the next move.
    #[must_use]
    pub fn fault(&self, what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error::usage(what, next).within(self)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}
