//! The level of the log, as a user chooses it.

use std::fmt;
use std::str::FromStr;

/// Which events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Errors, warnings, and what operators change.
    Quiet,
    /// Every event.
    #[default]
    Normal,
    /// Every event, and the bytes that connections receive, shortened and escaped.
    Verbose,
}

impl LogLevel {
    /// The level as a word of shared memory; none is 0, which says nothing.
    pub(crate) fn to_word(self) -> u64 {
        match self {
            LogLevel::Quiet => 1,
            LogLevel::Normal => 2,
            LogLevel::Verbose => 3,
        }
    }

    #[inline]
    pub(crate) fn from_word(word: u64) -> Option<LogLevel> {
        match word {
            1 => Some(LogLevel::Quiet),
            2 => Some(LogLevel::Normal),
            3 => Some(LogLevel::Verbose),
            _ => None,
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<LogLevel, String> {
        match text {
            "quiet" => Ok(LogLevel::Quiet),
            "normal" => Ok(LogLevel::Normal),
            "verbose" => Ok(LogLevel::Verbose),
            other => Err(format!("'{other}' is none of quiet, normal, verbose")),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Quiet => "quiet",
            LogLevel::Normal => "normal",
            LogLevel::Verbose => "verbose",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_texts_and_words() {
        for level in [LogLevel::Quiet, LogLevel::Normal, LogLevel::Verbose] {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(LogLevel::from_word(level.to_word()), Some(level));
        }
        assert!("loud".parse::<LogLevel>().is_err());
        assert_eq!(LogLevel::from_word(0), None);
    }
}
