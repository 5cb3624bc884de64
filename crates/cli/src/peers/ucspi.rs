//! What the options of UCSPI tools have in common (cr.yp.to/proto/ucspi.txt).

use std::ffi::OsString;
use std::iter::Peekable;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What is written to standard error: `-q`, `-Q`, `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing.
    Quiet,
    /// Errors.
    Errors,
    /// A line for each event.
    Verbose,
}

/// Reads options as getopt(3) does, up to `--` or to the first other word, and calls `take` for
/// each letter, with its value if it is one of `with_value`.
///
/// # Errors
/// A value is missing, or `take` refuses.
pub(crate) fn read(
    words: &mut Peekable<impl Iterator<Item = OsString>>,
    with_value: &[u8],
    mut take: impl FnMut(u8, Option<OsString>) -> Result<(), ()>,
) -> Result<(), ()> {
    let is_option = |word: &OsString| word.as_bytes().starts_with(b"-") && word.as_bytes().len() > 1;
    while let Some(word) = words.next_if(is_option) {
        if word == "--" {
            break;
        }
        let mut letters = &word.as_bytes()[1..];
        while let Some((letter, rest)) = letters.split_first() {
            letters = rest;
            if with_value.contains(letter) {
                let value = match rest {
                    [] => words.next().ok_or(())?,
                    rest => OsString::from_vec(rest.to_vec()),
                };
                take(*letter, Some(value))?;
                break;
            }
            take(*letter, None)?;
        }
    }
    Ok(())
}

/// A number, as the value of an option.
///
/// # Errors
/// It is none.
pub(super) fn number(value: Option<&OsString>) -> Result<u32, ()> {
    value.and_then(|value| value.to_str()).and_then(|text| text.parse().ok()).ok_or(())
}

/// The next word, as text.
///
/// # Errors
/// There is none, or it is not UTF-8.
pub(crate) fn text(words: &mut impl Iterator<Item = OsString>) -> Result<String, ()> {
    words.next().ok_or(())?.into_string().map_err(|_| ())
}
