//! Which events a service logs: what its section says, else the defaults, else the server as a
//! whole.

use tine::LogLevel;

use super::keys::{LEVELS, Takes};
use super::position::Position;
use super::value::{Entry, TomlValue};
use crate::error::Error;

/// The keys `verbose` and `quiet` of one section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LevelKeys {
    verbose: Option<bool>,
    quiet: Option<bool>,
}

/// Whether a key is one of these.
pub(super) fn is_level(entry: &Entry) -> bool {
    LEVELS.contains(&entry.key.as_str())
}

/// The option for a level, as if it were a key of this section.
pub(super) fn entry(level: LogLevel, position: &Position) -> Option<Entry> {
    let key = match level {
        LogLevel::Verbose => "verbose",
        LogLevel::Quiet => "quiet",
        _ => return None,
    };
    Some(Entry { key: key.to_owned(), position: position.clone(), value: TomlValue::Bool(true) })
}

impl LevelKeys {
    /// The keys of a section.
    ///
    /// # Errors
    /// One is neither true nor false, or both are true.
    pub(super) fn of(entries: &[Entry]) -> Result<LevelKeys, Error> {
        let mut keys = LevelKeys::default();
        for entry in entries.iter().filter(|entry| is_level(entry)) {
            let TomlValue::Bool(value) = entry.value else { return Err(Takes::no_bool(entry)) };
            let key = if entry.key == "verbose" { &mut keys.verbose } else { &mut keys.quiet };
            *key = Some(value);
            if keys.verbose == Some(true) && keys.quiet == Some(true) {
                return Err(entry.position.fault("verbose and quiet cannot both be true", "remove one"));
            }
        }
        Ok(keys)
    }

    /// The level of a section within one of this level.
    pub(super) fn within(self, outer: LogLevel) -> LogLevel {
        match (self.verbose, self.quiet, outer) {
            (Some(true), ..) => LogLevel::Verbose,
            (_, Some(true), _) => LogLevel::Quiet,
            (Some(false), _, LogLevel::Verbose) | (_, Some(false), LogLevel::Quiet) => LogLevel::Normal,
            _ => outer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_changes_the_level_that_it_is_in() {
        use LogLevel::{Normal, Quiet, Verbose};
        for (verbose, quiet, outer, level) in [
            (None, None, Quiet, Quiet),
            (None, None, Verbose, Verbose),
            (Some(true), None, Quiet, Verbose),
            (None, Some(true), Verbose, Quiet),
            (Some(false), None, Verbose, Normal),
            (Some(false), None, Quiet, Quiet),
            (None, Some(false), Quiet, Normal),
            (None, Some(false), Verbose, Verbose),
            (Some(true), Some(false), Quiet, Verbose),
        ] {
            assert_eq!(LevelKeys { verbose, quiet }.within(outer), level, "{verbose:?} {quiet:?} {outer:?}");
        }
    }
}
