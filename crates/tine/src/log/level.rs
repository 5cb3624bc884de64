//! The level of the log, as a user chooses it.

/// Which events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Errors and warnings only.
    Quiet,
    /// Every event.
    #[default]
    Normal,
    /// Every event, and the bytes that connections receive, shortened and escaped.
    Verbose,
}
