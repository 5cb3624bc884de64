//! The values of fields, as text and as JSON.

use std::fmt::Write as _;

use super::escape::{Quoting, quote};
use super::format::Format;
use FieldValue::{Bytes, Decimal, Number, Text};

/// The value of a field.
pub(super) enum FieldValue<'a> {
    Text(&'a str),
    /// Bytes from a client or a program, which need not be UTF-8.
    Bytes(&'a [u8]),
    Number(u64),
    Decimal(f64),
}

/// Appends a value.
pub(super) fn write_value(line: &mut String, value: &FieldValue, format: Format) {
    match value {
        Number(number) => {
            let _ = write!(line, "{number}");
        }
        Decimal(number) => {
            let _ = write!(line, "{number:.6}");
        }
        Bytes(bytes) if format == Format::Json => quote(line, bytes, Quoting::Json),
        Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if is_plain(text) => line.push_str(text),
            _ => quote(line, bytes, Quoting::Rust),
        },
        Text(text) => write_value(line, &Bytes(text.as_bytes()), format),
    }
}

/// Whether a text value needs no quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'='))
}
