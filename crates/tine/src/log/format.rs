//! The format of the log, as a user chooses it.

use super::peers::Dialect;
use crate::error::named;

/// The format of log lines, with those of other super-servers, which only the command offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// `TIME EVENT key=value …`, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// The lines of another super-server.
    Peer(Dialect),
    /// No lines.
    Off,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogFormat {
    /// `TIME EVENT key=value …`, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// No log.
    Off,
}

named!(LogFormat { Text = "text", Json = "json", Off = "off" });

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Format {
        match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
            LogFormat::Off => Format::Off,
        }
    }
}
