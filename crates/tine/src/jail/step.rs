//! The steps into a jail, and their errors.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::error::next_move::errno;

/// A step that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepError {
    pub(crate) step: String,
    pub(crate) errno: Errno,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, crate::error::reason(&self.errno.into()))
    }
}

impl std::error::Error for StepError {}

impl From<StepError> for io::Error {
    fn from(error: StepError) -> io::Error {
        io::Error::new(io::Error::from(error.errno).kind(), error)
    }
}

impl StepError {
    /// The error of [`step`] in an error, if it is one.
    pub(crate) fn in_error(why: &io::Error) -> Option<&StepError> {
        why.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// Whether the process that the step concerns has ended.
    pub(crate) fn is_of_ended_process(&self) -> bool {
        self.errno == Errno::SRCH
    }

    /// It was not tried, as this process has several threads.
    pub(super) fn with_threads() -> StepError {
        StepError { step: "fork of a process with several threads".into(), errno: Errno::AGAIN }
    }

    /// The step and the number of the error, for another process.
    pub(crate) fn to_message(&self) -> String {
        format!("{} {}", self.errno.raw_os_error(), self.step)
    }

    /// What [`StepError::to_message`] has written.
    pub(crate) fn from_message(message: &str) -> StepError {
        let (errno, step) = message.split_once(' ').unwrap_or(("", "the process that tries it has ended"));
        let errno = errno.parse().map_or(Errno::IO, Errno::from_raw_os_error);
        StepError { step: step.to_owned(), errno }
    }

    /// The step of an error of [`step`].
    pub(crate) fn of(why: &io::Error) -> StepError {
        StepError::in_error(why)
            .cloned()
            .unwrap_or_else(|| StepError { step: "a step".into(), errno: errno(why) })
    }
}

/// The error of a step. That of a step within it stays what it is.
pub(super) fn step(name: impl fmt::Display, why: &io::Error) -> io::Error {
    let error = StepError::in_error(why)
        .cloned()
        .unwrap_or_else(|| StepError { step: name.to_string(), errno: errno(why) });
    io::Error::new(why.kind(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_same_in_another_process() {
        let why = step("mount of proc", &Errno::PERM.into());
        assert_eq!(why.to_string(), "mount of proc: operation not permitted");
        let found = StepError::of(&step("the jail", &why));
        assert_eq!(found, StepError { step: "mount of proc".into(), errno: Errno::PERM });
        assert_eq!(StepError::from_message(&found.to_message()), found);
        assert_eq!(StepError::from_message("").errno, Errno::IO);
        // The text of an error that names a part of the step takes the place of its number.
        let part = io::Error::new(io::ErrorKind::PermissionDenied, "user: operation not permitted");
        assert_eq!(StepError::of(&step("change of user", &part)).errno, Errno::PERM);
    }
}
