//! Errors of the library: what failed, why, and the next move in terms of the API.
//!
//! A message never names an option of a command: a caller that has options maps the kind of an
//! error to them.

pub mod next_move;

use std::fmt;
use std::io;

pub use tine_sys::reason;

/// What a handler may return as its error: anything that `?` can box.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// Why a server cannot be described or started.
///
/// [`fmt::Display`] writes one line, `what: why; next move`, in which control characters are
/// escaped. Where the operating system reported the cause, [`std::error::Error::source`] is its
/// [`io::Error`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    next: String,
    source: Option<io::Error>,
}

/// The kinds of [`Error`], for a program that treats some of them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A text or number is not a valid address, rate, rule, limit or other setting.
    InvalidValue,
    /// The server has no address to listen on, or there is no service.
    NoAddress,
    /// Processes are to be reused, but there are no spares.
    ReuseWithoutSpares,
    /// Processes are to be reused, but they execute a program.
    ReuseWithProgram,
    /// A rule is about a host name, but host names are not looked up.
    HostNameRule,
    /// The descriptor for readiness is not open.
    ReadyDescriptor,
    /// Readiness cannot be reported: the reader of the ports or of the descriptor is gone.
    Readiness,
    /// The calling process has several threads, so it must not fork.
    Threads,
    /// A server runs or has run in the calling process, or the server has forked this one.
    SecondRun,
    /// The program is missing, or cannot be executed.
    Program,
    /// The program's working directory does not exist.
    WorkingDirectory,
    /// No cgroup can be created in the directory for cgroups.
    Cgroup,
    /// The kernel refuses a protection of the jail that is required.
    Jail,
    /// Shared state has an invalid or taken name or capacity, or is made too late.
    Shared,
    /// The handler's own start failed ([`Handler::on_start`](crate::Handler::on_start)).
    Handler,
    /// The operating system refused something. It may succeed later: an address in use, a lack of
    /// memory, a name server that does not answer.
    System,
}

impl ErrorKind {
    const ALL: [ErrorKind; 16] = [
        ErrorKind::InvalidValue,
        ErrorKind::NoAddress,
        ErrorKind::ReuseWithoutSpares,
        ErrorKind::ReuseWithProgram,
        ErrorKind::HostNameRule,
        ErrorKind::ReadyDescriptor,
        ErrorKind::Readiness,
        ErrorKind::Threads,
        ErrorKind::SecondRun,
        ErrorKind::Program,
        ErrorKind::WorkingDirectory,
        ErrorKind::Cgroup,
        ErrorKind::Jail,
        ErrorKind::Shared,
        ErrorKind::Handler,
        ErrorKind::System,
    ];

    /// Whether trying again later can help without any change of the settings.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(self, ErrorKind::System | ErrorKind::Readiness | ErrorKind::Jail)
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error { kind, what: what.to_string(), next: next.to_string(), source: None }
    }

    /// An invalid value.
    pub(crate) fn usage(what: impl fmt::Display, next: impl fmt::Display) -> Error {
        Error::new(ErrorKind::InvalidValue, what, next)
    }

    /// A failure that the operating system reported.
    pub(crate) fn system(what: impl fmt::Display, why: &io::Error, next: impl fmt::Display) -> Error {
        Error::new(ErrorKind::System, what, next).because(why)
    }

    /// The same error with its cause, which the message names, too.
    pub(crate) fn because(mut self, why: &io::Error) -> Error {
        self.what = format!("{}: {}", self.what, reason(why));
        self.source = Some(match why.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(why.kind(), why.to_string()),
        });
        self
    }

    /// The same error with the place it belongs to in front: a file and line, a service.
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Error {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The error as a message to another process of the server: its kind, its text and the next
    /// move.
    pub(crate) fn to_message(&self) -> Vec<u8> {
        let kind = ErrorKind::ALL.iter().position(|kind| *kind == self.kind).unwrap_or_default();
        [&[kind as u8], one_line(&self.what).as_bytes(), b"\n", one_line(&self.next).as_bytes()].concat()
    }

    /// The reverse of [`Error::to_message`], without the source.
    pub(crate) fn from_message(message: &[u8]) -> Error {
        let (kind, text) = message.split_first().unwrap_or((&0, &[]));
        let kind = ErrorKind::ALL.get(usize::from(*kind)).copied().unwrap_or(ErrorKind::System);
        let text = String::from_utf8_lossy(text);
        let (what, next) = text.split_once('\n').unwrap_or((&text, ""));
        Error::new(kind, what, next)
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code of a supervisor that cannot start: 111 for a temporary error, else 100.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.kind.is_temporary() { 111 } else { 100 }
    }

    /// What failed and why, without the next move.
    #[doc(hidden)]
    #[must_use]
    pub fn what(&self) -> String {
        one_line(&self.what)
    }

    /// The next move.
    #[doc(hidden)]
    #[must_use]
    pub fn next(&self) -> String {
        one_line(&self.next)
    }
}

/// Why state cannot be shared.
impl From<tine_shared::Error> for Error {
    fn from(error: tine_shared::Error) -> Error {
        use std::error::Error as _;

        let kind = match error.kind() {
            tine_shared::ErrorKind::System => ErrorKind::System,
            _ => ErrorKind::Shared,
        };
        let source = error.source().and_then(|why| why.downcast_ref::<io::Error>());
        let source = source.and_then(io::Error::raw_os_error).map(io::Error::from_raw_os_error);
        Error { kind, what: error.what().to_owned(), next: error.next_move().to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", one_line(&self.what), one_line(&self.next))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// The text of an error and of those that caused it, with colons in between. A cause that the text
/// before it ends with already is left out, as many errors name their cause themselves.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    // A chain could be a circle.
    const MOST: usize = 32;
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()).take(MOST) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Escapes control characters: a message can contain what users and files wrote, and a terminal
/// must not interpret that.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.trim_end().chars().fold(String::new(), |mut line, character| {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
        line
    })
}

/// Gives an enum without fields its names: `NAMES`, [`Display`](std::fmt::Display),
/// [`FromStr`](std::str::FromStr).
macro_rules! named {
    ($type:ty { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// The names of all values.
            pub const NAMES: &[&str] = &[$($name),+];
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $name),+
                })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> Result<Self, $crate::error::Error> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err($crate::error::Error::usage(
                        format_args!("invalid value '{text}'"),
                        format_args!("choose one of {}", Self::NAMES.join(", ")),
                    )),
                }
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_control_characters() {
        let error = Error::usage("bad name 'a\n\u{1b}[2Jé'\n", "write another").within("here");
        assert_eq!(error.to_string(), "here: bad name 'a\\n\\u{1b}[2Jé'; write another");
    }

    #[test]
    fn an_error_of_the_system_keeps_its_cause() {
        let cause = io::Error::from_raw_os_error(98);
        let error = Error::system("cannot listen", &cause, "choose another address");
        assert_eq!(error.to_string(), "cannot listen: address already in use; choose another address");
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::System, 111));
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::AddrInUse));
        let own = Error::system("cannot start", &io::Error::other("it has ended"), "read its log");
        assert!(std::error::Error::source(&own).is_some_and(|source| source.to_string() == "it has ended"));
    }

    /// An error with a cause.
    #[derive(Debug)]
    struct Because(&'static str, Option<Box<Because>>);

    impl fmt::Display for Because {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Because {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let caused = |text, cause| Because(text, Some(Box::new(cause)));
        for (error, text) in [
            (Because("a", None), "a"),
            (caused("a", caused("b", Because("c", None))), "a: b: c"),
            (caused("a: b", caused("b", Because("c", None))), "a: b: c"),
            (caused("a: b: c", caused("b: c", Because("c", None))), "a: b: c"),
            (caused("", Because("c", None)), ": c"),
        ] {
            assert_eq!(chain(&error), text);
        }
    }

    #[test]
    fn an_error_survives_the_way_to_another_process() {
        for (number, kind) in ErrorKind::ALL.into_iter().enumerate() {
            let error = Error::new(kind, format_args!("what\n{number}"), "next; move");
            let received = Error::from_message(&error.to_message());
            assert_eq!((received.kind(), received.to_string()), (kind, error.to_string()));
            assert_eq!(kind as usize, number);
        }
    }
}
