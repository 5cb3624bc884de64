//! The texts that take the place of tree and table: help, all processes, one connection.

use serde_json::{Map, Value};

use super::keys::KEYS;
use super::snapshot::Connection;
use super::state::{Mode, Page, State};
use super::tree;
use crate::control::text::{age, bytes, field};

/// The fields of a connection that come first; the others follow in the order of their names.
const FIRST: [&str; 11] = [
    "id",
    "service",
    "peer",
    "proxy",
    "pid",
    "state",
    "tcp_state",
    "accepted",
    "age_ms",
    "bytes_in",
    "bytes_out",
];

/// The heading of the page that is shown.
pub(super) fn heading(state: &State) -> String {
    match &state.mode {
        Mode::Page(Page::Help, _) => "keys".to_owned(),
        Mode::Page(Page::Tree, _) => "processes".to_owned(),
        Mode::Page(Page::Details(connection, false), _) => format!("connection {}", connection.id),
        Mode::Page(Page::Details(connection, true), _) => {
            format!("connection {} has ended; this is the last that was seen of it", connection.id)
        }
        _ => String::new(),
    }
}

/// The lines of the page that is shown.
pub(super) fn lines(state: &State) -> Vec<String> {
    match &state.mode {
        Mode::Page(Page::Help, _) => KEYS.iter().map(|(keys, what)| format!("{keys:18} {what}")).collect(),
        Mode::Page(Page::Tree, _) => tree::lines(&state.snapshot, usize::from(state.size.0)),
        Mode::Page(Page::Details(connection, _), _) => details(connection),
        _ => Vec::new(),
    }
}

/// Everything that the server tells of a connection, and how fast it is.
fn details(connection: &Connection) -> Vec<String> {
    let row: Value = serde_json::from_str(&connection.line).unwrap_or_default();
    let none = Map::new();
    let names = row.as_object().unwrap_or(&none).keys().map(String::as_str);
    let others = names.filter(|name| !FIRST.contains(name) && *name != "type");
    let names = FIRST.into_iter().filter(|name| !row[*name].is_null()).chain(others);
    let mut lines: Vec<String> = names.map(|name| line(name, &value(&row, name))).collect();
    for (name, rate) in [("in a second", connection.rate_in), ("out a second", connection.rate_out)] {
        lines.push(line(name, &bytes(rate.map(|rate| rate.round() as u64))));
    }
    let share = connection.cpu_percent.map_or_else(|| "-".to_owned(), |share| format!("{share:.1} %"));
    lines.push(line("processor", &share));
    lines
}

fn line(name: &str, value: &str) -> String {
    // The server chooses the names, too.
    format!("{:15} {value}", tine::cli::one_line(name))
}

/// A field as text. Times and sizes are as the table has them, with the exact number.
fn value(row: &Value, name: &str) -> String {
    let exact = field(row, name);
    match (row[name].as_u64(), name) {
        (Some(number), name) if name.ends_with("_ms") && number >= 1000 => {
            format!("{exact} ({})", age(number))
        }
        (Some(number), "bytes_in" | "bytes_out") if number >= 1024 => {
            format!("{exact} ({})", bytes(Some(number)))
        }
        (Some(number), name) if name.ends_with("_kib") => {
            format!("{exact} ({})", bytes(Some(number.saturating_mul(1024))))
        }
        _ => exact,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::snapshot::tests::{row, snapshot};
    use super::*;

    #[test]
    fn details_have_every_field() {
        let mut known = row(12, "192.0.2.1:5000");
        known["bytes_in"] = json!(20 << 20);
        known["proxy"] = json!("198.51.100.1:1");
        known["\u{1b}[2J"] = json!("a later field\u{7}");
        known["cpu_ms"] = json!(12);
        let shot = snapshot(1, &[], &[known]);
        let lines = details(&shot.connections[0]);
        assert_eq!(lines[0], "id              12");
        for part in [
            "peer            192.0.2.1:5000",
            "proxy           198.51.100.1:1",
            "bytes_in        20971520 (20M)",
            "age_ms          12000 (12s)",
            "cpu_ms          12",
            "\\u{1b}[2J       a later field\\u{7}",
            "in a second     -",
        ] {
            assert!(lines.iter().any(|line| line == part), "{part}: {lines:#?}");
        }
    }
}
