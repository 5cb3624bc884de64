//! What the process of a connection notes about its own crash, for a report: the place of a panic,
//! the address of a fault.

use std::cell::RefCell;
use std::panic;

/// Bytes of the place of a panic, at most; of a longer one the end is kept.
pub(crate) const MAX_PLACE: usize = 100;

thread_local! {
    /// The place of the last panic of this thread.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A fault, as the process itself has noted it: it may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultNote {
    pub(crate) signal: i32,
    /// The address that could not be used; `None` for a signal without one.
    pub(crate) address: Option<u64>,
    /// The instruction, as an offset from the first byte of the program; `None` outside of it.
    pub(crate) instruction: Option<u64>,
}

/// What is known about the crash of a connection beside its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrashNote {
    pub(crate) fault: Option<FaultNote>,
    /// File, line and column of a panic.
    pub(crate) place: Option<String>,
}

/// From now on, the places of panics are noted, before the hook that was there is called. Runs in a
/// forker, for the processes that it forks.
pub(crate) fn note_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Some(place) = info.location() {
            let text = last_bytes(&place.to_string(), MAX_PLACE).to_owned();
            PLACE.with(|place| place.replace(text));
        }
        before(info);
    }));
}

/// The place of the last panic of this thread; empty if it was not noted.
pub(crate) fn take_place() -> String {
    PLACE.with(RefCell::take)
}

/// The end of a text: whole characters, so many bytes at most.
fn last_bytes(text: &str, most: usize) -> &str {
    let start = text.len().saturating_sub(most);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_place_keeps_its_end() {
        for (text, most, end) in [("a:1:2", 9, "a:1:2"), ("abc:1:2", 5, "c:1:2"), ("é:1:2", 5, ":1:2")] {
            assert_eq!(last_bytes(text, most), end, "{text}");
        }
    }
}
