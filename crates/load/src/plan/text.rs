//! Messages as typed: escapes, and templates with numbers.

/// Replaces the escapes `\n \r \t \0 \\`; adds nothing.
///
/// # Errors
/// A message that names the escapes, if another character follows a backslash.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                _ => {
                    return Err(
                        r"invalid escape; after a backslash write n, r, t, 0 or another backslash".into()
                    );
                }
            },
        });
    }
    Ok(bytes)
}

/// A message with fields for its number and for the number of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(Vec<u8>),
    /// `{n}`: the number of the message on its connection, from 0.
    Message,
    /// `{c}`: the number of the connection, from 0.
    Connection,
}

impl Template {
    /// Parses a template: text with `{n}`, `{c}` and escapes.
    ///
    /// # Errors
    /// A message about the invalid part of the text.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.is_empty() {
            return Err("the message is empty".into());
        }
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some((before, field, after)) = next_field(rest) {
            segments.push(Segment::Text(unescape(before)?));
            segments.push(field);
            rest = after;
        }
        segments.push(Segment::Text(unescape(rest)?));
        Ok(Template { segments })
    }

    /// Appends message number `n` of a connection to a buffer.
    pub fn write(&self, connection: u64, n: u64, buffer: &mut Vec<u8>) {
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => buffer.extend_from_slice(text),
                Segment::Message => buffer.extend_from_slice(n.to_string().as_bytes()),
                Segment::Connection => buffer.extend_from_slice(connection.to_string().as_bytes()),
            }
        }
    }
}

/// Splits a text at its first field: the text before it, the field, and the text after it.
fn next_field(text: &str) -> Option<(&str, Segment, &str)> {
    let message = text.find("{n}").map(|at| (at, Segment::Message));
    let connection = text.find("{c}").map(|at| (at, Segment::Connection));
    let (at, field) = [message, connection].into_iter().flatten().min_by_key(|(at, _)| *at)?;
    Some((&text[..at], field, &text[at + 3..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_numbers_and_escapes() {
        for (text, n, message) in [
            (r"data : {n}\n\0", 7, &b"data : 7\n\0"[..]),
            ("{n}{n}", 12, b"1212"),
            ("{c}:{n}", 2, b"31:2"),
            ("{n}:{c}.", 2, b"2:31."),
            ("no number", 1, b"no number"),
            (r"{m} \\{n}", 0, b"{m} \\0"),
        ] {
            let mut buffer = Vec::new();
            Template::parse(text).expect(text).write(31, n, &mut buffer);
            assert_eq!(buffer, message, "{text}");
        }
        for text in ["", r"\", r"\x"] {
            Template::parse(text).expect_err(text);
        }
    }
}
