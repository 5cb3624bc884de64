//! The state of a service that one supervisor hands to the next, as a text.
//!
//! It is JSON, so that a later version can read what an earlier one wrote, and the other way round:
//! keys that are not known are ignored, and those that are missing have a default. Times are of the
//! monotonic clock, in nanoseconds: both processes run on the same machine.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::admission::penalty::Fault;
use crate::admission::reason::Reason;
use crate::admission::sources::SourcesState;
use crate::lifecycle::outcome::Outcome;
use crate::log::{ByteCounts, BytesSource, StartKind, Times, Usage, Waited};
use crate::net::peer::Peer;
use crate::net::proxied::{PROXIED_WORDS, Proxied};
use crate::watch::history::EndedConnection;
use crate::watch::metrics::Metrics;

/// The state of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServiceState {
    /// The id of the last connection.
    pub(crate) last_id: u64,
    /// The number of the generation that sends it.
    pub(crate) generation: u64,
    /// An operator has paused the server.
    pub(crate) is_paused: bool,
    /// When the first generation began to serve, if that is known.
    pub(crate) started: Option<u64>,
    /// The most connections at a time.
    pub(crate) peak: u64,
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) unrecorded: u64,
    pub(crate) delayed: Vec<(Reason, u64)>,
    pub(crate) rejected: Vec<(Reason, u64)>,
    pub(crate) reported: Vec<(Reason, u64)>,
    /// The connections of this generation and of those before it.
    pub(crate) connections: Vec<OlderConnection>,
    /// Connections that have ended, the oldest first.
    pub(crate) history: Vec<EndedConnection>,
    /// The bans, as in the file where they are kept.
    pub(crate) bans: Option<String>,
    /// The token buckets of sources and prefixes.
    pub(crate) buckets: Option<SourcesState>,
    pub(crate) penalties: Option<SourcesState>,
    /// For monitoring, if connections are counted.
    pub(crate) metrics: Option<Metrics>,
}

/// A connection that an older generation serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OlderConnection {
    pub(crate) id: u64,
    pub(crate) pid: i32,
    pub(crate) peer: Peer,
    pub(crate) proxied: Option<Proxied>,
    pub(crate) start: u64,
    pub(crate) waited: Option<Waited>,
    /// Which supervisor serves it: 0 is the one that sends the state, others are further back.
    pub(crate) generation: usize,
}

/// The end of a connection, as the older supervisor tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OlderEnd {
    pub(crate) id: u64,
    /// The fault that its source is charged for.
    pub(crate) fault: Option<Fault>,
    /// Its record, if records are kept.
    pub(crate) record: Option<EndedConnection>,
}

impl ServiceState {
    /// The state as a text.
    pub(crate) fn to_text(&self) -> String {
        json!({
            "last_id": self.last_id,
            "generation": self.generation,
            "paused": self.is_paused,
            "started": self.started,
            "peak": self.peak,
            "ended": self.ended,
            "failed": self.failed,
            "unrecorded": self.unrecorded,
            "delayed_by_reason": counts_to_json(&self.delayed),
            "rejected": counts_to_json(&self.rejected),
            "reported": counts_to_json(&self.reported),
            "connections": self.connections.iter().map(|older| older.to_json()).collect::<Vec<_>>(),
            "history": self.history.iter().map(record_to_json).collect::<Vec<_>>(),
            "bans": self.bans,
            "buckets": self.buckets.as_ref().map(sources_to_json),
            "penalties": self.penalties.as_ref().map(sources_to_json),
            "metrics": self.metrics.as_ref().map(Metrics::to_json),
        })
        .to_string()
    }

    /// The state in a text.
    ///
    /// # Errors
    /// It is none, for this reason.
    pub(crate) fn parse(text: &[u8]) -> Result<ServiceState, String> {
        let value: Value = serde_json::from_slice(text).map_err(|why| format!("it is not JSON: {why}"))?;
        let object = value.as_object().ok_or("it is no object")?;
        // What is missing is of another version; what has another type is no state.
        fn read<'a, T>(
            object: &'a Map<String, Value>,
            key: &str,
            of: impl FnOnce(&'a Value) -> Option<T>,
        ) -> Result<Option<T>, String> {
            let value = object.get(key).filter(|value| !value.is_null());
            value.map(|value| of(value).ok_or_else(|| format!("its value {key} is wrong"))).transpose()
        }
        let number = |key: &str| read(object, key, Value::as_u64).map(Option::unwrap_or_default);
        let counts = |key: &str| read(object, key, counts_from_json).map(Option::unwrap_or_default);
        let sources = |key: &str| read(object, key, sources_from_json);
        let connections = read(object, "connections", |all| all_of(all, OlderConnection::from_json))?;
        let history = read(object, "history", |all| all_of(all, record_from_json))?;
        Ok(ServiceState {
            last_id: number("last_id")?,
            generation: number("generation")?,
            is_paused: read(object, "paused", Value::as_bool)?.unwrap_or(false),
            started: read(object, "started", Value::as_u64)?,
            peak: number("peak")?,
            ended: number("ended")?,
            failed: number("failed")?,
            unrecorded: number("unrecorded")?,
            delayed: counts("delayed_by_reason")?,
            rejected: counts("rejected")?,
            reported: counts("reported")?,
            connections: connections.unwrap_or_default(),
            history: history.unwrap_or_default(),
            bans: read(object, "bans", Value::as_str)?.map(str::to_owned),
            buckets: sources("buckets")?,
            penalties: sources("penalties")?,
            metrics: read(object, "metrics", Metrics::from_json)?,
        })
    }
}

/// All elements of an array; `None` if one is wrong.
fn all_of<T>(array: &Value, one: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    array.as_array()?.iter().map(one).collect()
}

impl OlderConnection {
    pub(crate) fn to_json(self) -> Value {
        let OlderConnection { id, pid, peer, proxied, start, waited, generation } = self;
        json!({
            "id": id, "pid": pid, "peer": peer.to_words(), "proxied": proxied_to_json(proxied),
            "start": start, "waited": waited_to_json(waited), "generation": generation,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<OlderConnection> {
        Some(OlderConnection {
            id: value.get("id")?.as_u64()?,
            pid: i32::try_from(value.get("pid")?.as_i64()?).ok()?,
            peer: Peer::from_words(words(value.get("peer")?)?),
            proxied: proxied_from_json(value.get("proxied"))?,
            start: value.get("start")?.as_u64()?,
            waited: waited_from_json(value.get("waited"))?,
            generation: value.get("generation").and_then(Value::as_u64).unwrap_or(0).try_into().ok()?,
        })
    }
}

impl OlderEnd {
    pub(crate) fn to_json(&self) -> Value {
        let OlderEnd { id, fault, record } = self;
        json!({
            "id": id, "fault": fault.map(Fault::name), "record": record.as_ref().map(record_to_json),
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<OlderEnd> {
        Some(OlderEnd {
            id: value.get("id")?.as_u64()?,
            fault: value.get("fault").and_then(Value::as_str).and_then(Fault::named),
            record: value.get("record").and_then(record_from_json),
        })
    }
}

fn counts_to_json(counts: &[(Reason, u64)]) -> Value {
    let counts = counts.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count)));
    Value::Object(counts.collect::<Map<_, _>>())
}

/// Reasons that this version does not know are left out.
fn counts_from_json(value: &Value) -> Option<Vec<(Reason, u64)>> {
    let object = value.as_object()?;
    let known = Reason::ALL.into_iter().filter_map(|reason| Some((reason, object.get(reason.name())?)));
    known.map(|(reason, count)| Some((reason, count.as_u64()?))).collect()
}

fn record_to_json(record: &EndedConnection) -> Value {
    let EndedConnection { id, peer, proxied, pid, start, outcome, usage } = record;
    let Usage { duration, bytes, cpu, peak_kib, times, start_kind } = usage;
    let bytes = bytes.map(|ByteCounts { received, sent, source }| json!([received, sent, source.name()]));
    json!({
        "id": id,
        "peer": peer.to_words(),
        "proxied": proxied_to_json(*proxied),
        "pid": pid,
        "start": start,
        "outcome": outcome.to_string(),
        "is_failure": outcome.is_failure(),
        "duration": nanoseconds(*duration),
        "bytes": bytes,
        "cpu": nanoseconds(*cpu),
        "peak_kib": peak_kib,
        "first_byte": times.first_byte.map(nanoseconds),
        "waited": waited_to_json(times.waited),
        "start_kind": start_kind.map(StartKind::name),
    })
}

fn record_from_json(value: &Value) -> Option<EndedConnection> {
    let number = |key: &str| value.get(key)?.as_u64();
    let time = |key: &str| Some(Duration::from_nanos(number(key)?));
    let bytes = match value.get("bytes") {
        None | Some(Value::Null) => None,
        Some(bytes) => Some(ByteCounts {
            received: bytes.get(0)?.as_u64()?,
            sent: bytes.get(1)?.as_u64()?,
            source: BytesSource::named(bytes.get(2)?.as_str()?)?,
        }),
    };
    let times = Times { first_byte: time("first_byte"), waited: waited_from_json(value.get("waited"))? };
    Some(EndedConnection {
        id: number("id")?,
        peer: Peer::from_words(words(value.get("peer")?)?),
        proxied: proxied_from_json(value.get("proxied"))?,
        pid: i32::try_from(value.get("pid")?.as_i64()?).ok()?,
        start: number("start")?,
        outcome: Outcome::Told {
            text: value.get("outcome")?.as_str()?.to_owned(),
            is_failure: value.get("is_failure")?.as_bool()?,
        },
        usage: Usage {
            duration: time("duration")?,
            bytes,
            cpu: time("cpu")?,
            peak_kib: number("peak_kib")?,
            times,
            start_kind: value.get("start_kind").and_then(Value::as_str).and_then(StartKind::named),
        },
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn words<const N: usize>(value: &Value) -> Option<[u64; N]> {
    all_of(value, Value::as_u64)?.try_into().ok()
}

fn proxied_to_json(proxied: Option<Proxied>) -> Value {
    proxied.map_or(Value::Null, |proxied| json!(Proxied::to_words(Some(&proxied))))
}

fn proxied_from_json(value: Option<&Value>) -> Option<Option<Proxied>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(value) => Some(Proxied::from_words(words::<PROXIED_WORDS>(value)?)),
    }
}

fn waited_to_json(waited: Option<Waited>) -> Value {
    waited.map_or(Value::Null, |Waited { time, limit }| json!([nanoseconds(time), limit]))
}

/// A limit that this version does not know is left out.
fn waited_from_json(value: Option<&Value>) -> Option<Option<Waited>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Some(None) };
    let time = Duration::from_nanos(value.get(0)?.as_u64()?);
    let name = value.get(1)?.as_str()?;
    let known = Reason::ALL.into_iter().map(Reason::name).find(|known| *known == name);
    Some(known.map(|limit| Waited { time, limit }))
}

fn sources_to_json(sources: &SourcesState) -> Value {
    json!({ "check": sources.check, "entries": sources.entries })
}

fn sources_from_json(value: &Value) -> Option<SourcesState> {
    let entries = all_of(value.get("entries")?, words)?;
    Some(SourcesState { check: value.get("check")?.as_u64()?, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64) -> EndedConnection {
        let second = Duration::from_secs(1);
        let times =
            Times { first_byte: Some(second / 3), waited: Some(Waited { time: second, limit: "rate" }) };
        EndedConnection {
            id,
            peer: "192.0.2.1:5".parse().map(Peer::Tcp).expect("an address"),
            proxied: None,
            pid: 77,
            start: 5,
            outcome: Outcome::Told { text: "signal SEGV".into(), is_failure: true },
            usage: Usage {
                duration: second,
                bytes: Some(ByteCounts::of_kernel((3, u64::MAX))),
                cpu: second / 7,
                peak_kib: 900,
                times,
                start_kind: (id == 4).then_some(StartKind::Warm),
            },
        }
    }

    fn older(id: u64) -> OlderConnection {
        OlderConnection {
            id,
            pid: 4711,
            peer: "[2001:db8::1%3]:5".parse().map(Peer::Tcp).expect("an address"),
            proxied: Some(Proxied { proxy: Peer::Unix(None), local: None, header: 107 }),
            start: u64::MAX,
            waited: None,
            generation: 2,
        }
    }

    fn state() -> ServiceState {
        ServiceState {
            last_id: 9,
            is_paused: true,
            started: Some(3),
            peak: 8,
            ended: 7,
            failed: 6,
            unrecorded: 5,
            delayed: vec![(Reason::Rate, 4)],
            generation: 2,
            metrics: Some(Metrics::default()),
            rejected: vec![(Reason::Full, 3)],
            reported: vec![(Reason::Rate, 2)],
            connections: vec![older(1), OlderConnection { proxied: None, generation: 0, ..older(2) }],
            history: vec![record(3), record(4)],
            bans: Some("{}".into()),
            buckets: Some(SourcesState { check: 1, entries: vec![[1, 2], [3, u64::MAX]] }),
            penalties: None,
        }
    }

    #[test]
    fn a_state_survives_the_way() {
        let state = state();
        assert_eq!(ServiceState::parse(state.to_text().as_bytes()), Ok(state));
        assert_eq!(ServiceState::parse(b"{}"), Ok(ServiceState::default()));
        assert_eq!(ServiceState::parse(br#"{"later": [1], "last_id": 7}"#).expect("a state").last_id, 7);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"connections":[{}]}"#,
            r#"{"connections":[{"id":1,"pid":1e99,"peer":[1,2,3],"start":1}]}"#,
            r#"{"connections":[{"id":1,"pid":1,"peer":[1,2],"start":1}]}"#,
            r#"{"history":[7]}"#,
            r#"{"buckets":{"check":1,"entries":[[1]]}}"#,
            r#"{"penalties":7}"#,
            r#"{"last_id":"x"}"#,
            r#"{"paused":1}"#,
            r#"{"connections":7}"#,
            r#"{"rejected":{"full":"x"}}"#,
            r#"{"bans":[]}"#,
        ] {
            ServiceState::parse(text.as_bytes()).expect_err(text);
        }
    }

    #[test]
    fn ends_survive_the_way() {
        for (fault, record) in [(None, None), (Some(Fault::Crash), Some(record(7)))] {
            let end = OlderEnd { id: 7, fault, record };
            assert_eq!(OlderEnd::from_json(&end.to_json()), Some(end));
        }
        assert_eq!(OlderEnd::from_json(&json!({})), None);
    }
}
