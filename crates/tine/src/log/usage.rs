//! What a connection used, and its times: the end of its `end` line, and a part of its record.

use std::time::Duration;

use super::value::FieldValue::{self, Decimal, Number, Text};

/// The resources and times of a connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// From the start of its process or turn to the end.
    pub(crate) duration: Duration,
    pub(crate) bytes: Option<ByteCounts>,
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
    pub(crate) times: Times,
    /// `None` where the program is not started warm.
    pub(crate) start_kind: Option<StartKind>,
}

/// How the process of a connection got a program that can be started warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartKind {
    /// As a copy of a template.
    Warm,
    /// The program was executed.
    Cold,
}

impl StartKind {
    /// The kind of a process that is a copy, or is none.
    pub(crate) fn of(is_copy: bool) -> StartKind {
        if is_copy { StartKind::Warm } else { StartKind::Cold }
    }

    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Option<StartKind> {
        [StartKind::Warm, StartKind::Cold].into_iter().find(|kind| kind.name() == name)
    }

    /// The value of `start`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            StartKind::Warm => "warm",
            StartKind::Cold => "cold",
        }
    }
}

/// Times of a connection beside its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// From the start to the first byte of the client, if one is known.
    pub(crate) first_byte: Option<Duration>,
    /// In the delay queue, before the start.
    pub(crate) waited: Option<Waited>,
}

/// How long a client was in the delay queue, and for which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) time: Duration,
    /// As the reason of a rejection.
    pub(crate) limit: &'static str,
}

impl Times {
    /// The time in the delay queue.
    pub(crate) fn waited(&self) -> Duration {
        self.waited.map_or(Duration::ZERO, |waited| waited.time)
    }
}

/// The bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteCounts {
    /// From the client.
    pub(crate) received: u64,
    /// To the client.
    pub(crate) sent: u64,
    pub(crate) source: BytesSource,
}

/// Where byte counts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BytesSource {
    /// The kernel, at the end or now.
    Kernel,
    /// The kernel, at the last look of the supervisor.
    Sample,
    /// The process of the connection, which could report anything.
    Process,
}

impl BytesSource {
    /// The source with this name.
    pub(crate) fn named(name: &str) -> Option<BytesSource> {
        let all = [BytesSource::Kernel, BytesSource::Sample, BytesSource::Process];
        all.into_iter().find(|source| source.name() == name)
    }

    /// The value of `bytes_source`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BytesSource::Kernel => "kernel",
            BytesSource::Sample => "sample",
            BytesSource::Process => "process",
        }
    }
}

impl ByteCounts {
    /// The counts of the process of a connection.
    pub(crate) fn of_process((received, sent): (u64, u64)) -> ByteCounts {
        ByteCounts { received, sent, source: BytesSource::Process }
    }

    /// The counts of the kernel at the last look.
    pub(crate) fn of_sample((received, sent): (u64, u64)) -> ByteCounts {
        ByteCounts { received, sent, source: BytesSource::Sample }
    }

    /// The counts of the kernel.
    pub(crate) fn of_kernel((received, sent): (u64, u64)) -> ByteCounts {
        ByteCounts { received, sent, source: BytesSource::Kernel }
    }
}

impl Usage {
    /// The fields of the `end` line, from `start` on. What is not known has none.
    pub(super) fn fields(&self) -> Vec<(&'static str, FieldValue<'static>)> {
        let seconds = |time: Duration| Decimal(time.as_secs_f64());
        let mut fields: Vec<_> =
            self.start_kind.map(|kind| ("start", Text(kind.name()))).into_iter().collect();
        fields.push(("seconds", seconds(self.duration)));
        if let Some(waited) = self.times.waited {
            fields.extend([("waited_seconds", seconds(waited.time)), ("limit", Text(waited.limit))]);
        }
        fields.extend(self.times.first_byte.map(|time| ("first_byte_seconds", seconds(time))));
        if let Some(ByteCounts { received, sent, source }) = self.bytes {
            fields.extend([("in", Number(received)), ("out", Number(sent))]);
            let is_reported = source == BytesSource::Process;
            fields.extend((!is_reported).then_some(("bytes_source", Text(source.name()))));
        }
        fields.extend([("cpu_seconds", seconds(self.cpu)), ("peak_kib", Number(self.peak_kib))]);
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_field() {
        let second = Duration::from_secs(1);
        let (unknown, start_kind) = (Times::default(), None);
        let none =
            Usage { duration: second, bytes: None, cpu: second, peak_kib: 7, times: unknown, start_kind };
        let waited = Some(Waited { time: second, limit: "rate" });
        let times = Times { first_byte: Some(second), waited };
        let keys = |usage: Usage| -> Vec<&str> { usage.fields().into_iter().map(|(key, _)| key).collect() };
        assert_eq!(keys(none), ["seconds", "cpu_seconds", "peak_kib"]);
        assert_eq!(
            keys(Usage { bytes: Some(ByteCounts::of_process((1, 2))), ..none }),
            ["seconds", "in", "out", "cpu_seconds", "peak_kib"]
        );
        assert_eq!(
            keys(Usage { bytes: Some(ByteCounts::of_kernel((1, 2))), times, ..none }).join(" "),
            "seconds waited_seconds limit first_byte_seconds in out bytes_source cpu_seconds peak_kib"
        );
        assert_eq!((times.waited(), Times::default().waited()), (second, Duration::ZERO));
        let start_kind = Some(StartKind::Warm);
        assert_eq!(keys(Usage { start_kind, ..none }), ["start", "seconds", "cpu_seconds", "peak_kib"]);
    }

    #[test]
    fn kinds_of_starts_have_names() {
        for (is_copy, name) in [(true, "warm"), (false, "cold")] {
            let kind = StartKind::of(is_copy);
            assert_eq!((kind.name(), StartKind::named(name)), (name, Some(kind)));
        }
        assert_eq!(StartKind::named("later"), None);
    }
}
