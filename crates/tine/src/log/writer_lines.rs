//! The lines of the log writer itself, which go to the target without the channel.

use std::path::Path;

use super::channel::LineSender;
use super::compose::Composer;
use super::format::Format;
use super::value::FieldValue::{Number, Text};
use super::{Log, LogLevel};
use crate::error::one_line;

/// Composes the lines of a log writer.
#[derive(Debug)]
pub(crate) struct WriterLines {
    composer: Composer,
    level: LogLevel,
}

impl WriterLines {
    /// Lines for the target of this channel.
    pub(crate) fn new(format: Format, level: LogLevel, channel: &LineSender) -> WriterLines {
        WriterLines { composer: Composer::new(format, false, None, channel.wrapping.clone()), level }
    }

    /// The number of lines that the target did not take.
    pub(crate) fn dropped(&mut self, lines: u64) -> &[u8] {
        self.composer.compose("dropped", &[("lines", Number(lines))])
    }

    /// The log file was opened again; `None` if that is not logged.
    pub(crate) fn reload(&mut self, path: &Path) -> Option<&[u8]> {
        let path = path.display().to_string();
        (self.level >= LogLevel::Normal)
            .then(|| self.composer.compose("reload", &[("log_file", Text(&path))]))
    }

    /// The log file could not be opened again.
    pub(crate) fn error(&mut self, what: &str, why: &str, next: &str) -> &[u8] {
        let text = one_line(&format!("{what}: {why}; {next}"));
        self.composer.compose("error", &[("text", Text(&text))])
    }

    /// A log on standard error, for what cannot be written to the target.
    pub(crate) fn on_stderr(&self) -> Log {
        Log::new(self.composer.format, self.level, None, None)
    }
}
