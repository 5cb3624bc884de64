//! Texts as they are typed: escapes, and places for numbers.

/// Replaces `\n \r \t \0 \\` by what they stand for; adds nothing.
///
/// # Errors
/// What may come after a backslash, if something else does.
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
                _ => return Err("after a backslash comes n, r, t, 0 or another backslash".into()),
            },
        });
    }
    Ok(bytes)
}

/// A message with places for its number and for its connection's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    /// `{n}`: the number of the message on its connection, from 0.
    Message,
    /// `{c}`: the number of the connection, from 0.
    Connection,
}

impl Template {
    /// Reads a template as it is typed: `{n}`, `{c}` and escapes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.is_empty() {
            return Err("an empty message is no message".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, field, after)) = next_field(rest) {
            parts.push(Part::Text(unescape(before)?));
            parts.push(field);
            rest = after;
        }
        parts.push(Part::Text(unescape(rest)?));
        Ok(Template { parts })
    }

    /// Appends message number `n` of a connection to a buffer.
    pub fn write(&self, connection: u64, n: u64, buffer: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => buffer.extend_from_slice(text),
                Part::Message => buffer.extend_from_slice(n.to_string().as_bytes()),
                Part::Connection => buffer.extend_from_slice(connection.to_string().as_bytes()),
            }
        }
    }
}

/// What stands before the next place for a number, that place, and what follows.
fn next_field(text: &str) -> Option<(&str, Part, &str)> {
    let message = text.find("{n}").map(|at| (at, Part::Message));
    let connection = text.find("{c}").map(|at| (at, Part::Connection));
    let (at, field) = [message, connection].into_iter().flatten().min_by_key(|(at, _)| *at)?;
    Some((&text[..at], field, &text[at + 3..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_escapes() {
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
