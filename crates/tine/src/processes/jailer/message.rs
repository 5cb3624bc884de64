//! What a jailer, its rooms and its forker tell each other.

use std::io;

use crate::jail::step::StepError;

/// The message of a room; others are errors.
pub(super) const ROOM: &str = "room";

/// The message of a forker that has taken a room.
pub(super) const TAKEN: &str = "taken";

/// The message of a step that the kernel refused.
pub(super) fn refusal(why: &io::Error) -> String {
    StepError::of(why).to_message()
}

/// The error in a message of [`refusal`].
pub(super) fn refusal_of(text: &[u8]) -> io::Error {
    StepError::from_message(&String::from_utf8_lossy(text)).into()
}
