//! The part of JetStream that a bucket needs: requests and replies, as text. NATS ADR-1 has the
//! requests, ADR-8 what makes a stream a bucket. The client library has all of JetStream, but
//! watches a bucket that is gone without end, and does not say so.

use std::fmt;

use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::subjects::Subjects;
use crate::names::bounded;

/// The header of a put: the revision that it is to replace; 0 for none.
pub(super) const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// The header of a record that was deleted.
const OPERATION: &str = "KV-Operation";
/// Headers of a heartbeat: how many records were sent, and where to say that they have come.
const SENT: &str = "Nats-Last-Consumer";
const STALLED: &str = "Nats-Consumer-Stalled";

/// Statuses of messages without content: nobody listens; a heartbeat, or the question whether to go
/// on.
const NOBODY: u16 = 503;
const CONTROL: u16 = 100;

/// Numbers of errors: no such stream, or record; a stream with this name and other settings; no
/// place for as many replicas; and the put that expects another revision.
const NO_STREAM: u64 = 10_059;
const NO_RECORD: u64 = 10_037;
const OTHER_STREAM: u64 = 10_058;
const NO_PLACES: [u64; 3] = [10_005, 10_052, 10_074];
const OTHER_REVISION: u64 = 10_071;

/// Time between two heartbeats, in nanoseconds.
const HEARTBEAT: u64 = 1_000_000_000;
/// Bytes of a record with its headers, at most.
const RECORD: u64 = 512;

/// A request: its subject, and its text.
pub(super) type Request = (String, Vec<u8>);

/// Whether the stream is there.
pub(super) fn info(subjects: &Subjects) -> Request {
    (format!("$JS.API.STREAM.INFO.{}", subjects.stream()), Vec::new())
}

/// Creates the stream, with a record for each key.
pub(super) fn create(subjects: &Subjects, replicas: u32) -> Request {
    let text = json!({
        "name": subjects.stream(), "subjects": [subjects.record(">")], "description": "bans of a tine fleet",
        "retention": "limits", "storage": "file", "discard": "new", "num_replicas": replicas,
        "max_msgs_per_subject": 1, "max_msgs": -1, "max_bytes": -1, "max_consumers": -1, "max_age": 0,
        "max_msg_size": RECORD, "deny_delete": true, "allow_rollup_hdrs": true, "allow_direct": true,
    });
    (format!("$JS.API.STREAM.CREATE.{}", subjects.stream()), text.to_string().into_bytes())
}

/// Has all records sent to an inbox, and then each that is put.
pub(super) fn watch(subjects: &Subjects, inbox: &str) -> Request {
    let text = json!({
        "stream_name": subjects.stream(),
        "config": {
            "deliver_subject": inbox, "deliver_policy": "last_per_subject", "ack_policy": "none",
            "max_deliver": 1, "filter_subject": subjects.record(">"), "replay_policy": "instant",
            "flow_control": true, "idle_heartbeat": HEARTBEAT, "mem_storage": true, "num_replicas": 1,
        },
    });
    (format!("$JS.API.CONSUMER.CREATE.{}", subjects.stream()), text.to_string().into_bytes())
}

/// Removes the record of a key up to this revision. One that has come since stays.
pub(super) fn purge(subjects: &Subjects, key: &str, revision: u64) -> Request {
    let text = json!({ "filter": subjects.record(key), "seq": revision.saturating_add(1) });
    (format!("$JS.API.STREAM.PURGE.{}", subjects.stream()), text.to_string().into_bytes())
}

/// Has the record of a key sent.
pub(super) fn get(subjects: &Subjects, key: &str) -> Request {
    let text = json!({ "last_by_subj": subjects.record(key) });
    (format!("$JS.API.STREAM.MSG.GET.{}", subjects.stream()), text.to_string().into_bytes())
}

/// Why a request has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bus has no JetStream, or not for this user.
    NoJetStream,
    NoStream,
    NoRecord,
    OtherStream,
    NoPlaces,
    OtherRevision,
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NoJetStream => {
                "the bus has no JetStream, or not for this user: start its servers with -js"
            }
            Refusal::NoStream => "the bucket is gone",
            Refusal::NoRecord => "the bucket has no such record",
            Refusal::OtherStream => "a stream with the name of the bucket has other settings",
            Refusal::NoPlaces => "no server of the bus has room for the bucket",
            Refusal::OtherRevision => "the bucket has another revision",
            Refusal::Other(why) => return write!(f, "the bus refuses it: {}", bounded(why)),
        })
    }
}

#[derive(Deserialize)]
struct Reply {
    error: Option<Refused>,
    message: Option<Stored>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    delivered: Delivered,
}

/// A record, with its headers and contents in base64.
#[derive(Deserialize)]
struct Stored {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

#[derive(Default, Deserialize)]
struct Delivered {
    #[serde(default)]
    consumer_seq: u64,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// Of a put: the revision.
    pub(super) revision: u64,
    /// Of a watch: the records that come first.
    pub(super) records: u64,
}

/// Reads a reply.
pub(super) fn done(message: &Message) -> Result<Done, Refusal> {
    let reply = read(message)?;
    let records = reply.num_pending.saturating_add(reply.delivered.consumer_seq);
    Ok(Done { revision: reply.seq, records })
}

/// Reads a record that was asked for: its revision, and its contents unless it was deleted.
pub(super) fn got(message: &Message) -> Result<(u64, Option<Vec<u8>>), Refusal> {
    let no_meaning = || Refusal::Other("its answer has no meaning".to_owned());
    let stored = read(message)?.message.ok_or_else(no_meaning)?;
    let [headers, text] = [stored.hdrs, stored.data].map(|text| STANDARD.decode(text));
    let (headers, text) = (headers.map_err(|_| no_meaning())?, text.map_err(|_| no_meaning())?);
    let is_deleted = headers.windows(OPERATION.len()).any(|part| part == OPERATION.as_bytes());
    Ok((stored.seq, (!is_deleted).then_some(text)))
}

fn read(message: &Message) -> Result<Reply, Refusal> {
    if status(message) == Some(NOBODY) {
        return Err(Refusal::NoJetStream);
    }
    let mut reply: Reply = serde_json::from_slice(&message.payload)
        .map_err(|_| Refusal::Other("its answer has no meaning".to_owned()))?;
    match reply.error.take() {
        None => Ok(reply),
        Some(Refused { err_code: NO_STREAM, .. }) => Err(Refusal::NoStream),
        Some(Refused { err_code: NO_RECORD, .. }) => Err(Refusal::NoRecord),
        Some(Refused { err_code: OTHER_STREAM, .. }) => Err(Refusal::OtherStream),
        Some(Refused { err_code: OTHER_REVISION, .. }) => Err(Refusal::OtherRevision),
        Some(Refused { err_code, .. }) if NO_PLACES.contains(&err_code) => Err(Refusal::NoPlaces),
        Some(refused) => Err(Refusal::Other(refused.description)),
    }
}

/// What comes from a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// A record was put, or deleted.
    Record {
        /// The number of the record, from 1, of those that were sent.
        number: u64,
        revision: u64,
        /// The records that are there already, and come next.
        left: u64,
        is_deleted: bool,
    },
    /// These many were sent so far.
    Heartbeat { sent: Option<u64>, stalled: Option<String> },
    /// Goes on when this subject has a message.
    Pause(String),
    /// It is at its end.
    End(String),
}

/// Reads a message of a watch; `None` if it is none.
pub(super) fn watched(message: &Message) -> Option<Watched> {
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
    match (status(message), &message.reply) {
        (Some(CONTROL), Some(reply)) => Some(Watched::Pause(reply.to_string())),
        (Some(CONTROL), None) => Some(Watched::Heartbeat {
            sent: header(SENT).and_then(|number| number.as_str().parse().ok()),
            stalled: header(STALLED).map(|subject| subject.as_str().to_owned()),
        }),
        (Some(status), _) => {
            let why = message.description.clone().unwrap_or_else(|| format!("status {status}"));
            Some(Watched::End(why))
        }
        (None, reply) => {
            let parts: Vec<&str> = reply.as_ref()?.split('.').collect();
            // With the domain and the account in front of the stream, on newer servers (ADR-15).
            let rest = match parts[..] {
                ["$JS", "ACK", _, _, ref rest @ ..] if rest.len() == 5 => rest,
                ["$JS", "ACK", _, _, _, _, ref rest @ ..] if rest.len() >= 5 => rest,
                _ => return None,
            };
            let number = |at: usize| rest[at].parse().ok();
            let (revision, number, left) = (number(1)?, number(2)?, number(4)?);
            Some(Watched::Record { number, revision, left, is_deleted: header(OPERATION).is_some() })
        }
    }
}

fn status(message: &Message) -> Option<u16> {
    message.status.map(|status| status.as_u16())
}

/// The headers of a put.
pub(super) fn expecting(revision: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED, revision.to_string().as_str());
    headers
}
