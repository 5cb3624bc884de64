//! What can keep a server or a client from starting: what failed, why, and the next move.

use std::fmt;
use std::io;

pub use tine_sys::reason;

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
        write!(f, "{}; {}", one_line(&self.what), one_line(&self.next))
    }
}

/// What users and files wrote is shown, not obeyed: what a terminal would act on is escaped.
fn one_line(text: &str) -> String {
    text.trim_end().chars().fold(String::new(), |mut line, character| {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
        line
    })
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_no_terminal_obeys() {
        let error = Error::usage("bad name 'a\n\u{1b}[2Jé'\n", "write another").within("here");
        assert_eq!(error.to_string(), "here: bad name 'a\\n\\u{1b}[2Jé'; write another");
    }
}
