//! What a supervisor knows about a connection that has crashed: the facts of its report. No system
//! call here.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::history::EndedConnection;
use crate::lifecycle::crash::CrashNote;
use crate::lifecycle::outcome::{ExitReport, Outcome, signal_name};
use crate::net::privacy::Privacy;

/// Bytes of the arguments of a program that a report has, at most.
const MAX_WORDS: usize = 4096;

/// Whether a connection that ends so has crashed: by a signal that nobody meant for it, or a panic.
/// SIGPIPE is none: the client has gone, and the program has not heeded it. What the server ends
/// has another outcome.
pub(crate) fn is_crash(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Signal(number) => *number != rustix::process::Signal::PIPE.as_raw(),
        Outcome::Reported(ExitReport::Panic(_)) => true,
        _ => false,
    }
}

/// The facts of a report that do not depend on the connection.
#[derive(Clone, Debug)]
pub(crate) struct CrashContext {
    pub(crate) service: Option<String>,
    /// The words of the program, or the name of the type of the handler.
    pub(crate) runs: CrashedCode,
    pub(crate) privacy: Privacy,
}

/// What has crashed.
#[derive(Clone, Debug)]
pub(crate) enum CrashedCode {
    Program(Vec<String>),
    Handler(&'static str),
}

impl CrashContext {
    /// The facts about a connection that ended at a time.
    pub(crate) fn facts(
        &self,
        end: &EndedConnection,
        note: &CrashNote,
        at: SystemTime,
    ) -> Map<String, Value> {
        let mut facts = Map::new();
        let mut set = |key: &str, value: Value| _ = facts.insert(key.to_owned(), value);
        set("type", json!("crash"));
        set("time", json!(humantime::format_rfc3339_millis(at).to_string()));
        set("version", json!(env!("CARGO_PKG_VERSION")));
        set("service", json!(self.service));
        set("id", json!(end.id));
        set("peer", json!(self.privacy.show(end.peer).to_string()));
        if let Some(proxied) = &end.proxied {
            set("proxy", json!(self.privacy.show(proxied.proxy).to_string()));
        }
        set("pid", json!(end.pid));
        match &self.runs {
            CrashedCode::Program(words) => set("program", json!(shortened(words))),
            CrashedCode::Handler(name) => set("handler", json!(name)),
        }
        set("outcome", json!(end.outcome.to_string()));
        match &end.outcome {
            Outcome::Signal(number) => set("signal", json!(signal_name(*number))),
            Outcome::Reported(ExitReport::Panic(message)) => set("panic", json!(message)),
            _ => {}
        }
        if let Some(place) = &note.place {
            set("place", json!(place));
        }
        if let Some(fault) = note.fault {
            set("address", json!(fault.address.map(|address| format!("{address:#x}"))));
            set("instruction", json!(fault.instruction.map(|at| format!("+{at:#x}"))));
        }
        let milliseconds = |time: Duration| json!(time.as_micros() as f64 / 1000.0);
        set("duration_ms", milliseconds(end.usage.duration));
        set("cpu_ms", milliseconds(end.usage.cpu));
        set("peak_memory_bytes", json!(end.usage.peak_kib * 1024));
        set("bytes_in", json!(end.usage.bytes.map(|bytes| bytes.received)));
        set("bytes_out", json!(end.usage.bytes.map(|bytes| bytes.sent)));
        facts
    }
}

/// The first words, within a number of bytes.
fn shortened(words: &[String]) -> Vec<&str> {
    let mut left = MAX_WORDS;
    let fits = |word: &&str| {
        left = left.saturating_sub(word.len() + 1);
        left > 0
    };
    words.iter().map(String::as_str).take_while(fits).collect()
}

/// The cause by which reports are grouped: what ended the connection, and where.
pub(crate) fn cause(facts: &Map<String, Value>) -> String {
    let text = |key: &str| facts.get(key).and_then(Value::as_str);
    let what = match (text("panic"), text("signal")) {
        (None, Some(signal)) => format!("signal {signal}"),
        (Some(message), _) if text("place").is_none() => {
            format!("panic {}", message.lines().next().unwrap_or_default())
        }
        _ => "panic".to_owned(),
    };
    match (text("place"), text("instruction")) {
        (Some(place), _) => format!("{what} at {place}"),
        (None, Some(instruction)) => format!("{what} at {instruction}"),
        (None, None) => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::crash::FaultNote;
    use crate::log::{ByteCounts, Times, Usage};
    use crate::net::peer::Peer;

    fn end(outcome: Outcome) -> EndedConnection {
        let (duration, cpu) = (Duration::from_micros(2_500), Duration::from_millis(1));
        let bytes = Some(ByteCounts::of_process((3, 4)));
        let usage = Usage { duration, bytes, cpu, peak_kib: 2, times: Times::default(), start_kind: None };
        let peer = Peer::Tcp("192.0.2.1:80".parse().expect("an address"));
        EndedConnection { id: 7, peer, proxied: None, pid: 9, start: 0, outcome, usage }
    }

    fn panicked(message: &str) -> Outcome {
        Outcome::Reported(ExitReport::Panic(message.to_owned()))
    }

    #[test]
    fn what_a_crash_is() {
        for (outcome, crash) in [
            (Outcome::Signal(11), true),
            (Outcome::Signal(9), true),
            (Outcome::Signal(13), false),
            (panicked("x"), true),
            (Outcome::Exit(1), false),
            (Outcome::Reported(ExitReport::Error("x".into())), false),
            (Outcome::Ended(crate::lifecycle::outcome::EndReason::Killed), false),
        ] {
            assert_eq!(is_crash(&outcome), crash, "{outcome}");
        }
    }

    #[test]
    fn facts_and_their_causes() {
        let at = SystemTime::UNIX_EPOCH;
        let runs = CrashedCode::Program(vec!["/bin/x".to_owned(), "y".repeat(MAX_WORDS)]);
        let context = CrashContext { service: Some("git".to_owned()), runs, privacy: Privacy::Truncate };
        let fault = |address, instruction| CrashNote {
            fault: Some(FaultNote { signal: 11, address, instruction }),
            place: None,
        };
        let facts = context.facts(&end(Outcome::Signal(11)), &fault(Some(0), Some(0x1a2b)), at);
        assert_eq!(
            Value::Object(facts.clone()),
            json!({
                "type": "crash", "time": "1970-01-01T00:00:00.000Z", "version": env!("CARGO_PKG_VERSION"),
                "service": "git", "id": 7, "peer": "192.0.2.0/24", "pid": 9, "program": ["/bin/x"],
                "outcome": "signal SEGV", "signal": "SEGV", "address": "0x0", "instruction": "+0x1a2b",
                "duration_ms": 2.5, "cpu_ms": 1.0, "peak_memory_bytes": 2048, "bytes_in": 3, "bytes_out": 4,
            })
        );
        let place = CrashNote { fault: None, place: Some("src/a.rs:1:2".to_owned()) };
        for (outcome, note, expected) in [
            (Outcome::Signal(11), fault(Some(0), Some(0x1a2b)), "signal SEGV at +0x1a2b"),
            (Outcome::Signal(6), fault(None, None), "signal ABRT"),
            (Outcome::Signal(9), CrashNote::default(), "signal KILL"),
            (panicked("of 3"), place, "panic at src/a.rs:1:2"),
            (panicked("of 3\nlines"), CrashNote::default(), "panic of 3"),
        ] {
            assert_eq!(cause(&context.facts(&end(outcome), &note, at)), expected);
        }
    }
}
