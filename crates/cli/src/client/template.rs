//! The messages of a client: a text with a number in it.

use std::fmt::Write as _;

use crate::args::unescape;

/// A message with places for its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What stands before, between and after the numbers.
    parts: Vec<Vec<u8>>,
}

impl Template {
    /// Reads a template as it is typed: `{n}` and escapes.
    pub fn parse(text: &str) -> Result<Template, String> {
        let parts = text.split("{n}").map(unescape).collect::<Result<Vec<_>, _>>()?;
        if parts.iter().all(Vec::is_empty) && parts.len() == 1 {
            return Err("an empty message is no message".into());
        }
        Ok(Template { parts })
    }

    /// Appends message number `n` to a buffer.
    pub fn write(&self, n: u64, buffer: &mut Vec<u8>) {
        let mut number = String::new();
        // Writing to a string cannot fail.
        let _ = write!(number, "{n}");
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                buffer.extend_from_slice(number.as_bytes());
            }
            buffer.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_escapes() {
        for (text, n, message) in [
            (r"data : {n}\n\0", 7, &b"data : 7\n\0"[..]),
            ("{n}{n}", 12, b"1212"),
            ("no number", 1, b"no number"),
            (r"{m} \\{n}", 0, b"{m} \\0"),
        ] {
            let mut buffer = Vec::new();
            Template::parse(text).expect(text).write(n, &mut buffer);
            assert_eq!(buffer, message, "{text}");
        }
        for text in ["", r"\", r"\x"] {
            Template::parse(text).expect_err(text);
        }
    }
}
