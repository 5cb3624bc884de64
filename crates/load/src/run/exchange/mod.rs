//! One exchange: the bytes still to be sent, and the check of the reply. No system call here; the
//! worker moves the bytes.

use crate::plan::expect::Expect;
use crate::plan::pattern::Pattern;
use crate::plan::script::{Message, Script};

/// The longest reply in which an expression is searched, in bytes.
const LONGEST_REPLY: usize = 1 << 20;

/// The progress of an exchange.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The number of the connection.
    connection: u64,
    /// Bytes that the connection sent in earlier exchanges.
    offset: u64,
    /// Bytes sent.
    pub(super) sent: u64,
    /// Bytes of the reply received.
    pub(super) received: u64,
    /// Bytes composed so far, sent or not.
    size: u64,
    /// The number of the first message on the connection.
    first: u64,
    /// Messages composed.
    messages: u64,
    /// Whether the last message is composed.
    is_last: bool,
    /// Messages of a template, from the first byte on that is not yet sent and echoed.
    composed: Vec<u8>,
    /// Offset of those in the exchange.
    composed_from: u64,
    /// The reply so far, if an expression is searched in it.
    reply: Vec<u8>,
    is_answered: bool,
}

/// The check of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyCheck {
    /// All are as expected.
    Correct,
    /// The byte at this position is the first that is not as expected.
    Wrong(usize),
    /// The reply is longer than expected.
    TooLong,
}

/// The meaning of an end of the stream for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The stream ended where it may.
    Complete,
    /// The stream ended before the first byte of the reply.
    Unanswered,
    /// The stream ended within the reply.
    Truncated,
}

impl Exchange {
    /// Begins an exchange of a connection, whose first message has number `n`.
    pub(super) fn begin(&mut self, script: &Script, connection: u64, n: u64) {
        let continues = n > 0 && self.connection == connection;
        self.offset = if continues { self.offset + self.sent } else { 0 };
        self.connection = connection;
        (self.sent, self.received, self.size) = (0, 0, 0);
        (self.first, self.messages, self.composed_from) = (n, 0, 0);
        self.composed.clear();
        self.reply.clear();
        self.compose(script);
    }

    /// Composes the next message.
    pub(super) fn compose(&mut self, script: &Script) {
        self.size += match &script.message {
            Message::Pattern(size) => *size,
            Message::Text(text) => text.len() as u64,
            Message::Template(template) | Message::Series { template, .. } => {
                self.drop_settled(script);
                let before = self.composed.len();
                template.write(self.connection, self.first + self.messages, &mut self.composed);
                (self.composed.len() - before) as u64
            }
        };
        self.messages += 1;
        self.is_last = match &script.message {
            Message::Series { count, .. } => count.is_some_and(|count| self.messages >= count),
            _ => true,
        };
        self.is_answered = match &script.expect {
            Expect::Nothing => true,
            Expect::Echo => self.received >= self.size,
            _ => false,
        };
    }

    /// Drops composed bytes that are neither to be sent nor to be compared any more.
    fn drop_settled(&mut self, script: &Script) {
        let settled = match &script.expect {
            Expect::Echo => self.sent.min(self.received),
            _ => self.sent,
        };
        self.composed.drain(..(settled - self.composed_from) as usize);
        self.composed_from = settled;
    }

    /// Whether the last message is composed.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Returns the number of composed bytes that are not sent.
    pub(super) fn left(&self) -> u64 {
        self.size - self.sent
    }

    /// Returns the number of composed bytes, sent or not.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the offset of the next byte of the reply in the stream of the connection.
    pub(super) fn reply_offset(&self) -> u64 {
        self.offset + self.received
    }

    /// Returns the next bytes to send, at most the length of `buffer`.
    pub(super) fn next_bytes<'a>(
        &'a self,
        script: &'a Script,
        pattern: Pattern,
        buffer: &'a mut [u8],
    ) -> &'a [u8] {
        let length = (buffer.len() as u64).min(self.left()) as usize;
        match &script.message {
            Message::Pattern(_) => {
                pattern.fill(self.connection, self.offset + self.sent, &mut buffer[..length]);
                &buffer[..length]
            }
            Message::Text(text) => &text[self.sent as usize..][..length],
            Message::Template(_) | Message::Series { .. } => {
                &self.composed[(self.sent - self.composed_from) as usize..][..length]
            }
        }
    }

    /// Whether all messages are sent and the reply is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.is_last && self.sent == self.size && self.is_answered
    }

    /// Checks received bytes. `scratch` is memory to compare with.
    pub(super) fn check(
        &mut self,
        script: &Script,
        pattern: Pattern,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
    ) -> ReplyCheck {
        let before = self.received;
        self.received += bytes.len() as u64;
        match &script.expect {
            Expect::Nothing | Expect::End | Expect::Endless => ReplyCheck::Correct,
            Expect::Bytes(number) => self.check_length(*number),
            Expect::Text(text) => self.check_text(text, before, bytes, text.len() as u64),
            Expect::Matches(expression) => {
                if self.reply.len() + bytes.len() > LONGEST_REPLY {
                    return ReplyCheck::TooLong;
                }
                self.reply.extend_from_slice(bytes);
                self.is_answered |= expression.is_match(&self.reply);
                ReplyCheck::Correct
            }
            Expect::Echo => match &script.message {
                Message::Pattern(size) => {
                    let wanted = (size - before.min(*size)).min(bytes.len() as u64) as usize;
                    let offset = self.offset + before;
                    match pattern.first_wrong(self.connection, offset, &bytes[..wanted], scratch) {
                        Some(at) => ReplyCheck::Wrong(at),
                        None => self.check_length(*size),
                    }
                }
                Message::Text(text) => self.check_text(text, before, bytes, text.len() as u64),
                Message::Template(_) | Message::Series { .. } => {
                    let composed = std::mem::take(&mut self.composed);
                    let from = before - self.composed_from;
                    let checked = self.check_text(&composed, from, bytes, self.size);
                    self.composed = composed;
                    checked
                }
            },
        }
    }

    /// Compares bytes with a text from an offset on; the whole reply is `length` bytes long.
    fn check_text(&mut self, text: &[u8], from: u64, bytes: &[u8], length: u64) -> ReplyCheck {
        let rest = &text[(from as usize).min(text.len())..];
        match rest.iter().zip(bytes).position(|(right, received)| right != received) {
            Some(at) => ReplyCheck::Wrong(at),
            None => self.check_length(length),
        }
    }

    fn check_length(&mut self, length: u64) -> ReplyCheck {
        self.is_answered = self.received >= length;
        if self.received > length { ReplyCheck::TooLong } else { ReplyCheck::Correct }
    }

    /// Returns the meaning of an end of the stream at this point.
    pub(super) fn end(&mut self, script: &Script) -> StreamEnd {
        let may_end = match (&script.expect, &script.message) {
            (Expect::End | Expect::Endless, _) => self.sent == self.size,
            // A series without end is over when the server closes, if no echo is missing.
            (_, Message::Series { count: None, .. }) => self.is_answered,
            _ => false,
        };
        match (may_end, self.received) {
            (true, _) => StreamEnd::Complete,
            (false, 0) => StreamEnd::Unanswered,
            (false, _) => StreamEnd::Truncated,
        }
    }
}

#[cfg(test)]
mod tests;
