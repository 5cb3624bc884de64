//! What can keep a server or a client from starting: what failed, why, and the next move.

use std::fmt;
use std::io;

/// What a handler may return as its error: anything that `?` can box.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// An error that ends a command, in one line.
#[derive(Debug)]
pub struct Error {
    permanent: bool,
    what: String,
    next: String,
}

impl Error {
    /// An error that trying again will not mend: wrong usage, a name that does not exist.
    #[must_use]
    pub fn usage(what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error { permanent: true, what: what.to_string(), next: next.to_string() }
    }

    /// An error of the system, which may pass: `what` failed because of `why`.
    #[must_use]
    pub fn system(what: impl fmt::Display, why: &io::Error, next: impl fmt::Display) -> Error {
        Error { permanent: false, what: format!("{what}: {}", reason(why)), next: next.to_string() }
    }

    /// The same error, and where it belongs.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Error {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The exit code of UCSPI tools: 100 for what is permanent, 111 for what may pass.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.permanent { 100 } else { 111 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.next)
    }
}

impl std::error::Error for Error {}

/// The system's words, without the number that the standard library adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}
