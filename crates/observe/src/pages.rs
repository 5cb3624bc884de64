//! A part of a list of connections: which ones, in which order, from where on.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// Which part of a list a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) ended: bool,
    service: Option<String>,
    state: Option<String>,
    /// The address of the client.
    peer: Option<Block>,
    /// In the id, the peer, the state or the outcome.
    search: Option<String>,
    older_ms: Option<u64>,
    younger_ms: Option<u64>,
    sort: SortKey,
    descending: bool,
    limit: usize,
    offset: usize,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SortKey {
    /// As the server has it: by id, or the newest first.
    Given,
    Text(&'static str),
    Number(&'static str),
}

/// Connections of a page, unless a client asks for another number; and the most.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;

impl Page {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(query: &str) -> Result<Page, String> {
        let mut page = Page {
            ended: false,
            service: None,
            state: None,
            peer: None,
            search: None,
            older_ms: None,
            younger_ms: None,
            sort: SortKey::Given,
            descending: false,
            limit: LIMIT,
            offset: 0,
        };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = || value.parse::<u64>().map_err(|_| format!("{key} is not a whole number"));
            match key.as_ref() {
                "ended" => page.ended = flag(&value).ok_or("ended is neither true nor false")?,
                "service" => page.service = some(&value),
                "state" => page.state = some(&value),
                "peer" => page.peer = some(&value).map(|block| Block::parse(&block)).transpose()?,
                "search" => page.search = some(&value.to_lowercase()),
                "older_ms" => page.older_ms = Some(number()?),
                "younger_ms" => page.younger_ms = Some(number()?),
                "sort" => (page.sort, page.descending) = sort(&value)?,
                "limit" => page.limit = usize::try_from(number()?).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
                "offset" => page.offset = usize::try_from(number()?).unwrap_or(usize::MAX),
                _ => return Err(format!("there is no parameter {key}")),
            }
        }
        Ok(page)
    }

    /// The part of a list, with the number of all connections that match.
    pub(crate) fn of(&self, all: &[Value]) -> Value {
        let mut rows: Vec<&Value> = all.iter().filter(|row| self.matches(row)).collect();
        match self.sort {
            SortKey::Given => {}
            SortKey::Text(key) => rows.sort_by_key(|row| row[key].as_str().unwrap_or_default()),
            SortKey::Number(key) => rows.sort_by_key(|row| row[key].as_u64()),
        }
        if self.descending {
            rows.reverse();
        }
        let total = rows.len();
        let connections: Vec<&Value> = rows.into_iter().skip(self.offset).take(self.limit).collect();
        json!({ "total": total, "offset": self.offset, "connections": connections })
    }

    fn matches(&self, row: &Value) -> bool {
        let text = |key: &str| match &row[key] {
            Value::String(text) => text.to_lowercase(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let age = row["age_ms"].as_u64().unwrap_or(0);
        self.service.as_ref().is_none_or(|service| row["service"] == **service)
            && self.state.as_ref().is_none_or(|state| row["state"] == **state)
            && self.peer.is_none_or(|block| block.contains(&text("peer")))
            && self.older_ms.is_none_or(|least| age >= least)
            && self.younger_ms.is_none_or(|most| age < most)
            && self.search.as_ref().is_none_or(|search| {
                ["id", "peer", "state", "outcome", "service"].iter().any(|key| text(key).contains(search))
            })
    }
}

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    address: IpAddr,
    /// Bits that addresses in it have in common.
    length: u32,
}

impl Block {
    /// Reads `192.0.2.0/24`, or one address.
    fn parse(text: &str) -> Result<Block, String> {
        let wrong = || format!("{text} is no address block");
        let (address, length) = text.split_once('/').map_or((text, None), |(one, rest)| (one, Some(rest)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if length <= most { Ok(Block { address, length }) } else { Err(wrong()) }
    }

    /// Whether the address of a peer is in it, as a list shows the peer.
    fn contains(self, peer: &str) -> bool {
        let shifted = |bits: u128, width: u32| bits.checked_shr(width - self.length).unwrap_or(0);
        match (self.address, peer.parse::<SocketAddr>().map(|peer| peer.ip().to_canonical())) {
            (IpAddr::V4(block), Ok(IpAddr::V4(address))) => {
                let bits = |address: std::net::Ipv4Addr| shifted(u128::from(address.to_bits()), 32);
                bits(block) == bits(address)
            }
            (IpAddr::V6(block), Ok(IpAddr::V6(address))) => {
                shifted(block.to_bits(), 128) == shifted(address.to_bits(), 128)
            }
            _ => false,
        }
    }
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "0" | "false" => Some(false),
        "1" | "true" => Some(true),
        _ => None,
    }
}

/// The key of an order, and whether it is descending.
fn sort(value: &str) -> Result<(SortKey, bool), String> {
    let (name, descending) = value.strip_prefix('-').map_or((value, false), |name| (name, true));
    let key = match name {
        // A number, or a service and a number: the server's order is by it.
        "" | "id" => SortKey::Given,
        "age" => SortKey::Number("age_ms"),
        "peer" => SortKey::Text("peer"),
        "outcome" => SortKey::Text("outcome"),
        "bytes_in" => SortKey::Number("bytes_in"),
        "bytes_out" => SortKey::Number("bytes_out"),
        _ => return Err(format!("there is no order {name}: id, age, peer, outcome, bytes_in or bytes_out")),
    };
    Ok((key, descending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Value> {
        let row = |id: u64, service: &str, peer: &str, age: u64| {
            json!({
                "id": format!("{service}:{id}"), "service": service, "peer": peer, "state": "serving",
                "age_ms": age, "bytes_in": null,
            })
        };
        vec![
            row(1, "a", "192.0.2.9:5", 30),
            row(2, "b", "192.0.2.1:5", 10),
            row(3, "a", "[2001:db8::1]:7", 20),
        ]
    }

    #[test]
    fn pages_have_what_is_asked_for() {
        for (query, total, ids) in [
            ("", 3, vec!["a:1", "b:2", "a:3"]),
            ("sort=-id", 3, vec!["a:3", "b:2", "a:1"]),
            ("sort=age", 3, vec!["b:2", "a:3", "a:1"]),
            ("sort=peer&limit=1", 3, vec!["b:2"]),
            ("sort=peer&limit=1&offset=1", 3, vec!["a:1"]),
            ("offset=99999999999999", 3, vec![]),
            ("service=a&state=serving", 2, vec!["a:1", "a:3"]),
            ("search=DB8", 1, vec!["a:3"]),
            ("search=b%3A2", 1, vec!["b:2"]),
            ("older_ms=20&younger_ms=30", 1, vec!["a:3"]),
            ("peer=192.0.2.0/29", 1, vec!["b:2"]),
            ("peer=192.0.2.9", 1, vec!["a:1"]),
            ("peer=0.0.0.0/0", 2, vec!["a:1", "b:2"]),
            ("peer=2001:db8::%2f32", 1, vec!["a:3"]),
            ("peer=::/0&sort=id", 1, vec!["a:3"]),
            ("sort=-bytes_in", 3, vec!["a:3", "b:2", "a:1"]),
            ("state=", 3, vec!["a:1", "b:2", "a:3"]),
        ] {
            let found = Page::parse(query).expect(query).of(&rows());
            let found_ids: Vec<&str> = found["connections"]
                .as_array()
                .expect("connections")
                .iter()
                .filter_map(|row| row["id"].as_str())
                .collect();
            assert_eq!((found["total"].as_u64(), found_ids), (Some(total), ids), "{query}");
        }
    }

    #[test]
    fn wrong_queries_are_named() {
        for query in [
            "limit=-1",
            "limit=x",
            "sort=colour",
            "ended=perhaps",
            "odd=1",
            "older_ms=1e3",
            "peer=x",
            "peer=::/129",
            "peer=1.2.3.4/33",
        ] {
            assert!(Page::parse(query).is_err(), "{query}");
        }
        assert!(Page::parse("ended=1").is_ok_and(|page| page.ended));
        assert_eq!(Page::parse("limit=99999999999").map(|page| page.limit), Ok(MAX_LIMIT));
    }
}
