//! Requests that steer: what a path, a query and a body ask for, as requests of the control
//! protocol (`docs/control.md`). The server checks all of it again.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Map, Value, json};

/// What a client of the observer wants to have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// End the connections that the body selects.
    Kill,
    /// End the connection with this id.
    KillOne(String),
    /// Pause this service, or all.
    Pause(Option<String>),
    /// Have this service, or all, accept again.
    Resume(Option<String>),
    /// Ban the block in the body.
    Ban,
    /// Lift the ban of the block in the query.
    Unban,
}

/// Connections that one request names, at most.
const MAX_IDS: usize = 1_000;

const FIELDS_OF_KILL: &[&str] = &["ids", "peer", "older_ms", "younger_ms", "state", "service"];
const FIELDS_OF_BAN: &[&str] = &["block", "for_ms", "kill", "service"];
const FIELDS_OF_UNBAN: &[&str] = &["block", "service"];

/// The fields of a request.
type Fields = Map<String, Value>;

impl Steering {
    /// What a path asks for that has no other use.
    pub(crate) fn of_path(path: &str) -> Option<Steering> {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        match parts[..] {
            ["kill"] => Some(Steering::Kill),
            ["pause"] => Some(Steering::Pause(None)),
            ["resume"] => Some(Steering::Resume(None)),
            ["connections", id, "kill"] => name(id).map(Steering::KillOne),
            ["services", service, "pause"] => name(service).map(|name| Steering::Pause(Some(name))),
            ["services", service, "resume"] => name(service).map(|name| Steering::Resume(Some(name))),
            _ => None,
        }
    }

    /// What a method of `/api/v1/bans` asks for.
    pub(crate) fn of_bans(method: &Method) -> Option<Steering> {
        match *method {
            Method::POST => Some(Steering::Ban),
            Method::DELETE => Some(Steering::Unban),
            _ => None,
        }
    }

    /// The requests to the server, each of which is about something of its own.
    ///
    /// # Errors
    /// What is wrong with the query or the body.
    pub(crate) fn requests(&self, query: &str, body: &[u8]) -> Result<Vec<Value>, String> {
        let fields = match self {
            Steering::Unban if !body.is_empty() => {
                return Err("the block is in the query, not in a body".into());
            }
            Steering::Unban => of_query(query)?,
            _ if !query.is_empty() => return Err("parameters are in the body, not in the query".into()),
            _ => of_body(body)?,
        };
        let service = |service: &Option<String>| {
            let named = service.iter().map(|name| ("service".to_owned(), json!(name)));
            named.collect::<Fields>()
        };
        match self {
            Steering::Kill => kills(known(fields, FIELDS_OF_KILL)?),
            Steering::KillOne(id) => {
                known(fields, &[])?;
                kills(Fields::from_iter([("ids".to_owned(), json!([id]))]))
            }
            Steering::Pause(name) => known(fields, &[]).map(|_| vec![request("pause", service(name))]),
            Steering::Resume(name) => known(fields, &[]).map(|_| vec![request("resume", service(name))]),
            Steering::Ban => known(fields, FIELDS_OF_BAN).map(|fields| vec![request("ban", fields)]),
            Steering::Unban => known(fields, FIELDS_OF_UNBAN).map(|fields| vec![request("unban", fields)]),
        }
    }
}

/// The last lines of several replies as one: it is enough that one is done.
pub(crate) fn merged(replies: Vec<Value>) -> Value {
    let (done, failed): (Vec<Value>, Vec<Value>) =
        replies.into_iter().partition(|reply| reply["done"] == true);
    match failed.into_iter().next() {
        Some(failed) if done.is_empty() => failed,
        _ => {
            let count: u64 = done.iter().filter_map(|reply| reply["count"].as_u64()).sum();
            json!({ "done": true, "count": count })
        }
    }
}

fn request(command: &str, mut fields: Fields) -> Value {
    fields.insert("version".to_owned(), json!(1));
    fields.insert("command".to_owned(), json!(command));
    Value::Object(fields)
}

fn of_query(query: &str) -> Result<Fields, String> {
    let mut fields = Fields::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if fields.insert(key.to_string(), json!(value)).is_some() {
            return Err(format!("there are two parameters {key}"));
        }
    }
    Ok(fields)
}

fn of_body(body: &[u8]) -> Result<Fields, String> {
    if body.is_empty() {
        return Ok(Fields::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("the body is not an object".to_owned()),
        Err(why) => Err(format!("the body is not JSON: {why}")),
    }
}

/// The fields, if all have names that are known: a misspelt filter must not select everything.
fn known(fields: Fields, names: &[&str]) -> Result<Fields, String> {
    match fields.keys().find(|key| !names.contains(&key.as_str())) {
        None => Ok(fields),
        Some(other) => Err(format!("unknown field '{other}'")),
    }
}

/// Requests to end connections: one for each service whose connections are named.
fn kills(mut fields: Fields) -> Result<Vec<Value>, String> {
    let ids = match fields.remove("ids") {
        None | Some(Value::Null) => return Ok(vec![request("kill", fields)]),
        Some(Value::Array(ids)) if (1..=MAX_IDS).contains(&ids.len()) => ids,
        Some(_) => return Err(format!("ids is not an array of 1 to {MAX_IDS} ids")),
    };
    let mut by_service: BTreeMap<Option<String>, Vec<u64>> = BTreeMap::new();
    for id in &ids {
        let (service, id) = parse_id(id).ok_or("an id is a number, or \"SERVICE:NUMBER\"")?;
        by_service.entry(service).or_default().push(id);
    }
    let requests = by_service.into_iter().map(|(service, ids)| {
        let mut fields = fields.clone();
        fields.insert("ids".to_owned(), json!(ids));
        if let Some(service) = service {
            match fields.insert("service".to_owned(), json!(service)) {
                Some(other) if other != service => return Err("an id is of another service".to_owned()),
                _ => {}
            }
        }
        Ok(request("kill", fields))
    });
    requests.collect()
}

/// The service and the number of an id, as a list has it.
fn parse_id(id: &Value) -> Option<(Option<String>, u64)> {
    match id {
        Value::String(id) => match id.rsplit_once(':') {
            Some((service, id)) if !service.is_empty() => Some((Some(service.to_owned()), id.parse().ok()?)),
            _ => Some((None, id.parse().ok()?)),
        },
        id => Some((None, id.as_u64()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn paths_and_methods_steer() {
        for (path, expected) in [
            ("/api/v1/kill", Some(Steering::Kill)),
            ("/api/v1/connections/7/kill", Some(Steering::KillOne("7".into()))),
            ("/api/v1/connections/git:7/kill", Some(Steering::KillOne("git:7".into()))),
            ("/api/v1/connections//kill", None),
            ("/api/v1/connections/7/show", None),
            ("/api/v1/connections/7/kill/", None),
            ("/api/v1/pause", Some(Steering::Pause(None))),
            ("/api/v1/services/git/pause", Some(Steering::Pause(one("git")))),
            ("/api/v1/services/git/resume", Some(Steering::Resume(one("git")))),
            ("/api/v1/services//pause", None),
            ("/api/v1/services/git/drain", None),
            ("/api/v1/drain", None),
            ("/kill", None),
        ] {
            assert_eq!(Steering::of_path(path), expected, "{path}");
        }
        assert_eq!(Steering::of_bans(&Method::POST), Some(Steering::Ban));
        assert_eq!(Steering::of_bans(&Method::DELETE), Some(Steering::Unban));
        assert_eq!(Steering::of_bans(&Method::PUT), None);
    }

    #[test]
    fn bodies_and_queries_become_requests() {
        let kill = |rest: &str| format!(r#"{{"version":1,"command":"kill",{rest}}}"#);
        for (steering, query, body, expected) in [
            (Steering::KillOne("7".into()), "", "", vec![kill(r#""ids":[7]"#)]),
            (Steering::KillOne("a:7".into()), "", "{}", vec![kill(r#""ids":[7],"service":"a""#)]),
            (
                Steering::Kill,
                "",
                r#"{"ids":["b:2","a:1","b:3",9]}"#,
                vec![
                    kill(r#""ids":[9]"#),
                    kill(r#""ids":[1],"service":"a""#),
                    kill(r#""ids":[2,3],"service":"b""#),
                ],
            ),
            (
                Steering::Kill,
                "",
                r#"{"peer":"192.0.2.0/24","older_ms":5,"state":"serving","service":"a"}"#,
                vec![kill(r#""peer":"192.0.2.0/24","older_ms":5,"state":"serving","service":"a""#)],
            ),
            (Steering::Pause(None), "", "", vec![r#"{"version":1,"command":"pause"}"#.into()]),
            (
                Steering::Resume(one("a")),
                "",
                "",
                vec![r#"{"version":1,"command":"resume","service":"a"}"#.into()],
            ),
            (
                Steering::Ban,
                "",
                r#"{"block":"192.0.2.1","for_ms":1000,"kill":true}"#,
                vec![r#"{"version":1,"command":"ban","block":"192.0.2.1","for_ms":1000,"kill":true}"#.into()],
            ),
            (
                Steering::Unban,
                "block=2001:db8::%2F32&service=a",
                "",
                vec![r#"{"version":1,"command":"unban","block":"2001:db8::/32","service":"a"}"#.into()],
            ),
        ] {
            let expected: Vec<Value> =
                expected.iter().map(|text| serde_json::from_str(text).expect(text)).collect();
            assert_eq!(
                steering.requests(query, body.as_bytes()),
                Ok(expected),
                "{steering:?} {query} {body}"
            );
        }
    }

    #[test]
    fn wrong_bodies_and_queries_are_named() {
        for (steering, query, body, why) in [
            (Steering::Kill, "", "[]", "not an object"),
            (Steering::Kill, "", "peer=192.0.2.1", "not JSON"),
            (Steering::Kill, "", "{} {}", "not JSON"),
            (Steering::Kill, "", r#"{"pier":"192.0.2.1"}"#, "unknown field 'pier'"),
            (Steering::Kill, "", r#"{"command":"drain"}"#, "unknown field 'command'"),
            (Steering::Kill, "peer=192.0.2.1", "", "in the body"),
            (Steering::Kill, "", r#"{"ids":[]}"#, "1 to 1000"),
            (Steering::Kill, "", r#"{"ids":7}"#, "1 to 1000"),
            (Steering::Kill, "", r#"{"ids":["x"]}"#, "an id is"),
            (Steering::Kill, "", r#"{"ids":["a:1"],"service":"b"}"#, "of another service"),
            (Steering::KillOne("a:x".into()), "", "", "an id is"),
            (Steering::KillOne("7".into()), "", r#"{"ids":[8]}"#, "unknown field 'ids'"),
            (Steering::Pause(one("a")), "", r#"{"service":"b"}"#, "unknown field 'service'"),
            (Steering::Ban, "", r#"{"block":"192.0.2.1","binary":"/x"}"#, "unknown field 'binary'"),
            (Steering::Unban, "block=192.0.2.1", "{}", "in the query"),
            (Steering::Unban, "block=192.0.2.1&block=192.0.2.2", "", "two parameters block"),
            (Steering::Unban, "blok=192.0.2.1", "", "unknown field 'blok'"),
        ] {
            let said = steering.requests(query, body.as_bytes()).expect_err(body);
            assert!(said.contains(why), "{steering:?} {query} {body}: {said}");
        }
        let many = json!({ "ids": vec![7; MAX_IDS + 1] }).to_string();
        assert!(Steering::Kill.requests("", many.as_bytes()).is_err());
    }

    #[test]
    fn replies_become_one() {
        let (done, failed) = (json!({ "done": true, "count": 2 }), json!({ "error": "no", "code": 111 }));
        for (replies, expected) in [
            (vec![done.clone()], done.clone()),
            (vec![done.clone(), done.clone()], json!({ "done": true, "count": 4 })),
            (vec![failed.clone(), done.clone()], done.clone()),
            (vec![failed.clone(), failed.clone()], failed),
        ] {
            assert_eq!(merged(replies.clone()), expected, "{replies:?}");
        }
    }
}
