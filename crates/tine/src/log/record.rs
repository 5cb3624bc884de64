//! An event in a compact form, from which its line can be written as text or as JSON.
//!
//! The time in milliseconds, the event, and each field with its key and the kind of its value. Any
//! process that has the memory of a ring can write any bytes there: what is no record is rejected.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::escape::whole_characters;
use super::format::Format;
use super::line::write_line;
use super::value::FieldValue::{self, Bytes, Decimal, Number, Text};

// The kinds of values.
const BYTES: u8 = 1;
const NUMBER: u8 = 2;
const DECIMAL: u8 = 3;

/// At the end of a text that was cut.
const CUT: &[u8] = b"...";

/// The end of the year 9999, after which there is no date (RFC 3339), in milliseconds.
const LAST_TIME: u64 = 253_402_300_799_999;

/// An event, and its fields.
pub(crate) struct LogRecord<'a> {
    time: SystemTime,
    event: &'a str,
    fields: Vec<(&'a str, FieldValue<'a>)>,
}

/// The record of an event in at most `limit` bytes. A text that does not fit is cut, and ends with
/// three dots.
pub(super) fn encode(time: SystemTime, event: &str, fields: &[(&str, FieldValue)], limit: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(256);
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    record.extend_from_slice(&(time.as_millis() as u64).to_le_bytes());
    put_name(&mut record, event);
    for (key, value) in fields {
        let before = record.len();
        put_name(&mut record, key);
        match value {
            Number(number) => put_word(&mut record, NUMBER, *number),
            Decimal(number) => put_word(&mut record, DECIMAL, number.to_bits()),
            Bytes(bytes) => put_bytes(&mut record, bytes, limit),
            Text(text) => put_bytes(&mut record, text.as_bytes(), limit),
        }
        if record.len() > limit {
            record.truncate(before);
            break;
        }
    }
    record
}

fn put_name(record: &mut Vec<u8>, name: &str) {
    record.push(name.len() as u8);
    record.extend_from_slice(name.as_bytes());
}

fn put_word(record: &mut Vec<u8>, kind: u8, word: u64) {
    record.push(kind);
    record.extend_from_slice(&word.to_le_bytes());
}

fn put_bytes(record: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let room = limit.saturating_sub(record.len() + 3);
    let (kept, end) = match bytes.len() <= room {
        true => (bytes, &[][..]),
        false => {
            let first = &bytes[..room.saturating_sub(CUT.len())];
            (&first[..whole_characters(first)], CUT)
        }
    };
    record.push(BYTES);
    record.extend_from_slice(&((kept.len() + end.len()) as u16).to_le_bytes());
    record.extend_from_slice(kept);
    record.extend_from_slice(end);
}

impl<'a> LogRecord<'a> {
    /// The record in these bytes; `None` if they are none.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<LogRecord<'a>> {
        let mut rest = bytes;
        let milliseconds = take_word(&mut rest)?.min(LAST_TIME);
        let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
        let event = take_name(&mut rest)?;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = take_name(&mut rest)?;
            let value = match take(&mut rest, 1)?[0] {
                NUMBER => Number(take_word(&mut rest)?),
                // JSON has no other numbers.
                DECIMAL => Decimal(Some(f64::from_bits(take_word(&mut rest)?)).filter(|n| n.is_finite())?),
                BYTES => {
                    let length = u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?);
                    Bytes(take(&mut rest, length.into())?)
                }
                _ => return None,
            };
            fields.push((key, value));
        }
        Some(LogRecord { time, event, fields })
    }

    /// The id of the connection that it is about.
    pub(crate) fn id(&self) -> Option<u64> {
        self.fields.iter().find_map(|(key, value)| match value {
            Number(id) if *key == "id" => Some(*id),
            _ => None,
        })
    }

    /// The client that it is about, as the log shows it.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.fields.iter().find_map(|(key, value)| match value {
            Bytes(peer) if *key == "peer" => std::str::from_utf8(peer).ok(),
            _ => None,
        })
    }

    /// Its time as a date.
    pub(crate) fn date(&self) -> String {
        humantime::format_rfc3339_millis(self.time).to_string()
    }

    /// Its line as text, without the end of the line.
    pub(crate) fn to_text(&self, service: Option<&str>, colour: bool) -> String {
        self.to_line((Format::Text, colour), service)
    }

    /// Its line as JSON, without the end of the line.
    pub(crate) fn to_json(&self, service: Option<&str>) -> String {
        self.to_line((Format::Json, false), service)
    }

    fn to_line(&self, style: (Format, bool), service: Option<&str>) -> String {
        let mut line = String::new();
        write_line(&mut line, style, self.time, service, self.event, &self.fields);
        line.pop();
        line
    }
}

impl LogRecord<'static> {
    /// That a reader has missed this many lines.
    pub(crate) fn lost(lines: u64) -> LogRecord<'static> {
        LogRecord { time: SystemTime::now(), event: "lost", fields: vec![("lines", Number(lines))] }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

fn take_word(rest: &mut &[u8]) -> Option<u64> {
    take(rest, 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// A name as events and keys have it: it needs no quotes.
fn take_name<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = take(rest, 1)?[0];
    let name = std::str::from_utf8(take(rest, length.into())?).ok()?;
    let is_one = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_one.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 200;

    fn time() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
    }

    #[test]
    fn records_have_the_lines_of_the_log() {
        let fields = [
            ("id", Number(7)),
            ("peer", Text("192.0.2.1:80")),
            ("seconds", Decimal(0.25)),
            ("text", Bytes(b"a\n\xff\x1b[2J")),
        ];
        let bytes = encode(time(), "end", &fields, LIMIT);
        let record = LogRecord::decode(&bytes).expect("a record");
        assert_eq!((record.id(), record.peer()), (Some(7), Some("192.0.2.1:80")));
        assert_eq!(record.date(), "2023-11-14T22:13:20.123Z");
        for style in [(Format::Text, false), (Format::Text, true), (Format::Json, false)] {
            let mut line = String::new();
            write_line(&mut line, style, time(), Some("git"), "end", &fields);
            assert_eq!(record.to_line(style, Some("git")), line.trim_end());
        }
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        let long = "é".repeat(LIMIT);
        let fields = [("id", Number(7)), ("text", Text(&long)), ("more", Number(1))];
        let bytes = encode(time(), "stderr", &fields, LIMIT);
        assert!(bytes.len() <= LIMIT, "{}", bytes.len());
        let line = LogRecord::decode(&bytes).expect("a record").to_text(None, false);
        assert!(line.contains(" id=7 text=\"éé") && line.ends_with("éé...\""), "{line}");
    }

    #[test]
    fn what_is_no_record_is_rejected() {
        let record = |rest: &[u8]| [&[0; 8][..], rest].concat();
        for bytes in [
            vec![],
            vec![0; 8],
            record(b"\x01"),
            record(b"\x01\n"),
            record(b"\x01E"),
            record(b"\x01e\x01k"),
            record(b"\x01e\x01k\x09"),
            record(b"\x01e\x03a\"b\x01\0\0"),
            record(b"\x01e\x01k\x01\x05\x00abcd"),
            record(b"\x01e\x01k\x02\x00"),
            record(&[&b"\x01e\x01k\x03"[..], &f64::NAN.to_bits().to_le_bytes()].concat()),
        ] {
            assert!(LogRecord::decode(&bytes).is_none(), "{bytes:?}");
        }
        // No time is beyond the calendar.
        let late = [&[0xff; 8][..], b"\x01e"].concat();
        assert_eq!(LogRecord::decode(&late).expect("a record").date(), "9999-12-31T23:59:59.999Z");
    }
}
