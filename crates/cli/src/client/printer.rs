//! The output of workers: replies on standard output, errors on standard error.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use rustix::io::Errno;
use tine_load::findings::state::State;
use tine_load::plan::target_of;
use tine_load::run::purpose::{End, Observer};

use super::hint::cannot_connect;
use crate::resolve::Target;

/// How replies are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Not at all.
    None,
    /// Unchanged.
    Bytes,
    /// As lines, each with the number of its connection before it.
    Numbered,
}

/// Prints the events of a worker's connections.
pub(super) struct Printer<'a> {
    targets: &'a [Target],
    output: Output,
    /// Whether connections go on until the server closes them.
    is_endless: bool,
    wait: Duration,
    /// Errors of connecting that this process has printed: more of the same kind are only counted.
    printed: RefCell<BTreeSet<State>>,
}

impl Printer<'_> {
    pub(super) fn new(targets: &[Target], output: Output, is_endless: bool, wait: Duration) -> Printer<'_> {
        Printer { targets, output, is_endless, wait, printed: RefCell::default() }
    }

    /// Returns the line about an end, if there is one to print. `number` counts from 1.
    fn line(&self, number: u64, target: &Target, end: End) -> Option<String> {
        let is_first = || self.printed.borrow_mut().insert(end.state);
        match (end.state, end.error) {
            (State::Ok, _) if !self.is_endless => None,
            (State::Ok | State::Closed | State::Short, _) => {
                Some(format!("the server closed connection {number}"))
            }
            (state, _) if state.is_wrong() => {
                Some(format!("connection {number}: a reply differs from what was sent"))
            }
            (_, error) if !end.was_open => {
                let error = error.unwrap_or(Errno::TIMEDOUT);
                is_first().then(|| cannot_connect(&target.name, error).to_string())
            }
            (_, Some(error)) => {
                Some(format!("connection {number} broke: {}", tine_sys::reason(&error.into())))
            }
            (_, None) => {
                let wait = humantime::format_duration(self.wait);
                Some(format!("connection {number} timed out after {wait} (--wait)"))
            }
        }
    }
}

impl Observer for Printer<'_> {
    fn received(&self, connection: u64, bytes: &[u8]) {
        let text = match self.output {
            Output::None => return,
            Output::Bytes => bytes.to_vec(),
            Output::Numbered => {
                let mut text = format!("{}: ", connection + 1).into_bytes();
                text.extend_from_slice(bytes);
                if !text.ends_with(b"\n") {
                    text.push(b'\n');
                }
                text
            }
        };
        // If the reader has closed a pipe, SIGPIPE ends this process. Other errors are ignored, and
        // the exchange continues.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }

    fn ended(&self, connection: u64, end: End) {
        let target = &self.targets[target_of(connection as usize, self.targets.len())];
        if let Some(line) = self.line(connection + 1, target, end) {
            // In one call, so that the lines of several processes do not mix.
            let _ = std::io::stderr().write_all(format!("tine: {line}\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_line() {
        let targets = [Target { name: "host:1".into(), endpoints: Vec::new() }];
        let printer = |is_endless| Printer::new(&targets, Output::None, is_endless, Duration::from_secs(5));
        let (made, failed) = (true, false);
        for (is_endless, state, error, was_open, line) in [
            (false, State::Ok, None, made, None),
            (true, State::Ok, None, made, Some("the server closed connection 7")),
            (false, State::Closed, None, made, Some("the server closed connection 7")),
            (true, State::Short, None, made, Some("the server closed connection 7")),
            (false, State::Mismatch, None, made, Some("connection 7: a reply differs from what was sent")),
            (false, State::Long, None, made, Some("connection 7: a reply differs from what was sent")),
            (false, State::Timeout, None, made, Some("connection 7 timed out after 5s (--wait)")),
            (
                false,
                State::Reset,
                Some(Errno::CONNRESET),
                made,
                Some("connection 7 broke: connection reset by peer"),
            ),
            (
                false,
                State::Refused,
                Some(Errno::CONNREFUSED),
                failed,
                Some("cannot connect to host:1: connection refused; start a server there, or check the port"),
            ),
            (
                false,
                State::ConnectTimeout,
                None,
                failed,
                Some(
                    "cannot connect to host:1: connection timed out; check the address, the route to it \
                     and its firewall",
                ),
            ),
        ] {
            let found = printer(is_endless).line(7, &targets[0], End { state, error, was_open });
            assert_eq!(found.as_deref(), line, "{state} {is_endless}");
        }
    }

    #[test]
    fn errors_of_connecting_are_printed_once_for_each_kind() {
        let targets = [Target { name: "host:1".into(), endpoints: Vec::new() }];
        let printer = Printer::new(&targets, Output::None, false, Duration::ZERO);
        let printed = [State::Refused, State::Refused, State::Unreachable, State::Refused].map(|state| {
            let end = End { state, error: Some(Errno::CONNREFUSED), was_open: false };
            printer.line(1, &targets[0], end).is_some()
        });
        assert_eq!(printed, [true, false, true, false]);
    }
}
