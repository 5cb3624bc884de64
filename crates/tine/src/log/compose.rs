//! Composes lines: text or JSON, and what surrounds a line on its way to its target.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::event::WrappedEvent;
use super::format::Format;
use super::value::FieldValue::{self, Text};
use super::value::write_value;
use super::wrapping::Wrapping;

/// Composes the lines of one process.
#[derive(Debug)]
pub(super) struct Composer {
    pub(super) format: Format,
    pub(super) colour: bool,
    /// The name of the service, in each line; `None` in a server with one service.
    pub(super) service: Option<String>,
    /// What the target takes around a line; `None` if it takes the line as it is.
    pub(super) wrapping: Option<Wrapping>,
    line: String,
    wrapped: Vec<u8>,
}

impl Composer {
    pub(super) fn new(
        format: Format,
        colour: bool,
        service: Option<String>,
        wrapping: Option<Wrapping>,
    ) -> Composer {
        Composer { format, colour, service, wrapping, line: String::new(), wrapped: Vec::new() }
    }

    /// The same for another process.
    pub(super) fn copy(&self) -> Composer {
        Composer::new(self.format, self.colour, self.service.clone(), self.wrapping.clone())
    }

    /// Composes the line of an event, as its target takes it.
    pub(super) fn compose(&mut self, event: &str, fields: &[(&str, FieldValue)]) -> &[u8] {
        let now = SystemTime::now();
        let text_at = self.compose_line(now, event, fields);
        let Some(wrapping) = &self.wrapping else { return self.line.as_bytes() };
        let line = self.line.trim_end();
        let text = if self.format == Format::Json { line } else { &line[text_at..] };
        let event = WrappedEvent { event, line, text, time: now, service: self.service.as_deref(), fields };
        self.wrapped.clear();
        wrapping.wrap(&event, &mut self.wrapped);
        &self.wrapped
    }

    /// Composes the line itself, with its newline. Returns where the text after the time begins.
    fn compose_line(&mut self, now: SystemTime, event: &str, fields: &[(&str, FieldValue)]) -> usize {
        self.line.clear();
        let time = humantime::format_rfc3339_millis(now);
        let line = &mut self.line;
        // Writing to a string cannot fail.
        let _ = match self.format {
            Format::Json => write!(line, "{{\"time\":\"{time}\","),
            _ if self.colour => write!(line, "\x1b[2m{time}\x1b[0m "),
            _ => write!(line, "{time} "),
        };
        let text_at = line.len();
        let _ = match self.format {
            Format::Json => write!(line, "\"event\":\"{event}\""),
            _ if self.colour => write!(line, "{}{event}\x1b[0m", paint(event)),
            _ => write!(line, "{event}"),
        };
        let service = self.service.as_deref().map(|service| ("service", Text(service)));
        for (key, value) in service.iter().chain(fields) {
            let _ = match self.format {
                Format::Json => write!(line, ",\"{key}\":"),
                _ => write!(line, " {key}="),
            };
            write_value(line, value, self.format);
        }
        line.push_str(if self.format == Format::Json { "}\n" } else { "\n" });
        text_at
    }
}

fn paint(event: &str) -> &'static str {
    match event {
        "error" => "\x1b[31m",
        "warning" | "restart" | "reject" | "penalty" | "dropped" => "\x1b[33m",
        "accept" => "\x1b[32m",
        "end" => "\x1b[36m",
        _ => "\x1b[1m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FieldValue::{Bytes, Decimal, Number};

    fn compose(format: Format, event: &str, fields: &[(&str, FieldValue)]) -> String {
        let mut composer = Composer::new(format, false, None, None);
        let line = String::from_utf8(composer.compose(event, fields).to_vec()).expect("UTF-8");
        let (_time, rest) =
            line.split_once(if format == Format::Json { ',' } else { ' ' }).expect("a time first");
        rest.to_owned()
    }

    #[test]
    fn text_lines_quote_and_escape() {
        for (fields, line) in [
            (vec![("id", Number(7)), ("peer", Text("127.0.0.1:80"))], "e id=7 peer=127.0.0.1:80\n"),
            (vec![("outcome", Text("exit 0"))], "e outcome=\"exit 0\"\n"),
            (vec![("outcome", Text("error größe"))], "e outcome=\"error größe\"\n"),
            (vec![("text", Bytes("it's größe \u{1b}".as_bytes()))], "e text=\"it's größe \\u{1b}\"\n"),
            (vec![("data", Text("a\nb\u{1b}\"="))], "e data=\"a\\nb\\u{1b}\\\"=\"\n"),
            (vec![("data", Bytes(b"a\n\xff\""))], "e data=\"a\\n\\xff\\\"\"\n"),
            (vec![("outcome", Text(""))], "e outcome=\"\"\n"),
            (vec![("seconds", Decimal(1.5))], "e seconds=1.500000\n"),
        ] {
            assert_eq!(compose(Format::Text, "e", &fields), line);
        }
    }

    #[test]
    fn json_lines_are_json() {
        let fields = [("text", Text("a\"\n\u{7f}é")), ("n", Number(3)), ("s", Decimal(0.25))];
        let line = compose(Format::Json, "e", &fields);
        let value: serde_json::Value = serde_json::from_str(&format!("{{{line}")).expect("JSON");
        assert_eq!(value["event"], "e");
        assert_eq!(value["text"], "a\"\n\u{7f}é");
        assert_eq!((value["n"].as_u64(), value["s"].as_f64()), (Some(3), Some(0.25)));
    }
}
