//! Text in the log: valid UTF-8 stays as it is; what could forge a line or control a terminal, and
//! what is not UTF-8, is escaped.

use std::fmt::Write as _;

/// How text is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// As a Rust string: `\n`, `\u{1b}`, `\xff`.
    Rust,
    /// As a JSON string: `\n`, `\u001b`. A byte that is not UTF-8 is the text `\xff`.
    Json,
}

/// Appends bytes in quotes.
pub(super) fn quote(line: &mut String, bytes: &[u8], quoting: Quoting) {
    line.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push(line, character, quoting));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = match quoting {
                Quoting::Rust => write!(line, "\\x{byte:02x}"),
                Quoting::Json => write!(line, "\\\\x{byte:02x}"),
            };
        }
    }
    line.push('"');
}

fn push(line: &mut String, character: char, quoting: Quoting) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        _ => "",
    };
    if !short.is_empty() {
        line.push_str(short);
    } else if is_control(character) {
        let number = u32::from(character);
        let _ = match quoting {
            Quoting::Rust => write!(line, "\\u{{{number:x}}}"),
            // None of them is above U+FFFF.
            Quoting::Json => write!(line, "\\u{number:04x}"),
        };
    } else {
        line.push(character);
    }
}

/// Whether a terminal may obey a character instead of showing it: control characters, separators of
/// lines and paragraphs, and what changes the direction of text (Unicode Standard Annex 9).
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The length of these bytes without an incomplete character at their end.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    let length = bytes.len();
    for back in 1..=length.min(3) {
        let needed = match bytes[length - back] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if back < needed { length - back } else { length };
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_stays_and_the_rest_is_escaped() {
        for (bytes, rust, json) in [
            (&b"plain it's"[..], "plain it's", "plain it's"),
            ("größe 日本語 🦀".as_bytes(), "größe 日本語 🦀", "größe 日本語 🦀"),
            ("e\u{301} क्षि".as_bytes(), "e\u{301} क्षि", "e\u{301} क्षि"),
            (b"\"\\\n\r\t", "\\\"\\\\\\n\\r\\t", "\\\"\\\\\\n\\r\\t"),
            (b"\x1b[2J\0\x7f", "\\u{1b}[2J\\u{0}\\u{7f}", "\\u001b[2J\\u0000\\u007f"),
            ("\u{9b}\u{2028}\u{202e}".as_bytes(), "\\u{9b}\\u{2028}\\u{202e}", "\\u009b\\u2028\\u202e"),
            (b"gr\xf6\xdfe \xc3", "gr\\xf6\\xdfe \\xc3", "gr\\\\xf6\\\\xdfe \\\\xc3"),
            // Surrogates and overlong forms are not UTF-8.
            (b"\xed\xa0\x80\xc0\xaf", "\\xed\\xa0\\x80\\xc0\\xaf", "\\\\xed\\\\xa0\\\\x80\\\\xc0\\\\xaf"),
        ] {
            for (quoting, expected) in [(Quoting::Rust, rust), (Quoting::Json, json)] {
                let mut line = String::new();
                quote(&mut line, bytes, quoting);
                assert_eq!(line, format!("\"{expected}\""), "{quoting:?}");
                if quoting == Quoting::Json {
                    serde_json::from_str::<String>(&line).expect("JSON");
                }
            }
        }
    }

    #[test]
    fn an_incomplete_character_is_left_for_the_next_part() {
        for (bytes, length) in [
            (&b""[..], 0),
            (b"a", 1),
            ("aé".as_bytes(), 3),
            (&"aé".as_bytes()[..2], 1),
            (&"a日".as_bytes()[..3], 1),
            (&"🦀".as_bytes()[..3], 0),
            ("🦀".as_bytes(), 4),
            (b"a\xff", 2),
            (b"\x80\x80\x80\x80", 4),
        ] {
            assert_eq!(whole_characters(bytes), length, "{bytes:?}");
        }
    }
}
