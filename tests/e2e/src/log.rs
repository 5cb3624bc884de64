//! The log of a server under test, read from its standard error.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::names::total;
use crate::wait::{TEST_TIMEOUT, wait_until};

/// The lines that a server has written so far. A thread reads them; copies share them.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<LogLines>, Condvar)>);

#[derive(Default)]
struct LogLines {
    lines: Vec<String>,
    /// End of file: no process can write another line.
    closed: bool,
}

impl Log {
    /// Reads the log from a pipe.
    #[must_use]
    pub fn from_pipe(pipe: impl Read + Send + 'static) -> Log {
        let log = Log::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                writer.locked().lines.push(line);
                writer.0.1.notify_all();
            }
            writer.locked().closed = true;
            writer.0.1.notify_all();
        });
        log
    }

    fn locked(&self) -> MutexGuard<'_, LogLines> {
        self.0.0.lock().expect("no thread panics while it holds the lock")
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.locked().lines.clone()
    }

    /// Every event so far, of a log in JSON. Where programs share the standard error of the server,
    /// a part of a line of theirs can precede an event, which is written at once.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let event = |line: &String| serde_json::from_str(&line[line.find(r#"{"time":"#)?..]).ok();
        self.lines().iter().filter_map(event).collect()
    }

    /// The events of one kind so far, without the warning that another server has the name of this
    /// one: that can be a server of a test that runs at the same time.
    #[must_use]
    pub fn of(&self, event: &str) -> Vec<Value> {
        let is_foreign = |value: &Value| {
            value["text"].as_str().is_some_and(|text| text.starts_with("another server has the name"))
        };
        self.events().into_iter().filter(|value| value["event"] == event && !is_foreign(value)).collect()
    }

    /// The number of events of one kind so far, those in summary lines included.
    #[must_use]
    pub fn total_of(&self, event: &str) -> u64 {
        total(&self.of(event))
    }

    /// Waits until `found` yields a value. `what` names it in the failure message.
    ///
    /// # Panics
    /// If it yields none within [`TEST_TIMEOUT`], or before the end of the log.
    pub fn wait<T>(&self, what: &str, mut found: impl FnMut(&Log) -> Option<T>) -> T {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let lines = self.locked();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.closed {
                drop(lines);
                // The last lines may have come after the check above.
                if let Some(found) = found(self) {
                    return found;
                }
                panic!("no {what} in the log:\n{}", self.lines().join("\n"));
            }
            // Every line notifies; the short timeout covers a line that came before the lock.
            let _ = self.0.1.wait_timeout(lines, left.min(Duration::from_millis(50)));
        }
    }

    /// Waits until a line satisfies the predicate.
    ///
    /// # Panics
    /// As [`Log::wait`].
    pub fn wait_for_line(&self, what: &str, matches: impl Fn(&str) -> bool) {
        self.wait(what, |log| log.lines().iter().any(|line| matches(line)).then_some(()));
    }

    /// Waits for this number of events of one kind, and returns all of that kind.
    ///
    /// # Panics
    /// As [`Log::wait`].
    pub fn wait_for(&self, event: &str, number: usize) -> Vec<Value> {
        self.wait(&format!("{number} × {event}"), |log| {
            let events = log.of(event);
            (events.len() >= number).then_some(events)
        })
    }

    /// The port on which a service listens. Services log this in any order.
    ///
    /// # Panics
    /// As [`Log::wait`].
    #[must_use]
    pub fn port_of(&self, service: &str) -> u16 {
        self.wait(&format!("port of the service {service}"), |log| {
            let line = log.of("listen").into_iter().find(|line| line["service"] == service)?;
            line["address"].as_str()?.rsplit_once(':')?.1.parse().ok()
        })
    }

    /// Waits for the end of the log: every process that can write to it has ended.
    ///
    /// # Panics
    /// If a process still has the pipe open after [`TEST_TIMEOUT`].
    pub fn wait_until_closed(&self) {
        wait_until("the log ends", || self.locked().closed.then_some(()));
    }
}
