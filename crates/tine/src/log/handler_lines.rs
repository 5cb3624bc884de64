//! The lines of what handlers report by the crate `tracing`, with the feature of that name.

use super::Log;
use super::format::Format;
#[cfg(feature = "tracing")]
use super::level::LogLevel;
#[cfg(feature = "tracing")]
use super::value::FieldValue::{Number, Text};

/// An event of a handler, as text.
#[cfg(feature = "tracing")]
pub(crate) struct HandlerEvent<'a> {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) level: &'a str,
    pub(crate) target: &'a str,
    pub(crate) text: &'a str,
    pub(crate) fields: &'a str,
}

impl Log {
    /// Whether the process of a handler's connection can ever log anything: its events, or what it
    /// receives.
    pub(crate) fn may_log_in_connections(&self) -> bool {
        let logs_events = cfg!(feature = "tracing") && !matches!(self.format, Format::Off | Format::Peer(_));
        logs_events || self.may_log_bytes()
    }
}

#[cfg(feature = "tracing")]
impl Log {
    /// Whether an event of a handler with this level is logged now.
    pub(crate) fn logs_handler_events(&self, level: &str) -> bool {
        let is_detail = level.eq_ignore_ascii_case("debug") || level.eq_ignore_ascii_case("trace");
        let needed = if is_detail { LogLevel::Verbose } else { LogLevel::Normal };
        !matches!(self.format, Format::Off | Format::Peer(_)) && self.level() >= needed
    }

    pub(crate) fn handler_event(&mut self, id: u64, event: &HandlerEvent) {
        let HandlerEvent { level, target, text, fields } = event;
        let mut all =
            vec![("id", Number(id)), ("level", Text(level)), ("target", Text(target)), ("text", Text(text))];
        all.extend((!fields.is_empty()).then_some(("fields", Text(fields))));
        self.event("handler", &all);
    }

    /// The number of events of a handler that were not logged.
    pub(crate) fn handler_events_suppressed(&mut self, id: u64, suppressed: u64) {
        self.event("handler", &[("id", Number(id)), ("suppressed", Number(suppressed))]);
    }

    /// Whether lines go through the channel to the log writer.
    pub(crate) fn is_channel(&self) -> bool {
        self.sink.is_channel()
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn details_need_the_verbose_level() {
        for (format, level, logged) in [
            (Format::Text, LogLevel::Quiet, &[][..]),
            (Format::Text, LogLevel::Normal, &["ERROR", "WARN", "INFO"]),
            (Format::Json, LogLevel::Verbose, &["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]),
            (Format::Off, LogLevel::Verbose, &[]),
        ] {
            let log = Log::new(format, level, None, None);
            let found: Vec<&str> = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
                .into_iter()
                .filter(|level| log.logs_handler_events(level))
                .collect();
            assert_eq!(found, logged);
        }
    }
}
