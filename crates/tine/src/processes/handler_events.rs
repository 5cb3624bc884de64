//! Events of the crate `tracing` in a handler, as lines of the log. Runs in connection processes
//! only: nothing of it is in a forker. Spans are ignored.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, Metadata, Subscriber};

use crate::log::Log;
use crate::log::handler_lines::HandlerEvent;
use crate::log::limit::{Emit, LineLimit};

/// Lines of a connection in a second. What is beyond is counted.
const LINES: u64 = 20;

/// Bytes of the text of an event, and of its fields: a line of twice as much, each byte escaped, is
/// written in one piece (`PIPE_BUF`, pipe(7)).
const MOST: usize = 256;

/// Bytes of a target.
const MOST_OF_TARGET: usize = 64;

/// The connection that this process serves.
static SERVED: Mutex<Option<ServedConnection>> = Mutex::new(None);

struct ServedConnection {
    id: u64,
    log: Log,
    limit: LineLimit,
    /// Standard error is read by the stderr logger, which knows the connection.
    is_captured: bool,
}

fn served() -> MutexGuard<'static, Option<ServedConnection>> {
    SERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has events logged as those of a connection, unless the program has a subscriber of its own.
pub(super) fn begin(log: Log, id: u64, is_captured: bool) {
    let is_captured = is_captured && !log.is_channel();
    *served() = Some(ServedConnection { id, log, limit: LineLimit::of(LINES), is_captured });
    // In a worker it is there already.
    let _ = tracing_core::dispatcher::set_global_default(Dispatch::new(HandlerEvents));
}

/// The connection has ended: logs how many events were not.
pub(super) fn end() {
    if let Some(mut served) = served().take() {
        let rest = served.limit.rest();
        served.tell_suppressed(rest);
    }
}

impl ServedConnection {
    fn tell_suppressed(&mut self, suppressed: Option<u64>) {
        if let Some(suppressed) = suppressed {
            self.log.handler_events_suppressed(self.id, suppressed);
        }
    }

    fn log(&mut self, event: &HandlerEvent) {
        let now = Instant::now();
        let due = self.limit.due(now);
        self.tell_suppressed(due);
        if self.limit.event(now) == Emit::Summary {
            return;
        }
        if self.is_captured {
            let HandlerEvent { level, target, text, fields } = event;
            let line = format!("{level} {target}: {text} {fields}").replace('\n', " ") + "\n";
            // A pipe that is full: the logger is behind.
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        } else {
            self.log.handler_event(self.id, event);
        }
    }
}

/// The subscriber. It has no state: a process serves one connection at a time.
struct HandlerEvents;

impl Subscriber for HandlerEvents {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && served()
                .as_ref()
                .is_some_and(|served| served.log.logs_handler_events(metadata.level().as_str()))
    }

    fn event(&self, event: &Event<'_>) {
        // Without the lock: a field's own formatting may emit an event.
        let mut parts = Parts { text: Bounded::of(MOST), fields: Bounded::of(MOST) };
        event.record(&mut parts);
        let mut target = Bounded::of(MOST_OF_TARGET);
        let _ = target.write_str(event.metadata().target());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let (text, fields) = (&parts.text.text, &parts.fields.text);
        let event = HandlerEvent { level: &level, target: &target.text, text, fields };
        if let Some(served) = &mut *served() {
            served.log(&event);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // None is enabled.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event, and its other fields as `key=value`.
struct Parts {
    text: Bounded,
    fields: Bounded,
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // An error says that there is no more room.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => {
                let space = if self.fields.text.is_empty() { "" } else { " " };
                write!(self.fields, "{space}{name}={value:?}")
            }
        };
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{:?}", crate::error::chain(value)));
    }
}

/// A text of so many bytes at most, which ends with `…` if it was cut.
struct Bounded {
    text: String,
    most: usize,
}

impl Bounded {
    fn of(most: usize) -> Bounded {
        Bounded { text: String::new(), most }
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        const CUT: &str = "…";
        if self.text.len() + part.len() <= self.most {
            self.text.push_str(part);
            return Ok(());
        }
        if !self.text.ends_with(CUT) {
            let room = self.most.saturating_sub(self.text.len() + CUT.len());
            let end = (0..=room.min(part.len())).rev().find(|end| part.is_char_boundary(*end));
            self.text.push_str(&part[..end.unwrap_or(0)]);
            self.text.push_str(CUT);
        }
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        for (parts, most, text) in [
            (&["abc", "def"][..], 6, "abcdef"),
            (&["abc", "defg"], 6, "abc…"),
            (&["abcdefgh"], 6, "abc…"),
            (&["éééé"], 6, "é…"),
            (&["abcdefgh", "more"], 6, "abc…"),
        ] {
            let mut bounded = Bounded::of(most);
            parts.iter().for_each(|part| _ = bounded.write_str(part));
            assert_eq!(bounded.text, text, "{parts:?}");
        }
    }
}
