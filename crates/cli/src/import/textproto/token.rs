//! Words, numbers, texts and marks of a message as text.

use std::iter::Peekable;
use std::str::Chars;

use super::place::{At, TextFault};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name of a field or an enum, `true`, `false`.
    Word(String),
    /// As it is written, with its sign.
    Number(String),
    /// The bytes of adjacent texts, which are one.
    Text(Vec<u8>),
    Mark(char),
    End,
}

impl Token {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("\"{word}\""),
            Token::Number(number) => format!("the number {number}"),
            Token::Text(_) => "a text".into(),
            Token::Mark(mark) => format!("\"{mark}\""),
            Token::End => "the end of the file".into(),
        }
    }
}

/// Divides a text into tokens.
pub(super) struct Lexer<'t> {
    chars: Peekable<Chars<'t>>,
    /// Where the next character is.
    at: At,
}

impl Lexer<'_> {
    pub(super) fn new(text: &str) -> Lexer<'_> {
        Lexer { chars: text.chars().peekable(), at: At { line: 1, column: 1 } }
    }

    /// The next token, and where it begins.
    pub(super) fn token(&mut self) -> Result<(Token, At), TextFault> {
        self.skip();
        let at = self.at;
        let Some(first) = self.chars.peek().copied() else { return Ok((Token::End, at)) };
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => Token::Word(self.word()),
            '0'..='9' | '.' => Token::Number(self.number(String::new(), at)?),
            '-' => {
                self.next();
                self.skip();
                match self.chars.peek() {
                    Some('0'..='9' | '.') => Token::Number(self.number("-".into(), at)?),
                    _ => return Err(at.fault("a number is missing after \"-\"")),
                }
            }
            '"' | '\'' => Token::Text(self.texts()?),
            '{' | '}' | '<' | '>' | '[' | ']' | ':' | ',' | ';' => {
                self.next();
                Token::Mark(first)
            }
            other => return Err(at.fault(format!("the character {other:?} has no meaning here"))),
        };
        Ok((token, at))
    }

    fn next(&mut self) -> Option<char> {
        let next = self.chars.next()?;
        match next {
            '\n' => self.at = At { line: self.at.line + 1, column: 1 },
            _ => self.at.column += 1,
        }
        Some(next)
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        let mut in_comment = false;
        while let Some(next) = self.chars.peek() {
            match next {
                '#' => in_comment = true,
                '\n' => in_comment = false,
                ' ' | '\t' | '\r' | '\u{b}' | '\u{c}' => {}
                _ if in_comment => {}
                _ => return,
            }
            self.next();
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
            self.at.column += 1;
            word.push(next);
        }
        word
    }

    /// A number, which no letter follows at once: `5M` is none.
    fn number(&mut self, mut number: String, at: At) -> Result<String, TextFault> {
        let start = number.len();
        while let Some(next) = self.chars.peek().copied() {
            let is_exponent = number[start..].to_ascii_lowercase().ends_with('e')
                && !number[start..].starts_with("0x")
                && matches!(next, '+' | '-');
            if !next.is_ascii_alphanumeric() && next != '.' && !is_exponent {
                break;
            }
            self.next();
            number.push(next);
        }
        let digits = &number[start..];
        let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let is_number = match hexadecimal {
            Some(digits) => !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
            None if digits.len() > 1 && digits.starts_with('0') && !digits.contains(['.', 'e', 'E', 'f']) => {
                digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'))
            }
            None => digits.trim_end_matches(['f', 'F']).parse::<f64>().is_ok(),
        };
        if is_number { Ok(number) } else { Err(at.fault(format!("{number} is no number"))) }
    }

    /// Adjacent texts.
    fn texts(&mut self) -> Result<Vec<u8>, TextFault> {
        let mut bytes = Vec::new();
        while let Some('"' | '\'') = self.chars.peek() {
            self.text(&mut bytes)?;
            self.skip();
        }
        Ok(bytes)
    }

    /// One text between quotes.
    fn text(&mut self, bytes: &mut Vec<u8>) -> Result<(), TextFault> {
        let start = self.at;
        let quote = self.next();
        loop {
            let at = self.at;
            match self.next() {
                None | Some('\n') => {
                    return Err(start.fault("the text has no quote at its end, on this line"));
                }
                Some('\\') => self.escape(at, bytes)?,
                next if next == quote => return Ok(()),
                Some(other) => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, at: At, bytes: &mut Vec<u8>) -> Result<(), TextFault> {
        let kind = self.next();
        match kind {
            Some('a') => bytes.push(0x07),
            Some('b') => bytes.push(0x08),
            Some('f') => bytes.push(0x0c),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('v') => bytes.push(0x0b),
            Some(same @ ('\\' | '\'' | '"' | '?')) => bytes.push(same as u8),
            Some(first @ '0'..='7') => {
                let value = self.digits(&first.to_string(), 8, 3);
                let byte = value.and_then(|value| u8::try_from(value).ok());
                bytes.push(byte.ok_or_else(|| at.fault("the escape is no byte: \\377 is the last one"))?);
            }
            Some('x' | 'X') => {
                let byte = self.digits("", 16, 2).and_then(|value| u8::try_from(value).ok());
                bytes.push(byte.ok_or_else(|| at.fault("the escape \\x has no digits"))?);
            }
            Some(kind @ ('u' | 'U')) => {
                let length = if kind == 'u' { 4 } else { 8 };
                let start = self.at.column;
                let value = self.digits("", 16, length);
                let character = value
                    .filter(|_| self.at.column - start == length)
                    .and_then(char::from_u32)
                    .ok_or_else(|| at.fault(format!("the escape \\{kind} is no character")))?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(at.fault("there is no such escape")),
        }
        Ok(())
    }

    /// The value of at most so many digits; `None` if there is none.
    fn digits(&mut self, first: &str, base: u32, most: usize) -> Option<u32> {
        let mut digits = first.to_owned();
        while digits.len() < most
            && let Some(next) = self.chars.next_if(|next| next.is_digit(base))
        {
            self.at.column += 1;
            digits.push(next);
        }
        u32::from_str_radix(&digits, base).ok()
    }
}
