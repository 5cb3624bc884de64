//! The table of connections: its columns, as many as fit, and the text of one row.

use super::snapshot::Connection;
use crate::control::text::{age, bytes};

/// The peer with the longest text: an IPv6 address with a port.
const WIDEST_PEER: usize = 47;

/// A column.
#[derive(Clone, Copy)]
struct Column {
    heading: &'static str,
    width: usize,
    is_number: bool,
    /// Columns with a small rank are there first, all of a rank at the same time.
    rank: u8,
    value: fn(&Connection) -> String,
}

const ID: usize = 0;
const PEER: usize = 1;

/// All columns, from left to right.
const COLUMNS: [Column; 12] = [
    Column { heading: "ID", width: 4, is_number: true, rank: 0, value: |one| one.id.clone() },
    Column { heading: "PEER", width: 21, is_number: false, rank: 0, value: |one| one.peer.clone() },
    Column { heading: "PID", width: 7, is_number: true, rank: 6, value: |one| one.pid.to_string() },
    Column { heading: "STATE", width: 7, is_number: false, rank: 3, value: |one| one.state.clone() },
    Column { heading: "TCP", width: 10, is_number: false, rank: 7, value: |one| one.tcp_state.clone() },
    Column { heading: "AGE", width: 9, is_number: true, rank: 1, value: |one| age(one.age_ms) },
    Column { heading: "IN/s", width: 6, is_number: true, rank: 2, value: |one| rate(one.rate_in) },
    Column { heading: "OUT/s", width: 6, is_number: true, rank: 2, value: |one| rate(one.rate_out) },
    Column { heading: "IN", width: 6, is_number: true, rank: 5, value: |one| bytes(one.bytes_in) },
    Column { heading: "OUT", width: 6, is_number: true, rank: 5, value: |one| bytes(one.bytes_out) },
    Column { heading: "CPU%", width: 5, is_number: true, rank: 4, value: share },
    Column { heading: "MEM", width: 5, is_number: true, rank: 4, value: memory },
];

fn rate(rate: Option<f64>) -> String {
    bytes(rate.map(|rate| rate.round() as u64))
}

fn share(connection: &Connection) -> String {
    connection.cpu_percent.map_or_else(|| "-".to_owned(), |share| format!("{share:.1}"))
}

fn memory(connection: &Connection) -> String {
    bytes(connection.rss_kib.map(|kib| kib.saturating_mul(1024)))
}

/// The columns of a table of this width.
pub(super) struct Table(Vec<Column>);

impl Table {
    /// Chooses the columns that fit. The peer has the room that is left.
    pub(super) fn new(width: usize, id_width: usize) -> Table {
        let mut all = COLUMNS;
        all[ID].width = id_width.clamp(all[ID].width, 24);
        let mut chosen: Vec<Column> = Vec::new();
        for rank in 0..=7 {
            let more: Vec<Column> = all.iter().filter(|column| column.rank <= rank).copied().collect();
            if rank > 0 && total(&more) > width {
                // A smaller one may fit in its place.
                all.iter_mut().filter(|column| column.rank == rank).for_each(|column| column.rank = u8::MAX);
                continue;
            }
            chosen = more;
        }
        let left = width.saturating_sub(total(&chosen));
        chosen[PEER].width = (chosen[PEER].width + left).min(WIDEST_PEER);
        Table(chosen)
    }

    /// The line of headings.
    pub(super) fn headings(&self) -> String {
        self.line(|column| column.heading.to_owned())
    }

    /// The line of a connection.
    pub(super) fn row(&self, connection: &Connection) -> String {
        self.line(|column| (column.value)(connection))
    }

    fn line(&self, value: impl Fn(&Column) -> String) -> String {
        let cells = self.0.iter().map(|column| {
            let text: String = value(column).chars().take(column.width).collect();
            let width = column.width;
            if column.is_number { format!("{text:>width$}") } else { format!("{text:width$}") }
        });
        cells.collect::<Vec<_>>().join(" ")
    }
}

/// The width of a line with these columns.
fn total(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.width).sum::<usize>() + columns.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::snapshot::tests::{row, snapshot};
    use super::*;

    fn headings(width: usize) -> Vec<String> {
        Table::new(width, 3).headings().split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_wide_terminal_has_more_columns() {
        assert_eq!(headings(20), ["ID", "PEER"]);
        assert_eq!(headings(40), ["ID", "PEER", "AGE"]);
        assert_eq!(headings(60), ["ID", "PEER", "STATE", "AGE", "IN/s", "OUT/s"]);
        assert_eq!(headings(80), ["ID", "PEER", "PID", "STATE", "AGE", "IN/s", "OUT/s", "CPU%", "MEM"]);
        assert_eq!(headings(120).len(), 12);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut long = row(u64::MAX, "[2001:db8:1111:2222:3333:4444:5555:6666]:65535");
        long["id"] = json!(format!("{}:{}", "service".repeat(10), u64::MAX));
        for name in ["age_ms", "bytes_in", "bytes_out", "rss_kib", "cpu_ms"] {
            long[name] = json!(u64::MAX);
        }
        let shot = snapshot(1, &[], &[long]);
        for width in 30..250 {
            let table = Table::new(width, shot.id_width);
            for line in [table.headings(), table.row(&shot.connections[0])] {
                assert!(line.chars().count() <= width.max(46), "{width}: {line}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let mut known = row(3, "192.0.2.1:5000");
        let shot = snapshot(1, &[], &[known.clone()]);
        let table = Table::new(80, 1);
        let cells = |row: String| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            cells(table.row(&shot.connections[0])),
            ["3", "192.0.2.1:5000", "1003", "serving", "3.0s", "-", "-", "-", "-"]
        );
        (known["cpu_ms"], known["rss_kib"]) = (json!(500), json!(2048));
        let mut before = known.clone();
        before["cpu_ms"] = json!(0);
        known["bytes_in"] = json!(4096);
        let mut shot = snapshot(2, &[], &[known]);
        shot.compare(&snapshot(1, &[], &[before]));
        assert_eq!(cells(table.row(&shot.connections[0]))[5..], ["4.0K", "0", "50.0", "2.0M"]);
    }
}
