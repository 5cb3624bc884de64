//! Which connections are shown, and in which order.

use std::cmp::Ordering;

use super::snapshot::Connection;

/// What connections are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Id,
    Age,
    Peer,
    In,
    Out,
    Cpu,
    Memory,
}

impl Sort {
    /// Its name on the screen.
    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Id => "id",
            Sort::Age => "age",
            Sort::Peer => "peer",
            Sort::In => "in",
            Sort::Out => "out",
            Sort::Cpu => "cpu",
            Sort::Memory => "memory",
        }
    }

    /// The one after it.
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Id => Sort::Age,
            Sort::Age => Sort::Peer,
            Sort::Peer => Sort::In,
            Sort::In => Sort::Out,
            Sort::Out => Sort::Cpu,
            Sort::Cpu => Sort::Memory,
            Sort::Memory => Sort::Id,
        }
    }

    /// The order of two connections: names ascend, and what there can be much of descends. Equal
    /// ones have the order of their ids.
    fn compare(self, one: &Connection, other: &Connection) -> Ordering {
        let descending = |of: fn(&Connection) -> f64| of(other).total_cmp(&of(one));
        let key = match self {
            Sort::Id => Ordering::Equal,
            Sort::Age => other.age_ms.cmp(&one.age_ms),
            Sort::Peer => peer(one).cmp(&peer(other)),
            Sort::In => descending(|one| one.rate_in.unwrap_or(-1.0)).then(other.bytes_in.cmp(&one.bytes_in)),
            Sort::Out => {
                descending(|one| one.rate_out.unwrap_or(-1.0)).then(other.bytes_out.cmp(&one.bytes_out))
            }
            Sort::Cpu => {
                descending(|one| one.cpu_percent.unwrap_or(-1.0)).then(other.cpu_ms.cmp(&one.cpu_ms))
            }
            Sort::Memory => other.rss_kib.cmp(&one.rss_kib),
        };
        key.then_with(|| (&one.service, one.number).cmp(&(&other.service, other.number)))
    }
}

/// Addresses by their number, before other peers by their text.
fn peer(connection: &Connection) -> (bool, Option<std::net::SocketAddr>, &str) {
    (connection.address.is_none(), connection.address, &connection.peer)
}

/// The places of the connections that match a filter, sorted. The filter matches a part of the id,
/// with its service, of the peer or of a state, whether letters are small or capital.
pub(super) fn arrange(connections: &[Connection], filter: &str, sort: Sort, is_reversed: bool) -> Vec<usize> {
    let filter = filter.to_lowercase();
    let mut order: Vec<usize> =
        (0..connections.len()).filter(|at| connections[*at].text.contains(&filter)).collect();
    order.sort_by(|one, other| {
        let order = sort.compare(&connections[*one], &connections[*other]);
        if is_reversed { order.reverse() } else { order }
    });
    order
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::snapshot::tests::{row, snapshot};
    use super::*;

    fn connections() -> Vec<Connection> {
        let rows = [(2, "192.0.2.10:9", 5, 0), (1, "192.0.2.9:1", 7, 90), (10, "uid:0", 7, 20)];
        let rows = rows.map(|(id, peer, bytes, kib)| {
            let mut row = row(id, peer);
            (row["bytes_in"], row["rss_kib"]) = (json!(bytes), json!(kib));
            row
        });
        snapshot(1, &[], &rows).connections
    }

    fn ids(filter: &str, sort: Sort, is_reversed: bool) -> Vec<u64> {
        let connections = connections();
        arrange(&connections, filter, sort, is_reversed).iter().map(|at| connections[*at].number).collect()
    }

    #[test]
    fn every_key_sorts() {
        for (sort, expected) in [
            (Sort::Id, [1, 2, 10]),
            (Sort::Age, [10, 2, 1]),
            (Sort::Peer, [1, 2, 10]),
            (Sort::In, [1, 10, 2]),
            (Sort::Out, [1, 2, 10]),
            (Sort::Cpu, [1, 2, 10]),
            (Sort::Memory, [1, 10, 2]),
        ] {
            assert_eq!(ids("", sort, false), expected, "{}", sort.name());
            let reversed: Vec<u64> = expected.into_iter().rev().collect();
            assert_eq!(ids("", sort, true), reversed, "{} reversed", sort.name());
        }
    }

    #[test]
    fn the_faster_connection_is_first_whatever_it_has_received_before() {
        let mut connections = connections();
        (connections[0].rate_in, connections[1].rate_in) = (Some(10.0), Some(2.0));
        assert_eq!(arrange(&connections, "", Sort::In, false), [0, 1, 2]);
    }

    #[test]
    fn a_filter_matches_parts_of_ids_peers_and_states() {
        for (filter, expected) in [
            ("192.0.2", &[1, 2][..]),
            ("UID", &[10]),
            ("estab", &[1, 2, 10]),
            ("serving", &[1, 2, 10]),
            ("10", &[2, 10]),
            ("no such", &[]),
        ] {
            assert_eq!(ids(filter, Sort::Id, false), expected, "{filter}");
        }
    }

    #[test]
    fn the_keys_are_a_circle() {
        let mut sort = Sort::default();
        let names: std::collections::BTreeSet<&str> = (0..7)
            .map(|_| {
                sort = sort.next();
                sort.name()
            })
            .collect();
        assert_eq!((sort, names.len()), (Sort::Id, 7));
    }
}
