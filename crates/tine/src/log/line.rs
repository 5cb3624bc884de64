//! The line of an event, as text and as JSON.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::format::Format;
use super::value::FieldValue::{self, Text};
use super::value::write_value;

/// Appends the line of an event, with the name of its service in front of the fields. Returns where
/// the text after the time begins.
pub(super) fn write_line(
    line: &mut String,
    (format, colour): (Format, bool),
    time: SystemTime,
    service: Option<&str>,
    event: &str,
    fields: &[(&str, FieldValue)],
) -> usize {
    let time = humantime::format_rfc3339_millis(time);
    // Writing to a string cannot fail.
    let _ = match format {
        Format::Json => write!(line, "{{\"time\":\"{time}\","),
        _ if colour => write!(line, "\x1b[2m{time}\x1b[0m "),
        _ => write!(line, "{time} "),
    };
    let text_at = line.len();
    let _ = match format {
        Format::Json => write!(line, "\"event\":\"{event}\""),
        _ if colour => write!(line, "{}{event}\x1b[0m", paint(event)),
        _ => write!(line, "{event}"),
    };
    let service = service.map(|service| ("service", Text(service)));
    for (key, value) in service.iter().chain(fields) {
        let _ = match format {
            Format::Json => write!(line, ",\"{key}\":"),
            _ => write!(line, " {key}="),
        };
        write_value(line, value, format);
    }
    line.push_str(if format == Format::Json { "}\n" } else { "\n" });
    text_at
}

fn paint(event: &str) -> &'static str {
    match event {
        "error" => "\x1b[31m",
        "warning" | "restart" | "reject" | "penalty" | "dropped" | "lost" => "\x1b[33m",
        "accept" => "\x1b[32m",
        "end" => "\x1b[36m",
        _ => "\x1b[1m",
    }
}
