//! Connections as rows of a list: live ones and ended ones, filtered and sorted.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::request::{Filter, Sort, SortKey};
use super::view::{Sockets, View, date};
use crate::admission::access::prefix::Prefix;
use crate::ipc::board::reader::BoardConnection;
use crate::log::{ByteCounts, StartKind, Times, Waited};
use crate::net::peer::Peer;
use crate::net::privacy::Privacy;
use crate::net::proxied::Proxied;
use crate::system::clock::now;
use crate::watch::history::EndedConnection;
use crate::watch::metrics::EndKind;

/// A connection, as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) peer: Peer,
    proxied: Option<Proxied>,
    pub(super) pid: i32,
    /// `serving`, `ending` or `ended`.
    state: &'static str,
    /// When its process or turn began: monotonic clock, nanoseconds.
    start: u64,
    /// From its accept to now, or to its end.
    age: Duration,
    times: Times,
    /// `None` where the program is not started warm.
    start_kind: Option<StartKind>,
    bytes: Option<ByteCounts>,
    /// The state of its socket, by the kernel.
    tcp_state: Option<&'static str>,
    end: Option<RowEnd>,
    /// The shared state that its process holds or waits for.
    holds: Vec<String>,
    /// An older generation of the server serves it.
    is_older: bool,
}

/// How a connection has ended.
#[derive(Clone, Debug)]
struct RowEnd {
    outcome: String,
    kind: EndKind,
    cpu: Duration,
    peak_kib: u64,
}

impl Row {
    /// The row of a connection that is served.
    pub(super) fn live(view: &View, connection: &BoardConnection, sockets: &Sockets) -> Row {
        let BoardConnection { slot, pid, entry, proxied, is_older, is_copy, .. } = *connection;
        let info = sockets.of(connection);
        let header = u64::from(proxied.map_or(0, |proxied| proxied.header));
        let from_kernel = info.map(|info| {
            ByteCounts::of_kernel((info.payload_received().saturating_sub(header), info.payload_sent()))
        });
        let times = Times { first_byte: view.first_byte(slot, &entry), waited: connection.waited };
        Row {
            id: entry.id,
            peer: entry.peer,
            proxied,
            pid,
            state: if view.ending.get(&slot) == Some(&entry.id) { "ending" } else { "serving" },
            start: entry.start,
            age: times.waited() + Duration::from_nanos(now().saturating_sub(entry.start)),
            times,
            start_kind: view.warm_forkers.filter(|_| !is_older).map(|_| StartKind::of(is_copy)),
            // Its process counts in memory that only its supervisor has.
            bytes: from_kernel.or_else(|| view.counted(slot).filter(|_| !is_older)),
            tcp_state: info.map(|info| info.state_name()),
            end: None,
            holds: if is_older { Vec::new() } else { view.members.held_by(slot) },
            is_older,
        }
    }

    /// The row of a connection that has ended.
    pub(super) fn ended(connection: &EndedConnection) -> Row {
        let usage = connection.usage;
        Row {
            id: connection.id,
            peer: connection.peer,
            proxied: connection.proxied,
            pid: connection.pid,
            state: "ended",
            start: connection.start,
            age: usage.times.waited() + usage.duration,
            times: usage.times,
            start_kind: usage.start_kind,
            bytes: usage.bytes,
            tcp_state: None,
            end: Some(RowEnd {
                outcome: connection.outcome.to_string(),
                kind: EndKind::of(&connection.outcome),
                cpu: usage.cpu,
                peak_kib: usage.peak_kib,
            }),
            holds: Vec::new(),
            is_older: false,
        }
    }

    /// When a connection ended, or now: monotonic clock, nanoseconds.
    fn end_time(&self) -> u64 {
        self.start.saturating_sub(self.times.waited().as_nanos() as u64) + self.age.as_nanos() as u64
    }

    /// Whether a filter selects the row.
    pub(super) fn matches(&self, filter: &Filter) -> bool {
        let Filter { ids, peer, older, younger, state } = filter;
        ids.as_ref().is_none_or(|ids| ids.contains(&self.id))
            && peer.is_none_or(
                |block| matches!(self.peer, Peer::Tcp(address) if block.contains(Prefix::of(address.ip()))),
            )
            && older.is_none_or(|time| self.age >= time)
            && younger.is_none_or(|time| self.age < time)
            && state.as_ref().is_none_or(|state| self.state == state)
    }

    /// The row as an object, with peers as they are to be shown. Ids of a server with several
    /// services have the service in front.
    pub(super) fn to_json(&self, service: Option<&str>, jail: Option<&str>, privacy: Privacy) -> Value {
        let mut object = Map::new();
        let mut set = |key: &str, value: Value| _ = object.insert(key.to_owned(), value);
        set("id", service.map_or(json!(self.id), |service| json!(format!("{service}:{}", self.id))));
        set("service", json!(service));
        set("type", json!("connection"));
        set("peer", json!(privacy.show(self.peer).to_string()));
        if let Some(proxied) = &self.proxied {
            set("proxy", json!(privacy.show(proxied.proxy).to_string()));
        }
        // That of an older generation may be another one.
        set("jail", json!(jail.filter(|_| !self.is_older)));
        if let Some(kind) = self.start_kind {
            set("start", json!(kind.name()));
        }
        set("pid", json!(self.pid));
        set("state", json!(self.state));
        let accepted = self.start.saturating_sub(self.times.waited().as_nanos() as u64);
        set("accepted", json!(date(accepted)));
        set("started", json!(date(self.start)));
        set("age_ms", json!(milliseconds(self.age)));
        if let Some(first_byte) = self.times.first_byte {
            set("first_byte_ms", json!(milliseconds(first_byte)));
        }
        if let Some(Waited { time, limit }) = self.times.waited {
            set("waited_ms", json!(milliseconds(time)));
            set("limit", json!(limit));
        }
        set("bytes_in", json!(self.bytes.map(|bytes| bytes.received)));
        set("bytes_out", json!(self.bytes.map(|bytes| bytes.sent)));
        set("bytes_source", json!(self.bytes.map(|bytes| bytes.source.name())));
        if let Some(state) = self.tcp_state {
            set("tcp_state", json!(state));
        }
        if !self.holds.is_empty() {
            set("holds", json!(self.holds));
        }
        if self.is_older {
            set("generation", json!("older"));
        }
        if let Some(end) = &self.end {
            set("ended", json!(date(accepted + self.age.as_nanos() as u64)));
            set("outcome", json!(end.outcome));
            set("kind", json!(end.kind.name()));
            set("cpu_ms", json!(milliseconds(end.cpu)));
            set("peak_kib", json!(end.peak_kib));
        }
        Value::Object(object)
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// Sorts rows; equal ones by their id.
pub(super) fn sort(rows: &mut [Row], by: Sort) {
    rows.sort_by_key(|row| row.id);
    match by.key {
        SortKey::Id => {}
        SortKey::Age => rows.sort_by_key(|row| row.age),
        SortKey::Peer => rows.sort_by_key(|row| match row.peer {
            Peer::Tcp(address) => Some(address),
            _ => None,
        }),
        SortKey::BytesIn => rows.sort_by_key(|row| row.bytes.map(|bytes| bytes.received)),
        SortKey::End => rows.sort_by_key(Row::end_time),
        SortKey::BytesOut => rows.sort_by_key(|row| row.bytes.map(|bytes| bytes.sent)),
    }
    if by.descending {
        rows.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u64, peer: &str, seconds: u64, bytes_in: u64) -> Row {
        Row {
            id,
            peer: peer.parse().map_or(Peer::Unix(None), Peer::Tcp),
            proxied: None,
            pid: 1,
            state: "serving",
            start: 0,
            age: Duration::from_secs(seconds),
            times: Times::default(),
            start_kind: None,
            bytes: (bytes_in > 0).then(|| ByteCounts::of_kernel((bytes_in, 0))),
            tcp_state: None,
            end: None,
            holds: Vec::new(),
            is_older: false,
        }
    }

    fn rows() -> [Row; 3] {
        [row(3, "192.0.2.1:5", 10, 7), row(1, "[2001:db8::1]:5", 30, 0), row(2, "unix", 20, 9)]
    }

    #[test]
    fn filters_select_rows() {
        let none = Filter::default;
        let block = |text: &str| text.parse().ok();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (filter, selected) in [
            (none(), &[3, 1, 2][..]),
            (Filter { ids: Some(vec![2, 9]), ..none() }, &[2]),
            (Filter { ids: Some(vec![]), ..none() }, &[]),
            (Filter { peer: block("192.0.2.0/24"), ..none() }, &[3]),
            (Filter { peer: block("2001:db8::/32"), ..none() }, &[1]),
            (Filter { peer: block("any"), ..none() }, &[3, 1]),
            (Filter { older: seconds(20), ..none() }, &[1, 2]),
            (Filter { younger: seconds(20), ..none() }, &[3]),
            (Filter { older: seconds(20), younger: seconds(30), ..none() }, &[2]),
            (Filter { state: Some("ending".into()), ..none() }, &[]),
        ] {
            let ids: Vec<u64> = rows().iter().filter(|row| row.matches(&filter)).map(|row| row.id).collect();
            assert_eq!(ids, selected, "{filter:?}");
        }
    }

    #[test]
    fn rows_are_sorted() {
        for (key, descending, order) in [
            (SortKey::Id, false, [1, 2, 3]),
            (SortKey::Id, true, [3, 2, 1]),
            (SortKey::Age, false, [3, 2, 1]),
            (SortKey::Peer, false, [2, 3, 1]),
            (SortKey::BytesIn, true, [2, 3, 1]),
        ] {
            let mut rows = rows();
            sort(&mut rows, Sort { key, descending });
            assert_eq!(rows.map(|row| row.id), order, "{key:?} {descending}");
        }
    }

    #[test]
    fn ids_of_several_services_have_the_service_in_front() {
        let mut row = row(7, "192.0.2.1:5", 1, 3);
        let json = row.to_json(None, None, Privacy::None);
        assert_eq!((&json["id"], &json["bytes_in"]), (&json!(7), &json!(3)));
        assert_eq!(json.get("service"), Some(&json!(null)), "every row has the same keys");
        let json = row.to_json(Some("git"), Some("full"), Privacy::Truncate);
        assert_eq!((&json["id"], &json["peer"]), (&json!("git:7"), &json!("192.0.2.0/24")));
        assert_eq!((&json["jail"], json.get("start")), (&json!("full"), None));
        row.start_kind = Some(StartKind::Cold);
        assert_eq!(row.to_json(None, None, Privacy::None)["start"], "cold");
    }
}
