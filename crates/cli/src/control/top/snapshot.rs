//! What a server says of itself and its connections at one time, as typed rows, and how fast that
//! changes from one time to the next.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tine::cli::one_line;

use crate::control::proc::Usage;

/// The services and connections of a server at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// When the server was asked, on a clock that only goes forward.
    pub(super) at: Duration,
    pub(super) services: Vec<Service>,
    pub(super) connections: Vec<Connection>,
    /// Characters of the longest id.
    pub(super) id_width: usize,
}

/// A service, or a server without services.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    #[serde(rename = "service")]
    pub(super) name: Option<String>,
    pub(super) version: String,
    pub(super) phase: String,
    /// The supervisor.
    pub(super) pid: u64,
    pub(super) uptime_ms: u64,
    pub(super) connections: u64,
    pub(super) max_connections: u64,
    pub(super) spares: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) waiting: u64,
    pub(super) processes: Vec<Process>,
    /// Clients a second since the snapshot before.
    #[serde(skip)]
    pub(super) accepted_rate: Option<f64>,
    #[serde(skip)]
    pub(super) rejected_rate: Option<f64>,
}

/// A forker or helper.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) role: String,
    pub(super) pid: u64,
    pub(super) restarts: u64,
}

/// What tells connections apart. A server that was started again numbers them from 1 again: the
/// process id is part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    id: String,
    pid: u64,
}

/// A connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    /// As it is shown: the service is in front if there are several.
    pub(super) id: String,
    /// The id within its service.
    pub(super) number: u64,
    /// The service as a request names it. It is not escaped: it must not be drawn.
    pub(super) service: Option<String>,
    pub(super) peer: String,
    /// The peer, if it is an address of TCP.
    pub(super) address: Option<SocketAddr>,
    pub(super) pid: u64,
    pub(super) state: String,
    pub(super) tcp_state: String,
    pub(super) age_ms: u64,
    pub(super) bytes_in: Option<u64>,
    pub(super) bytes_out: Option<u64>,
    pub(super) cpu_ms: Option<u64>,
    pub(super) rss_kib: Option<u64>,
    /// Bytes a second since the snapshot before.
    pub(super) rate_in: Option<f64>,
    pub(super) rate_out: Option<f64>,
    /// Share of one processor since the snapshot before.
    pub(super) cpu_percent: Option<f64>,
    /// What a filter looks for, in small letters.
    pub(super) text: String,
    /// The line of the server: the details are made of it.
    pub(super) line: String,
}

/// The fields of a line of type `connection` that a row is made of. What only an older generation
/// knows is `null`.
#[derive(Deserialize)]
struct ConnectionLine {
    id: Value,
    #[serde(default)]
    service: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    peer: String,
    #[serde(default, deserialize_with = "or_default")]
    pid: u64,
    #[serde(default, deserialize_with = "or_default")]
    state: String,
    #[serde(default, deserialize_with = "or_default")]
    tcp_state: String,
    #[serde(default, deserialize_with = "or_default")]
    age_ms: u64,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    cpu_ms: Option<u64>,
    rss_kib: Option<u64>,
}

/// The default for `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Snapshot {
    /// The snapshot that these lines of the replies to `status` and `list` are. Lines of another
    /// form are left out: a later server may have them.
    pub(super) fn of(at: Duration, status: &[String], list: Vec<String>) -> Snapshot {
        let services = status.iter().filter_map(|line| Service::of(line)).collect();
        let connections: Vec<Connection> = list.into_iter().filter_map(Connection::of).collect();
        let id_width = connections.iter().map(|one| one.id.chars().count()).max().unwrap_or(0);
        Snapshot { at, services, connections, id_width }
    }

    /// Fills in what the processes of connections use, unless the server has told it.
    pub(super) fn fill_usage(&mut self, of: impl Fn(u64) -> Option<Usage>) {
        for connection in &mut self.connections {
            let usage = of(connection.pid);
            connection.cpu_ms = connection.cpu_ms.or(usage.map(|usage| usage.cpu_ms));
            connection.rss_kib = connection.rss_kib.or(usage.map(|usage| usage.rss_kib));
        }
    }

    /// Fills in how fast it has changed since the snapshot before.
    pub(super) fn compare(&mut self, before: &Snapshot) {
        let seconds = self.at.saturating_sub(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        // A count that has become smaller is that of a server that was started again.
        let rate = |now: u64, then: u64| now.checked_sub(then).map(|more| more as f64 / seconds);
        for service in &mut self.services {
            let same = before.services.iter().find(|one| one.name == service.name && one.pid == service.pid);
            service.accepted_rate = same.and_then(|then| rate(service.accepted, then.accepted));
            service.rejected_rate = same.and_then(|then| rate(service.rejected, then.rejected));
        }
        let known: HashMap<(&str, u64), &Connection> =
            before.connections.iter().map(|one| ((one.id.as_str(), one.pid), one)).collect();
        for connection in &mut self.connections {
            let Some(then) = known.get(&(connection.id.as_str(), connection.pid)) else { continue };
            let of = |now: Option<u64>, then: Option<u64>| rate(now?, then?);
            connection.rate_in = of(connection.bytes_in, then.bytes_in);
            connection.rate_out = of(connection.bytes_out, then.bytes_out);
            // 1,000 ms of processor time in a second are 100 %.
            connection.cpu_percent = of(connection.cpu_ms, then.cpu_ms).map(|rate| rate / 10.0);
        }
    }
}

impl Service {
    fn of(line: &str) -> Option<Service> {
        let mut service: Service = serde_json::from_str(line).ok()?;
        service.name = service.name.map(|name| one_line(&name));
        service.version = one_line(&service.version);
        service.phase = one_line(&service.phase);
        for process in &mut service.processes {
            process.role = one_line(&process.role);
        }
        Some(service)
    }
}

impl Connection {
    fn of(line: String) -> Option<Connection> {
        let row: ConnectionLine = serde_json::from_str(&line).ok()?;
        let id = match &row.id {
            Value::String(text) => one_line(text),
            other => other.to_string(),
        };
        let number = id.rsplit(':').next()?.parse().ok()?;
        let [peer, state, tcp_state] = [&row.peer, &row.state, &row.tcp_state].map(|text| one_line(text));
        let address = peer.parse().ok();
        let text = [&id, &peer, &state, &tcp_state].map(|text| text.to_lowercase()).join(" ");
        Some(Connection {
            id,
            number,
            service: row.service,
            peer,
            address,
            pid: row.pid,
            state,
            tcp_state,
            age_ms: row.age_ms,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            cpu_ms: row.cpu_ms,
            rss_kib: row.rss_kib,
            text,
            line,
            ..Connection::default()
        })
    }

    /// What tells it apart from others.
    pub(super) fn key(&self) -> Key {
        Key { id: self.id.clone(), pid: self.pid }
    }

    /// Whether it is the connection with this key.
    pub(super) fn is(&self, key: &Key) -> bool {
        self.pid == key.pid && self.id == key.id
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A line of `list`.
    pub(in super::super) fn row(id: u64, peer: &str) -> Value {
        json!({
            "type": "connection", "id": id, "service": null, "peer": peer, "pid": id.saturating_add(1000),
            "state": "serving", "age_ms": id.saturating_mul(1000), "bytes_in": 0, "bytes_out": 0, "tcp_state": "ESTAB",
        })
    }

    /// A line of `status`.
    pub(in super::super) fn status(service: Option<&str>) -> Value {
        json!({
            "type": "status", "version": "0.1.0", "service": service, "pid": 900, "phase": "serving",
            "uptime_ms": 185_000, "connections": 3, "max_connections": 40, "accepted": 10, "rejected": 2,
            "failed": 1, "waiting": 0, "spares": 0,
            "processes": [
                { "role": "forker 1", "pid": 901, "restarts": 0 },
                { "role": "forker 2", "pid": 902, "restarts": 3 },
            ],
        })
    }

    pub(in super::super) fn snapshot(seconds: u64, status: &[Value], rows: &[Value]) -> Snapshot {
        let lines = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>();
        Snapshot::of(Duration::from_secs(seconds), &lines(status), lines(rows))
    }

    #[test]
    fn lines_become_rows() {
        let mut web = row(7, "[2001:db8::1]:4000");
        web["id"] = json!("web:7");
        web["service"] = json!("web");
        web["cpu_ms"] = json!(30);
        let shot = snapshot(1, &[status(Some("web"))], &[web, json!({ "id": "x" }), json!("nonsense")]);
        let connection = &shot.connections[0];
        assert_eq!((shot.connections.len(), shot.id_width), (1, 5));
        assert_eq!((connection.id.as_str(), connection.number), ("web:7", 7));
        assert_eq!(connection.service.as_deref(), Some("web"));
        assert_eq!(connection.address, "[2001:db8::1]:4000".parse().ok());
        assert_eq!((connection.cpu_ms, connection.rss_kib), (Some(30), None));
        let service = &shot.services[0];
        assert_eq!((service.pid, service.max_connections, service.processes[1].restarts), (900, 40, 3));
    }

    #[test]
    fn what_is_not_known_is_no_error() {
        let mut row = row(1, "uid:1000");
        for name in ["pid", "state", "age_ms", "bytes_in", "bytes_out", "tcp_state"] {
            row[name] = Value::Null;
        }
        let shot = snapshot(1, &[], &[row]);
        let connection = &shot.connections[0];
        assert_eq!((connection.bytes_in, connection.address, connection.age_ms), (None, None, 0));
    }

    #[test]
    fn text_of_the_server_is_escaped() {
        let mut hostile = row(1, "a\u{1b}[2J\n");
        hostile["state"] = json!("\u{7}");
        let mut name = status(Some("\u{1b}]0;x"));
        name["processes"][0]["role"] = json!("\u{9b}1m");
        let shot = snapshot(1, &[name], &[hostile]);
        let texts = [
            &shot.connections[0].peer,
            &shot.connections[0].state,
            &shot.services[0].processes[0].role,
            shot.services[0].name.as_ref().expect("a name"),
        ];
        assert!(texts.iter().all(|text| !text.chars().any(char::is_control)), "{texts:?}");
        assert_eq!(texts[0], "a\\u{1b}[2J");
    }

    #[test]
    fn rates_are_differences_by_connection_over_time() {
        let counts = |id: u64, bytes: u64, cpu: u64| {
            let mut row = row(id, "192.0.2.1:1");
            (row["bytes_in"], row["bytes_out"], row["cpu_ms"]) = (json!(bytes), json!(2 * bytes), json!(cpu));
            row
        };
        let mut later = status(None);
        (later["accepted"], later["rejected"]) = (json!(30), json!(1));
        let before = snapshot(1, &[status(None)], &[counts(1, 100, 0), counts(2, 500, 100)]);
        let rows = [counts(3, 7, 7), counts(2, 100, 1100), counts(1, 1100, 500)];
        let mut after = snapshot(3, &[later], &rows);
        after.compare(&before);
        let rates = |at: usize| {
            let one: &Connection = &after.connections[at];
            (one.rate_in, one.rate_out, one.cpu_percent)
        };
        assert_eq!(rates(0), (None, None, None), "it is new");
        assert_eq!(rates(1), (None, None, Some(50.0)), "its counts have become smaller");
        assert_eq!(rates(2), (Some(500.0), Some(1000.0), Some(25.0)));
        assert_eq!((after.services[0].accepted_rate, after.services[0].rejected_rate), (Some(10.0), None));
    }

    #[test]
    fn a_connection_of_another_process_with_the_same_id_is_another() {
        let mut other = row(1, "192.0.2.1:1");
        other["pid"] = json!(5);
        let mut after = snapshot(2, &[], &[other]);
        let before = snapshot(1, &[], &[row(1, "192.0.2.1:1")]);
        after.compare(&before);
        assert_eq!(after.connections[0].rate_in, None);
        assert!(!after.connections[0].is(&before.connections[0].key()));
    }
}
