//! Messages of protocol buffers as text: fields with a name and a value, which may be a message.
//!
//! Only the syntax is known here. Which fields there are, and of which types, knows who reads them.

mod place;
mod token;

pub(super) use place::{At, TextFault};
use token::{Lexer, Token};

/// Messages within messages. Configurations have two or three.
const MAX_DEPTH: usize = 32;

/// The fields of a message, in the order of the text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
}

/// A field. One with a list of values is a field for each value.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Value,
    /// Where its name is.
    pub(super) at: At,
}

/// The value of a field.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    /// `true`, `false`, the name of an enum.
    Word(String),
    /// As it is written.
    Number(String),
    /// It need not be UTF-8.
    Text(Vec<u8>),
    Message(Message),
}

/// Reads a message.
///
/// # Errors
/// The first fault of the syntax.
pub(super) fn parse(text: &str) -> Result<Message, TextFault> {
    let mut parser = Parser { lexer: Lexer::new(text), token: Token::End, at: At { line: 1, column: 1 } };
    parser.advance()?;
    parser.message(None, 0)
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The next token, and where it is.
    token: Token,
    at: At,
}

impl Parser<'_> {
    /// Takes the next token.
    fn advance(&mut self) -> Result<Token, TextFault> {
        let (token, at) = self.lexer.token()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Takes this mark if it is the next token.
    fn take(&mut self, mark: char) -> Result<bool, TextFault> {
        let is_next = self.token == Token::Mark(mark);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn missing(&self, what: &str) -> TextFault {
        self.at.fault(format!("{what} is missing before {}", self.token.describe()))
    }

    /// The fields up to the mark that ends the message, or to the end of the text.
    fn message(&mut self, end: Option<char>, depth: usize) -> Result<Message, TextFault> {
        let mut message = Message::default();
        loop {
            match (&self.token, end) {
                (Token::End, None) => return Ok(message),
                (Token::Mark(mark), Some(end)) if *mark == end => {
                    self.advance()?;
                    return Ok(message);
                }
                (Token::Word(_), _) => self.field(&mut message, depth)?,
                (Token::Mark('['), _) => return Err(self.at.fault("extensions are not supported")),
                (_, Some(end)) => return Err(self.missing(&format!("the name of a field or \"{end}\""))),
                (_, None) => return Err(self.missing("the name of a field")),
            }
        }
    }

    fn field(&mut self, message: &mut Message, depth: usize) -> Result<(), TextFault> {
        let at = self.at;
        let Token::Word(name) = self.advance()? else { return Err(at.fault("it is no name")) };
        let has_colon = self.take(':')?;
        let mut add = |value| message.fields.push(Field { name: name.clone(), value, at });
        if self.take('[')? {
            if !self.take(']')? {
                loop {
                    add(self.value(&name, has_colon, depth)?);
                    if self.take(']')? {
                        break;
                    }
                    if !self.take(',')? {
                        return Err(self.missing("\",\" or \"]\""));
                    }
                }
            }
        } else {
            add(self.value(&name, has_colon, depth)?);
        }
        // One of them may end a field.
        let _ended = self.take(';')? || self.take(',')?;
        Ok(())
    }

    fn value(&mut self, name: &str, has_colon: bool, depth: usize) -> Result<Value, TextFault> {
        let at = self.at;
        let end = match self.token {
            Token::Mark('{') => Some('}'),
            Token::Mark('<') => Some('>'),
            Token::Word(_) | Token::Number(_) | Token::Text(_) => None,
            _ => return Err(self.missing(&format!("the value of {name}"))),
        };
        if end.is_none() && !has_colon {
            return Err(self.missing(&format!("\":\" after {name}")));
        }
        if end.is_some() && depth == MAX_DEPTH {
            return Err(at.fault(format!("more than {MAX_DEPTH} messages are within each other")));
        }
        Ok(match self.advance()? {
            Token::Word(word) => Value::Word(word),
            Token::Number(number) => Value::Number(number),
            Token::Text(text) => Value::Text(text),
            Token::Mark(_) | Token::End => Value::Message(self.message(end, depth + 1)?),
        })
    }
}

#[cfg(test)]
mod tests;
