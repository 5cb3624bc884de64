//! An event on its way to a target that takes more than its line.

use std::time::SystemTime;

use super::value::FieldValue;

/// An event, as it was composed.
pub(super) struct WrappedEvent<'a> {
    pub(super) event: &'a str,
    /// The line, without its newline.
    pub(super) line: &'a str,
    /// The same without its time, unless it is JSON.
    pub(super) text: &'a str,
    pub(super) time: SystemTime,
    pub(super) service: Option<&'a str>,
    pub(super) fields: &'a [(&'a str, FieldValue<'a>)],
}

/// The severity of an event (RFC 5424, 6.2.1); that of a handler's event by its level.
pub(super) fn severity(event: &str, fields: &[(&str, FieldValue)]) -> u8 {
    let level = fields.iter().find_map(|(key, value)| match value {
        FieldValue::Text(level) if event == "handler" && *key == "level" => Some(*level),
        _ => None,
    });
    match level.unwrap_or(event) {
        "warn" => 4,
        "debug" | "trace" => 7,
        "error" => 3,
        "warning" | "restart" | "dropped" | "crash" => 4,
        "listen" | "observe" | "agent" | "jail" | "announce" | "drain" | "stop" | "reload" | "recovered"
        | "control" | "penalty" => 5,
        "receive" => 7,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_order_the_events() {
        for (event, expected) in
            [("error", 3), ("dropped", 4), ("stop", 5), ("accept", 6), ("reject", 6), ("receive", 7)]
        {
            assert_eq!(severity(event, &[]), expected, "{event}");
        }
        for (level, expected) in [("error", 3), ("warn", 4), ("info", 6), ("debug", 7), ("trace", 7)] {
            assert_eq!(severity("handler", &[("level", FieldValue::Text(level))]), expected, "{level}");
        }
    }
}
