//! Places in a text.

use std::fmt;

/// A place in the text. The first line and the first column are 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) struct At {
    pub(in crate::import) line: usize,
    pub(in crate::import) column: usize,
}

impl At {
    pub(in crate::import) fn fault(self, what: impl Into<String>) -> TextFault {
        TextFault { at: self, what: what.into() }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with the text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::import) struct TextFault {
    pub(in crate::import) at: At,
    pub(in crate::import) what: String,
}
