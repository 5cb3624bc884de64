//! One exchange: what is still to be sent, and whether what comes is what was to come. No system call here:
//! the worker moves the bytes.

use crate::plan::expect::Expect;
use crate::plan::pattern::Pattern;
use crate::plan::script::{Message, Script};

/// The longest reply in which an expression is looked for, in bytes.
const LONGEST_REPLY: usize = 1 << 20;

/// How far an exchange is.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The number of its connection.
    pub connection: u64,
    /// Bytes that its connection sent in exchanges before.
    pub offset: u64,
    /// Bytes of the message that are sent.
    pub sent: u64,
    /// Bytes of the reply that have come.
    pub got: u64,
    size: u64,
    /// A template's message, with its numbers.
    composed: Vec<u8>,
    /// The reply so far, where an expression is looked for in it.
    reply: Vec<u8>,
    is_answered: bool,
}

/// What was made of bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCheck {
    /// They are as they should be, so far.
    Correct,
    /// From this one of them on they are not.
    Wrong(usize),
    /// There are more than there should be.
    TooLong,
}

/// What the end of a stream means for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// It was to end here.
    Complete,
    /// Before any byte of the reply.
    Unanswered,
    /// In the middle of the reply.
    Truncated,
}

impl Exchange {
    /// Begins exchange number `n` of a connection.
    pub fn begin(&mut self, script: &Script, connection: u64, n: u64) {
        let again = n > 0 && self.connection == connection;
        self.offset = if again { self.offset + self.sent } else { 0 };
        self.connection = connection;
        (self.sent, self.got, self.is_answered) = (0, 0, false);
        self.reply.clear();
        self.size = match &script.message {
            Message::Pattern(size) => *size,
            Message::Text(text) => text.len() as u64,
            Message::Template(template) => {
                self.composed.clear();
                template.write(connection, n, &mut self.composed);
                self.composed.len() as u64
            }
        };
        self.is_answered = matches!(script.expect, Expect::Nothing)
            || matches!(script.expect, Expect::Echo) && self.size == 0;
    }

    /// Bytes of the message that are still to be sent.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.size - self.sent
    }

    /// Bytes of the message in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes to send, at most as many as there is room for.
    pub fn next_bytes<'a>(&'a self, script: &'a Script, pattern: Pattern, room: &'a mut [u8]) -> &'a [u8] {
        let length = (room.len() as u64).min(self.left()) as usize;
        let from = self.sent as usize;
        match &script.message {
            Message::Pattern(_) => {
                pattern.fill(self.connection, self.offset + self.sent, &mut room[..length]);
                &room[..length]
            }
            Message::Text(text) => &text[from..from + length],
            Message::Template(_) => &self.composed[from..from + length],
        }
    }

    /// Whether all is said and answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent == self.size && self.is_answered
    }

    /// Takes bytes that came. `room` is memory to compare with.
    pub fn hear(
        &mut self,
        script: &Script,
        pattern: Pattern,
        bytes: &[u8],
        room: &mut Vec<u8>,
    ) -> ReplyCheck {
        let before = self.got;
        self.got += bytes.len() as u64;
        match &script.expect {
            Expect::Nothing | Expect::End | Expect::Endless => ReplyCheck::Correct,
            Expect::Bytes(number) => self.counted(*number),
            Expect::Text(text) => self.compared(before, bytes, text),
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
                    match pattern.first_wrong(self.connection, offset, &bytes[..wanted], room) {
                        Some(at) => ReplyCheck::Wrong(at),
                        None => self.counted(*size),
                    }
                }
                Message::Text(text) => self.compared(before, bytes, text),
                Message::Template(_) => {
                    let composed = std::mem::take(&mut self.composed);
                    let heard = self.compared(before, bytes, &composed);
                    self.composed = composed;
                    heard
                }
            },
        }
    }

    fn compared(&mut self, before: u64, bytes: &[u8], text: &[u8]) -> ReplyCheck {
        let rest = &text[(before as usize).min(text.len())..];
        match rest.iter().zip(bytes).position(|(right, got)| right != got) {
            Some(at) => ReplyCheck::Wrong(at),
            None => self.counted(text.len() as u64),
        }
    }

    fn counted(&mut self, wanted: u64) -> ReplyCheck {
        self.is_answered = self.got >= wanted;
        if self.got > wanted { ReplyCheck::TooLong } else { ReplyCheck::Correct }
    }

    /// What the end of the stream means.
    pub fn end(&mut self, script: &Script) -> StreamEnd {
        match (&script.expect, self.got) {
            (Expect::End | Expect::Endless, _) if self.sent == self.size => {
                self.is_answered = true;
                StreamEnd::Complete
            }
            (_, 0) => StreamEnd::Unanswered,
            _ => StreamEnd::Truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Close;
    use crate::plan::text::Template;

    fn script(message: Message, expect: &str) -> Script {
        Script {
            message,
            expect: expect.parse().expect(expect),
            exchanges: None,
            think: 0,
            pace: None,
            stays: false,
            counts_server_close: false,
            half_closes: false,
            checks_end: false,
            is_cut: false,
            close: Close::FinClient,
            from_connect: false,
            is_progress_timed: false,
        }
    }

    fn text(text: &str) -> Message {
        Message::Text(text.as_bytes().to_vec())
    }

    fn send_all(exchange: &mut Exchange, script: &Script, room: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while exchange.left() > 0 {
            let mut room = vec![0; room];
            let bytes = exchange.next_bytes(script, Pattern::new(1), &mut room).to_vec();
            exchange.sent += bytes.len() as u64;
            sent.extend(bytes);
        }
        sent
    }

    #[test]
    fn what_is_sent_goes_on_where_it_was() {
        let pattern = Pattern::new(1);
        for room in [1, 3, 64] {
            let script = script(Message::Pattern(20), "echo");
            let mut exchange = Exchange::default();
            let mut sent = Vec::new();
            for n in 0..3 {
                exchange.begin(&script, 7, n);
                let part = send_all(&mut exchange, &script, room);
                assert_eq!(exchange.hear(&script, pattern, &part, &mut Vec::new()), ReplyCheck::Correct);
                assert!(exchange.is_complete());
                sent.extend(part);
            }
            let mut whole = vec![0; 60];
            pattern.fill(7, 0, &mut whole);
            assert_eq!(sent, whole);
        }
        let script = script(Message::Template(Template::parse("{c}.{n};").expect("a template")), "echo");
        let mut exchange = Exchange::default();
        exchange.begin(&script, 7, 12);
        assert_eq!(send_all(&mut exchange, &script, 2), b"7.12;");
        assert_eq!(exchange.hear(&script, pattern, b"7.1", &mut Vec::new()), ReplyCheck::Correct);
        assert_eq!(exchange.hear(&script, pattern, b"3;", &mut Vec::new()), ReplyCheck::Wrong(0));
    }

    #[test]
    fn replies() {
        use ReplyCheck::{Correct, TooLong, Wrong};
        for (message, expect, replies, heard, complete) in [
            ("ping", "echo", &["ping"][..], Correct, true),
            ("ping", "echo", &["p", "in"], Correct, false),
            ("ping", "echo", &["pi", "ng"], Correct, true),
            ("ping", "echo", &["po"], Wrong(1), false),
            ("ping", "echo", &["ping", "p"], TooLong, true),
            ("ping", "PONG", &["PO", "NG"], Correct, true),
            ("ping", "PONG", &["PO", "PG"], Wrong(0), false),
            ("ping", "bytes:3", &["ab", "c"], Correct, true),
            ("ping", "bytes:3", &["abcd"], TooLong, true),
            ("ping", "re:b+c", &["ab", "b"], Correct, false),
            ("ping", "re:b+c", &["ab", "bcd"], Correct, true),
            ("ping", "none", &[], Correct, true),
            ("ping", "none", &["what?"], Correct, true),
            ("ping", "end", &["any", "thing"], Correct, false),
        ] {
            let script = script(text(message), expect);
            let mut exchange = Exchange::default();
            exchange.begin(&script, 0, 0);
            send_all(&mut exchange, &script, 64);
            let last = replies.iter().fold(Correct, |_, reply| {
                exchange.hear(&script, Pattern::new(1), reply.as_bytes(), &mut Vec::new())
            });
            assert_eq!((last, exchange.is_complete()), (heard, complete), "{expect} {replies:?}");
        }
    }

    #[test]
    fn an_answer_before_the_question_is_over_does_not_end_it() {
        let script = script(text("ping"), "bytes:2");
        let mut exchange = Exchange::default();
        exchange.begin(&script, 0, 0);
        exchange.sent = 1;
        assert_eq!(exchange.hear(&script, Pattern::new(1), b"ok", &mut Vec::new()), ReplyCheck::Correct);
        assert!(!exchange.is_complete());
        exchange.sent = 4;
        assert!(exchange.is_complete());
    }

    #[test]
    fn ends() {
        for (expect, reply, end) in [
            ("end", "", StreamEnd::Complete),
            ("end", "text", StreamEnd::Complete),
            ("echo", "", StreamEnd::Unanswered),
            ("echo", "pi", StreamEnd::Truncated),
            ("re:x", "pi", StreamEnd::Truncated),
        ] {
            let script = script(text("ping"), expect);
            let mut exchange = Exchange::default();
            exchange.begin(&script, 0, 0);
            send_all(&mut exchange, &script, 64);
            exchange.hear(&script, Pattern::new(1), reply.as_bytes(), &mut Vec::new());
            assert_eq!(exchange.end(&script), end, "{expect} {reply}");
        }
    }
}
