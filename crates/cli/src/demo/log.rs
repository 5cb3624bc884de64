//! The log of the server, as it comes: one object of JSON in each line.

use std::io::Read;
use std::process::ChildStderr;

use serde_json::Value;
use tine::cli::next_move;

use super::wait::{Stop, Waiter, missing};
use crate::error::Error;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event(Value);

impl Event {
    /// Whether it is an event of this kind.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.0["event"] == kind
    }

    /// The value of a key that is a number.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.0[key].as_u64()
    }

    /// The value of a key that is text; empty if there is none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// The event with these keys, as the log in text has them (`--log text`).
    pub(super) fn shown(&self, keys: &[&str]) -> String {
        let value = |key: &&str| match &self.0[*key] {
            Value::Null => None,
            Value::String(text) if text.contains(' ') => Some(format!(" {key}={text:?}")),
            Value::String(text) => Some(format!(" {key}={text}")),
            other => Some(format!(" {key}={other}")),
        };
        format!("{}{}", self.text("event"), keys.iter().filter_map(value).collect::<String>())
    }
}

/// The log of a server that runs.
#[derive(Debug)]
pub(super) struct Log {
    pipe: ChildStderr,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    events: Vec<Event>,
    /// The last line that is no event: why the server does not start.
    other: Option<String>,
}

impl Log {
    /// The log that comes through this pipe.
    pub(super) fn new(pipe: ChildStderr) -> Log {
        Log { pipe, partial: Vec::new(), events: Vec::new(), other: None }
    }

    /// Waits for an event, and returns it.
    ///
    /// # Errors
    /// Ctrl-C, or there is no such event.
    pub(super) fn find(
        &mut self,
        waiter: &Waiter,
        what: &str,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event, Stop> {
        loop {
            if let Some(event) = self.events.iter().find(|event| is_wanted(event)) {
                return Ok(event.clone());
            }
            if !self.read_more(waiter, what)? {
                return Err(missing(what));
            }
        }
    }

    /// Reads up to the end of the log: then no process has it open.
    ///
    /// # Errors
    /// Ctrl-C, or it does not end.
    pub(super) fn read_to_end(&mut self, waiter: &Waiter) -> Result<(), Stop> {
        while self.read_more(waiter, "the end of the log of the server")? {}
        Ok(())
    }

    /// Why the server has ended before it was ready.
    pub(super) fn error(&self) -> Option<&str> {
        let event = || self.events.iter().rev().find(|event| event.is("error"));
        self.other.as_deref().or_else(|| event().map(|event| event.text("text")))
    }

    /// Waits for more of the log. False at its end.
    fn read_more(&mut self, waiter: &Waiter, what: &str) -> Result<bool, Stop> {
        waiter.readable(&self.pipe, what)?;
        let mut part = [0; 16 * 1024];
        let read = self.pipe.read(&mut part).map_err(|why| {
            Error::system("cannot read the log of the server", &why, next_move::of_call(&why))
        })?;
        self.receive(&part[..read]);
        Ok(read > 0)
    }

    fn receive(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                match serde_json::from_slice(&self.partial) {
                    Ok(event) => self.events.push(Event(event)),
                    Err(_) => {
                        let line = String::from_utf8_lossy(&self.partial);
                        let line = line.trim();
                        self.other = Some(line.strip_prefix("tine: ").unwrap_or(line).to_owned());
                    }
                }
                self.partial.clear();
            }
        }
    }
}

/// The event in a line, for tests of screens.
#[cfg(test)]
pub(super) fn event(line: &str) -> Event {
    Event(serde_json::from_str(line).expect("JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_as_the_log_in_text_has_it() {
        let event =
            event(r#"{"time":"2026","event":"end","id":7,"outcome":"signal KILL","peer":"1.2.3.4:5"}"#);
        assert_eq!(
            event.shown(&["id", "peer", "no", "outcome"]),
            "end id=7 peer=1.2.3.4:5 outcome=\"signal KILL\""
        );
        assert!(event.is("end") && !event.is("accept"));
        assert_eq!((event.number("id"), event.number("peer"), event.text("id")), (Some(7), None, ""));
    }
}
