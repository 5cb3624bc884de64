//! Composes lines: text or JSON, and what surrounds a line on its way to its target.

use std::time::SystemTime;

use super::event::WrappedEvent;
use super::format::Format;
use super::line::write_line;
use super::value::FieldValue;
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
        self.compose_at(SystemTime::now(), event, fields)
    }

    /// The same for an event at this time.
    pub(super) fn compose_at(
        &mut self,
        now: SystemTime,
        event: &str,
        fields: &[(&str, FieldValue)],
    ) -> &[u8] {
        self.line.clear();
        let style = (self.format, self.colour);
        let text_at = write_line(&mut self.line, style, now, self.service.as_deref(), event, fields);
        let Some(wrapping) = &self.wrapping else { return self.line.as_bytes() };
        let line = self.line.trim_end();
        let text = if self.format == Format::Json { line } else { &line[text_at..] };
        let event = WrappedEvent { event, line, text, time: now, service: self.service.as_deref(), fields };
        self.wrapped.clear();
        wrapping.wrap(&event, &mut self.wrapped);
        &self.wrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FieldValue::{Bytes, Decimal, Number, Text};

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
