//! What a supervisor counts of connections that have ended, for monitoring. No system call here.
//!
//! Nothing has as many entries as clients can make up: kinds and signals are few.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::histogram::{BYTES, Exemplar, Histogram, SECONDS};
use crate::lifecycle::outcome::{EndReason, ExitReport, Outcome, ReachedLimit, signal_name};
use crate::log::Usage;

/// How connections end, as metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndKind {
    Success,
    /// Another exit code than 0.
    Exit,
    Signal,
    Error,
    Panic,
    Reset,
    ClientGone,
    TimeoutIdle,
    TimeoutLifetime,
    TimeoutFirstByte,
    TimeoutKeepAlive,
    Killed,
    MemoryLimit,
    ProcessLimit,
    OutputLimit,
    Seccomp,
    /// It has left no record.
    Unrecorded,
}

impl EndKind {
    const ALL: [EndKind; 17] = [
        EndKind::Success,
        EndKind::Exit,
        EndKind::Signal,
        EndKind::Error,
        EndKind::Panic,
        EndKind::Reset,
        EndKind::ClientGone,
        EndKind::TimeoutIdle,
        EndKind::TimeoutLifetime,
        EndKind::TimeoutFirstByte,
        EndKind::TimeoutKeepAlive,
        EndKind::Killed,
        EndKind::MemoryLimit,
        EndKind::ProcessLimit,
        EndKind::OutputLimit,
        EndKind::Seccomp,
        EndKind::Unrecorded,
    ];

    /// The value of the label `kind`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            EndKind::Success => "success",
            EndKind::Exit => "exit",
            EndKind::Signal => "signal",
            EndKind::Error => "error",
            EndKind::Panic => "panic",
            EndKind::Reset => "reset",
            EndKind::ClientGone => "client_gone",
            EndKind::TimeoutIdle => "timeout_idle",
            EndKind::TimeoutLifetime => "timeout_lifetime",
            EndKind::TimeoutFirstByte => "timeout_first_byte",
            EndKind::TimeoutKeepAlive => "timeout_keep_alive",
            EndKind::Killed => "killed",
            EndKind::MemoryLimit => "memory_limit",
            EndKind::ProcessLimit => "process_limit",
            EndKind::OutputLimit => "output_limit",
            EndKind::Seccomp => "seccomp",
            EndKind::Unrecorded => "unrecorded",
        }
    }

    /// The kind of an outcome.
    pub(crate) fn of(outcome: &Outcome) -> EndKind {
        match outcome {
            Outcome::Exit(0) | Outcome::Reported(ExitReport::Done) => EndKind::Success,
            Outcome::Exit(_) => EndKind::Exit,
            Outcome::Signal(_) => EndKind::Signal,
            Outcome::Reported(ExitReport::Reset) => EndKind::Reset,
            Outcome::Reported(ExitReport::Timeout(_)) => EndKind::TimeoutKeepAlive,
            Outcome::Reported(ExitReport::Error(_)) => EndKind::Error,
            Outcome::Reported(ExitReport::Panic(_)) => EndKind::Panic,
            Outcome::Ended(EndReason::ClientGone) => EndKind::ClientGone,
            Outcome::Ended(EndReason::Idle) => EndKind::TimeoutIdle,
            Outcome::Ended(EndReason::Lifetime) => EndKind::TimeoutLifetime,
            Outcome::Ended(EndReason::FirstByte) => EndKind::TimeoutFirstByte,
            Outcome::Ended(EndReason::KeepAlive) => EndKind::TimeoutKeepAlive,
            Outcome::Ended(EndReason::Output) => EndKind::OutputLimit,
            Outcome::Ended(EndReason::Killed) => EndKind::Killed,
            Outcome::Limit(ReachedLimit::Memory, _) => EndKind::MemoryLimit,
            Outcome::Limit(ReachedLimit::Tasks, _) => EndKind::ProcessLimit,
            Outcome::Limit(ReachedLimit::SystemCall(_), _) => EndKind::Seccomp,
            Outcome::Told { text, .. } => EndKind::of_text(text),
        }
    }

    /// The kind of an outcome in words, as an older generation tells it.
    fn of_text(text: &str) -> EndKind {
        match text.split_once(' ').unwrap_or((text, "")) {
            ("exit", "0") => EndKind::Success,
            ("exit", _) => EndKind::Exit,
            ("signal", _) => EndKind::Signal,
            ("error", _) => EndKind::Error,
            ("panic", _) => EndKind::Panic,
            ("reset", _) => EndKind::Reset,
            ("client", "gone") => EndKind::ClientGone,
            ("timeout", "idle") => EndKind::TimeoutIdle,
            ("timeout", "lifetime") => EndKind::TimeoutLifetime,
            ("timeout", "first-byte") => EndKind::TimeoutFirstByte,
            ("timeout", _) => EndKind::TimeoutKeepAlive,
            ("killed", _) => EndKind::Killed,
            ("memory", "limit") => EndKind::MemoryLimit,
            ("process", "limit") => EndKind::ProcessLimit,
            ("output", "limit") => EndKind::OutputLimit,
            ("seccomp:", _) => EndKind::Seccomp,
            _ => EndKind::Unrecorded,
        }
    }
}

/// Counts of connections that have ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metrics {
    ended: BTreeMap<EndKind, u64>,
    /// By the name of the signal that has ended the process.
    signals: BTreeMap<String, u64>,
    /// From the accept to the end.
    duration: Histogram,
    /// From the start of the process to the first byte of the client.
    first_byte: Histogram,
    /// The time in the delay queue.
    waited: Histogram,
    /// The processor time of each connection.
    cpu: Histogram,
    /// The peak memory of each connection.
    memory: Histogram,
    received: u64,
    sent: u64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            ended: EndKind::ALL.into_iter().map(|kind| (kind, 0)).collect(),
            signals: BTreeMap::new(),
            duration: Histogram::new(SECONDS),
            first_byte: Histogram::new(SECONDS),
            waited: Histogram::new(SECONDS),
            cpu: Histogram::new(SECONDS),
            memory: Histogram::new(BYTES),
            received: 0,
            sent: 0,
        }
    }
}

impl Metrics {
    /// Counts a connection that has ended.
    pub(crate) fn record(&mut self, id: u64, outcome: &Outcome, usage: &Usage, at: SystemTime) {
        *self.ended.entry(EndKind::of(outcome)).or_default() += 1;
        if let Outcome::Signal(number) = outcome {
            *self.signals.entry(signal_name(*number)).or_default() += 1;
        }
        let exemplar = |value: f64| Exemplar { id, value, at };
        let seconds = |time: Duration| exemplar(time.as_secs_f64());
        self.duration.record(seconds(usage.times.waited() + usage.duration));
        usage.times.first_byte.into_iter().for_each(|time| self.first_byte.record(seconds(time)));
        let waited = usage.times.waited.map(|waited| waited.time);
        waited.into_iter().for_each(|time| self.waited.record(seconds(time)));
        self.cpu.record(seconds(usage.cpu));
        self.memory.record(exemplar(usage.peak_kib as f64 * 1024.0));
        if let Some(bytes) = usage.bytes {
            self.received = self.received.saturating_add(bytes.received);
            self.sent = self.sent.saturating_add(bytes.sent);
        }
    }

    /// Counts connections that have ended without a record.
    pub(crate) fn count_unrecorded(&mut self, ends: u64) {
        *self.ended.entry(EndKind::Unrecorded).or_default() += ends;
    }

    /// As an object, for operators and for the next generation of the server.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let ended: Map<String, Value> =
            self.ended.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
        let object = json!({
            "ended_by_kind": ended,
            "ended_by_signal": self.signals,
            "duration": self.duration.to_json(),
            "first_byte": self.first_byte.to_json(),
            "waited": self.waited.to_json(),
            "cpu": self.cpu.to_json(),
            "memory": self.memory.to_json(),
            "bytes_in": self.received,
            "bytes_out": self.sent,
        });
        let Value::Object(object) = object else { return Map::new() };
        object
    }

    /// The counts that an older generation has handed over; `None` if they are none. What it does
    /// not have begins at zero.
    pub(crate) fn from_json(value: &Value) -> Option<Metrics> {
        let object = value.as_object()?;
        let distribution = |key: &str, bounds: &'static [f64]| match object.get(key) {
            // Of another version: its buckets cannot be compared.
            Some(value) if value.is_object() => {
                Some(Histogram::from_json(bounds, value).unwrap_or_else(|| Histogram::new(bounds)))
            }
            Some(_) => None,
            None => Some(Histogram::new(bounds)),
        };
        let number = |key: &str| object.get(key).map_or(Some(0), Value::as_u64);
        let mut metrics = Metrics {
            duration: distribution("duration", SECONDS)?,
            first_byte: distribution("first_byte", SECONDS)?,
            waited: distribution("waited", SECONDS)?,
            cpu: distribution("cpu", SECONDS)?,
            memory: distribution("memory", BYTES)?,
            received: number("bytes_in")?,
            sent: number("bytes_out")?,
            ..Metrics::default()
        };
        if let Some(ended) = object.get("ended_by_kind") {
            for (kind, count) in &mut metrics.ended {
                *count = ended.as_object()?.get(kind.name()).map_or(Some(0), Value::as_u64)?;
            }
        }
        if let Some(signals) = object.get("ended_by_signal") {
            for number in 1..=64 {
                let name = signal_name(number);
                if let Some(count) = signals.as_object()?.get(&name) {
                    metrics.signals.insert(name, count.as_u64()?);
                }
            }
        }
        Some(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{ByteCounts, Times, Waited};

    fn usage(waited: Option<Duration>) -> Usage {
        let times = Times {
            first_byte: Some(Duration::from_millis(3)),
            waited: waited.map(|time| Waited { time, limit: "rate" }),
        };
        Usage {
            duration: Duration::from_secs(2),
            bytes: Some(ByteCounts::of_process((5, 7))),
            cpu: Duration::from_millis(20),
            peak_kib: 900,
            times,
            start_kind: None,
        }
    }

    #[test]
    fn each_outcome_has_a_kind_that_its_words_have_too() {
        let report = Outcome::Reported;
        let limit = |limit| Outcome::Limit(limit, tine_sys::process::How::Signaled(9));
        for (outcome, name) in [
            (Outcome::Exit(0), "success"),
            (report(ExitReport::Done), "success"),
            (Outcome::Exit(7), "exit"),
            (Outcome::Signal(11), "signal"),
            (report(ExitReport::Error("no such page".into())), "error"),
            (report(ExitReport::Panic(String::new())), "panic"),
            (report(ExitReport::Panic("at 3".into())), "panic"),
            (report(ExitReport::Reset), "reset"),
            (report(ExitReport::Timeout("keep-alive".into())), "timeout_keep_alive"),
            (Outcome::Ended(EndReason::ClientGone), "client_gone"),
            (Outcome::Ended(EndReason::Idle), "timeout_idle"),
            (Outcome::Ended(EndReason::Lifetime), "timeout_lifetime"),
            (Outcome::Ended(EndReason::FirstByte), "timeout_first_byte"),
            (Outcome::Ended(EndReason::KeepAlive), "timeout_keep_alive"),
            (Outcome::Ended(EndReason::Killed), "killed"),
            (Outcome::Ended(EndReason::Output), "output_limit"),
            (limit(ReachedLimit::Memory), "memory_limit"),
            (limit(ReachedLimit::Tasks), "process_limit"),
            (limit(ReachedLimit::SystemCall("openat2".into())), "seccomp"),
        ] {
            assert_eq!(EndKind::of(&outcome).name(), name);
            let told = Outcome::Told { text: outcome.to_string(), is_failure: outcome.is_failure() };
            assert_eq!(EndKind::of(&told).name(), name, "{outcome}");
        }
        assert_eq!(EndKind::of_text("nonsense").name(), "unrecorded");
    }

    #[test]
    fn ends_are_counted_and_handed_over() {
        let mut metrics = Metrics::default();
        metrics.record(1, &Outcome::Exit(0), &usage(None), SystemTime::UNIX_EPOCH);
        let waited = usage(Some(Duration::from_secs(40)));
        metrics.record(2, &Outcome::Signal(11), &waited, SystemTime::UNIX_EPOCH);
        metrics.count_unrecorded(3);
        let json = Value::Object(metrics.to_json());
        assert_eq!(json["ended_by_kind"]["success"], 1);
        assert_eq!(json["ended_by_kind"]["unrecorded"], 3);
        assert_eq!(json["ended_by_kind"]["panic"], 0);
        assert_eq!(json["ended_by_signal"], json!({ "SEGV": 1 }));
        assert_eq!(json["duration"]["sum"], 44.0);
        assert_eq!((&json["bytes_in"], &json["bytes_out"]), (&json!(10), &json!(14)));
        assert_eq!(json["memory"]["sum"], 1_843_200.0);
        let again = Metrics::from_json(&json).expect("counts");
        let text = |metrics: &Metrics| {
            let mut object = Value::Object(metrics.to_json());
            for key in ["duration", "first_byte", "waited", "cpu", "memory"] {
                object[key]["exemplars"] = json!([]);
            }
            object
        };
        assert_eq!(text(&again), text(&metrics));
    }

    #[test]
    fn counts_of_another_version_are_taken_as_far_as_they_go() {
        let metrics = Metrics::from_json(&json!({ "bytes_in": 3, "ended_by_kind": { "odd": 1, "exit": 2 } }));
        let metrics = metrics.expect("counts");
        assert_eq!((metrics.received, metrics.ended[&EndKind::Exit]), (3, 2));
        for wrong in [json!([]), json!({ "bytes_in": "3" }), json!({ "duration": 1 })] {
            assert_eq!(Metrics::from_json(&wrong), None, "{wrong}");
        }
    }
}
