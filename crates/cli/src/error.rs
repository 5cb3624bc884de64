//! Errors of the command: what failed, why, and the next move in terms of options.

use std::fmt;
use std::io;

use tine::ErrorKind;
use tine::cli::{next_move, one_line};
use tine_bus::connect::BusError;

use crate::exit;

/// An error that ends a command, in one line.
#[derive(Debug)]
pub struct Error {
    code: u8,
    what: String,
    next: String,
}

impl Error {
    /// A usage or configuration error, which trying again does not mend.
    #[must_use]
    pub fn usage(what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error { code: exit::USAGE, what: what.to_string(), next: next.to_string() }
    }

    /// A system error, which may be temporary: `what` failed because of `why`.
    #[must_use]
    pub fn system(what: impl fmt::Display, why: &io::Error, next: impl fmt::Display) -> Error {
        let what = format!("{what}: {}", tine::cli::reason(why));
        Error { code: exit::SYSTEM, what, next: next.to_string() }
    }

    /// A command that cannot be carried out now, for a reason that is not an error of the system.
    #[must_use]
    pub fn unavailable(what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error { code: exit::SYSTEM, what: what.to_string(), next: next.to_string() }
    }

    /// There is no running server that a command could be about.
    #[must_use]
    pub fn nothing_runs(what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error { code: exit::NOTHING_RUNS, what: what.to_string(), next: next.to_string() }
    }

    /// The same error with the place it belongs to in front.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Error {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The exit code of a command that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", one_line(&self.what), one_line(&self.next))
    }
}

/// An error of the library, with the options that its next move is about.
impl From<tine::Error> for Error {
    fn from(error: tine::Error) -> Error {
        let code = if error.kind().is_temporary() { exit::SYSTEM } else { exit::USAGE };
        let next = match options(error.kind()) {
            Some(next) => next.to_owned(),
            None => error.next(),
        };
        Error { code, what: error.what(), next }
    }
}

/// A bus that cannot be used.
impl From<BusError> for Error {
    fn from(error: BusError) -> Error {
        match error.is_temporary {
            true => Error::unavailable(error.what, error.next),
            false => Error::usage(error.what, error.next),
        }
    }
}

/// The next move by options, for the kinds whose own text is about methods of the library.
fn options(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NoAddress => "give an ADDRESS",
        ErrorKind::ReuseWithoutSpares => "give --spares as well, as in `--spares 32 --reuse 1000`",
        ErrorKind::ReuseWithProgram => "leave out --reuse; --spares can be given for a program",
        ErrorKind::HostNameRule => "look host names up (--reverse-dns), or write an address",
        ErrorKind::ReadyDescriptor => {
            "open it in the process that starts the server, or leave out --ready-fd"
        }
        ErrorKind::Readiness => {
            "redirect standard output for -1, or open the descriptor of --ready-fd for writing"
        }
        ErrorKind::WorkingDirectory => "create it, or choose another one (--cwd)",
        _ => return None,
    })
}

/// The next move where processes, descriptors or memory do not suffice: to ask for fewer, or that
/// of the cause.
pub(crate) fn fewer(ask: &str, why: &io::Error) -> String {
    let next = next_move::of_call(why);
    match next_move::is_resource(why) {
        true => format!("{ask}, or {next}"),
        false => next.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_control_characters() {
        let error = Error::usage("bad name 'a\n\u{1b}[2Jé'\n", "write another").within("here");
        assert_eq!(error.to_string(), "here: bad name 'a\\n\\u{1b}[2Jé'; write another");
        assert_eq!(error.exit_code(), 100);
    }

    #[test]
    fn fewer_processes_are_asked_for_where_that_helps() {
        for (number, expected) in [
            (11, "ask for fewer, or raise the limit on processes"),
            (12, "ask for fewer, or free memory"),
            (24, "ask for fewer, or raise the limit on open files"),
            (1, "permit the system call"),
            (38, "permit the system call"),
        ] {
            let said = fewer("ask for fewer", &io::Error::from_raw_os_error(number));
            assert!(said.starts_with(expected), "{number}: {said}");
        }
    }

    #[test]
    fn errors_of_the_library_name_options() {
        let server = || tine::Server::new();
        for (error, part, code) in [
            (server().reuse(5).check().expect_err("no spares"), "--spares", 100),
            (server().spares(1).max_connections(0).check().expect_err("0"), "choose 1 or more", 100),
            ("x".parse::<tine::Address>().expect_err("no address"), "HOST:PORT", 100),
            (tine::cli::resolve("no-such-host.invalid", 1).expect_err("none"), "/etc/hosts", 111),
        ] {
            let kind = error.kind();
            let error = Error::from(error);
            assert!(error.to_string().contains(part), "{kind:?}: {error}");
            assert_eq!(error.exit_code(), code, "{kind:?}");
        }
    }
}
