//! One connection of a worker: what it sends, what it expects, and when it is over. No system call
//! here: the worker moves the bytes.

use std::time::{Duration, Instant};

use tine_load::plan::text::Template;

use super::tally::Count;

/// What all connections of a run have in common.
#[derive(Clone, Debug)]
pub struct Script {
    pub template: Template,
    pub every: Duration,
    pub count: Option<u64>,
    pub expect_echo: bool,
    /// How long the rest is waited for after the last message.
    pub wait: Duration,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All was said and answered.
    Done,
    /// The server closed before that.
    ClosedEarly,
    /// The server closed, and no number of messages had been asked for.
    Closed,
    /// A reply differs from what was sent.
    Wrong,
    /// The rest did not come in time. Without an echo to wait for that is no error.
    Silent,
}

impl End {
    /// The error that this is, if it is one.
    pub fn error(self) -> Option<Count> {
        match self {
            End::Done | End::Closed | End::Silent => None,
            End::ClosedEarly => Some(Count::ClosedEarly),
            End::Wrong => Some(Count::Wrong),
        }
    }
}

/// The state of a connection.
#[derive(Debug)]
pub struct Exchange {
    /// Its number, from 0.
    connection: u64,
    next_message: Instant,
    messages: u64,
    /// To be sent.
    pub outgoing: Vec<u8>,
    /// Sent, or to be sent, and not yet come back.
    expected: Vec<u8>,
    half_closed: bool,
    give_up: Option<Instant>,
}

impl Exchange {
    /// A connection that has just been made.
    pub fn new(connection: usize, now: Instant) -> Exchange {
        Exchange {
            connection: connection as u64,
            next_message: now,
            messages: 0,
            outgoing: Vec::new(),
            expected: Vec::new(),
            half_closed: false,
            give_up: None,
        }
    }

    fn all_said(&self, script: &Script) -> bool {
        script.count.is_some_and(|count| self.messages >= count)
    }

    /// Writes the next message, if it is due. Returns how many were.
    pub fn compose(&mut self, script: &Script, now: Instant) -> u64 {
        // A message that the server does not take delays the next one, instead of piling up.
        if self.all_said(script) || !self.outgoing.is_empty() || now < self.next_message {
            return 0;
        }
        script.template.write(self.connection, self.messages, &mut self.outgoing);
        if script.expect_echo {
            self.expected.extend_from_slice(&self.outgoing);
        }
        self.messages += 1;
        self.next_message += script.every;
        1
    }

    /// Whether the sending side is to be closed now: all is said, and the echo complete.
    pub fn wants_half_close(&self, script: &Script) -> bool {
        !self.half_closed && self.all_said(script) && self.outgoing.is_empty() && self.expected.is_empty()
    }

    /// Notes that the sending side is closed.
    pub fn half_closed(&mut self) {
        self.half_closed = true;
    }

    /// Takes what has come. An end, if that decides it.
    pub fn receive(&mut self, bytes: &[u8], script: &Script, now: Instant) -> Option<End> {
        self.give_up = self.give_up.map(|_| now + script.wait);
        if !script.expect_echo {
            return None;
        }
        if !self.expected.starts_with(bytes) {
            return Some(End::Wrong);
        }
        self.expected.drain(..bytes.len());
        None
    }

    /// The server has closed its side.
    pub fn closed(&self, script: &Script) -> End {
        match (self.all_said(script) && self.outgoing.is_empty() && self.expected.is_empty(), script.count) {
            (true, _) => End::Done,
            (false, None) if self.expected.is_empty() => End::Closed,
            (false, _) => End::ClosedEarly,
        }
    }

    /// When something is to be done without the server's doing.
    pub fn deadline(&mut self, script: &Script, now: Instant) -> Option<Instant> {
        if !self.all_said(script) {
            return self.outgoing.is_empty().then_some(self.next_message);
        }
        Some(*self.give_up.get_or_insert(now + script.wait))
    }

    /// Ends the connection if the rest has not come in time.
    pub fn give_up(&self, script: &Script, now: Instant) -> Option<End> {
        self.give_up.filter(|deadline| *deadline <= now)?;
        let missing = script.expect_echo && !self.expected.is_empty();
        Some(if missing { End::ClosedEarly } else { End::Silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(count: Option<u64>, expect_echo: bool) -> Script {
        Script {
            template: Template::parse("m{n};").expect("a template"),
            every: Duration::from_secs(1),
            count,
            expect_echo,
            wait: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_whole_exchange() {
        let (start, script) = (Instant::now(), script(Some(2), true));
        let mut exchange = Exchange::new(0, start);
        assert_eq!(exchange.compose(&script, start), 1);
        assert_eq!(exchange.outgoing, b"m0;");
        exchange.outgoing.clear();
        assert_eq!(exchange.compose(&script, start), 0, "not due");
        assert_eq!(exchange.receive(b"m0", &script, start), None);
        assert_eq!(exchange.receive(b";", &script, start), None);
        let second = exchange.deadline(&script, start).expect("a next message");
        assert_eq!(second, start + script.every);
        assert_eq!(exchange.compose(&script, second), 1);
        assert_eq!(exchange.compose(&script, second), 0, "all said");
        exchange.outgoing.clear();
        assert!(!exchange.wants_half_close(&script), "the echo is missing");
        assert_eq!(exchange.closed(&script), End::ClosedEarly);
        assert_eq!(exchange.receive(b"m1;", &script, second), None);
        assert!(exchange.wants_half_close(&script));
        exchange.half_closed();
        assert!(!exchange.wants_half_close(&script));
        assert_eq!(exchange.closed(&script), End::Done);
    }

    #[test]
    fn wrong_bytes_are_seen() {
        let (start, script) = (Instant::now(), script(None, true));
        for reply in [&b"M"[..], b"m0;x", b"m1"] {
            let mut exchange = Exchange::new(0, start);
            exchange.compose(&script, start);
            assert_eq!(exchange.receive(reply, &script, start), Some(End::Wrong));
        }
    }

    #[test]
    fn a_server_that_does_not_answer() {
        let start = Instant::now();
        for (echo, end) in [(true, End::ClosedEarly), (false, End::Silent)] {
            let script = script(Some(1), echo);
            let mut exchange = Exchange::new(0, start);
            exchange.compose(&script, start);
            exchange.outgoing.clear();
            let deadline = exchange.deadline(&script, start).expect("patience ends");
            assert_eq!(exchange.give_up(&script, start), None);
            assert_eq!(exchange.give_up(&script, deadline), Some(end));
        }
    }

    #[test]
    fn a_server_that_closes_an_endless_exchange() {
        let (start, script) = (Instant::now(), script(None, false));
        let mut exchange = Exchange::new(0, start);
        exchange.compose(&script, start);
        exchange.outgoing.clear();
        assert_eq!(exchange.closed(&script), End::Closed);
    }
}
