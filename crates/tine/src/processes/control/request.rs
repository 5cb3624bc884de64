//! Requests of controllers: one JSON object in a line. This is the only code that reads what a
//! controller sends; docs/control.md describes it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::admission::access::prefix::Prefix;
use crate::error::Error;
use crate::ipc::setting::{Setting, SettingValue};
use crate::ipc::steering::MAX_PATH;
use crate::net::operator::Privilege;

/// The version of the protocol.
pub(crate) const VERSION: u64 = 1;

/// The longest request in bytes.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;

/// What a controller requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Status,
    Metrics,
    List(ListRequest),
    Show {
        id: u64,
    },
    Kill(Filter),
    Ban {
        block: Prefix,
        time: Option<Duration>,
        kill: bool,
    },
    Unban {
        block: Prefix,
    },
    Bans,
    /// The groups of crash reports, or the report with a name.
    Crashes {
        name: Option<String>,
    },
    Pause,
    Resume,
    Drain,
    Logs(LogRequest),
    Set {
        setting: Setting,
        value: SettingValue,
    },
    Settings,
    Reload,
    Upgrade {
        binary: Option<PathBuf>,
    },
}

/// Which connections are listed, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ListRequest {
    pub(crate) ended: bool,
    pub(crate) filter: Filter,
    pub(crate) sort: Sort,
    pub(crate) limit: Option<usize>,
    /// Without what only the kernel's table of sockets has, which is long to read.
    pub(crate) brief: bool,
}

/// Which lines of the log a request is about: those that match all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogRequest {
    /// The number of the last lines, at most.
    pub(crate) lines: Option<usize>,
    /// Whether it is also about lines that are written later.
    pub(crate) follow: bool,
    pub(crate) id: Option<u64>,
    pub(crate) peer: Option<Prefix>,
    pub(crate) form: LineForm,
}

/// The form in which lines of the log are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LineForm {
    /// Objects with the keys of the line.
    #[default]
    Json,
    /// The line as text.
    Text { colour: bool },
}

/// Which connections a request is about: those that match all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    pub(crate) ids: Option<Vec<u64>>,
    pub(crate) peer: Option<Prefix>,
    pub(crate) older: Option<Duration>,
    pub(crate) younger: Option<Duration>,
    pub(crate) state: Option<String>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) key: SortKey,
    pub(crate) descending: bool,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SortKey {
    #[default]
    Id,
    Age,
    Peer,
    BytesIn,
    BytesOut,
    /// When a connection has ended.
    End,
}

/// The names of the sort keys.
const SORT_KEYS: [(&str, SortKey); 6] = [
    ("id", SortKey::Id),
    ("age", SortKey::Age),
    ("peer", SortKey::Peer),
    ("bytes_in", SortKey::BytesIn),
    ("bytes_out", SortKey::BytesOut),
    ("ended", SortKey::End),
];

/// The path of a binary.
fn binary(path: String) -> Result<PathBuf, String> {
    match path.starts_with('/') && path.len() <= MAX_PATH && !path.contains('\0') {
        true => Ok(path.into()),
        false => Err(format!("binary is not an absolute path of at most {MAX_PATH} bytes")),
    }
}

impl Request {
    /// What an operator needs to be allowed for this.
    pub(crate) fn needs(&self) -> Privilege {
        use Request::{Ban, Kill, Pause, Resume, Unban};
        use Request::{Bans, Crashes, List, Logs, Metrics, Settings, Show, Status};
        use Request::{Drain, Reload, Set, Upgrade};
        match self {
            Status | Metrics | List(_) | Show { .. } | Bans | Settings | Logs(_) => Privilege::Read,
            Crashes { .. } => Privilege::Read,
            Kill(_) | Pause | Resume | Ban { .. } | Unban { .. } => Privilege::Tend,
            Drain | Set { .. } | Reload | Upgrade { .. } => Privilege::Steer,
        }
    }

    /// Whether the request changes the server.
    pub(crate) fn steers(&self) -> bool {
        self.needs() > Privilege::Read
    }

    /// Reads a request, and the name of the service that it is about.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(line: &[u8]) -> Result<(Request, Option<String>), String> {
        let value: Value = serde_json::from_slice(line).map_err(|why| format!("not JSON: {why}"))?;
        let Value::Object(object) = value else { return Err("not an object".into()) };
        let mut fields = Fields(object);
        match fields.number("version")? {
            Some(VERSION) | None => {}
            Some(other) => return Err(format!("version {other} is unknown; this server has {VERSION}")),
        }
        let command = fields.text("command")?.ok_or("there is no command")?;
        let service = fields.text("service")?;
        let request = match command.as_str() {
            "status" => Request::Status,
            "metrics" => Request::Metrics,
            "list" => Request::List(ListRequest {
                ended: fields.flag("ended")?,
                filter: fields.filter()?,
                sort: fields.sort()?,
                limit: fields.number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
                brief: fields.flag("brief")?,
            }),
            "show" => Request::Show { id: fields.number("id")?.ok_or("there is no id")? },
            "kill" => Request::Kill(fields.filter()?),
            "ban" => Request::Ban {
                block: fields.block("block")?.ok_or("there is no block")?,
                time: fields.milliseconds("for_ms")?,
                kill: fields.flag("kill")?,
            },
            "unban" => Request::Unban { block: fields.block("block")?.ok_or("there is no block")? },
            "bans" => Request::Bans,
            "crashes" => Request::Crashes { name: fields.text("name")? },
            "pause" => Request::Pause,
            "resume" => Request::Resume,
            "drain" => Request::Drain,
            "reload" => Request::Reload,
            "upgrade" => Request::Upgrade { binary: fields.text("binary")?.map(binary).transpose()? },
            "logs" => Request::Logs(fields.logs()?),
            "set" => {
                let setting = Setting::of_name(&fields.text("name")?.ok_or("there is no name")?)?;
                let value = setting.parse(&fields.text("value")?.ok_or("there is no value")?)?;
                Request::Set { setting, value }
            }
            "settings" => Request::Settings,
            other => return Err(format!("unknown command '{other}'")),
        };
        fields.end()?;
        match &request {
            Request::Kill(filter) if *filter == Filter::default() => {
                Err("kill needs ids, peer or older_ms".into())
            }
            _ => Ok((request, service)),
        }
    }
}

/// The fields of an object that are not read yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name} is not a string")),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| format!("{name} is not a whole number of 0 or more"))
            }
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(format!("{name} is neither true nor false")),
        }
    }

    fn milliseconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    fn block(&mut self, name: &str) -> Result<Option<Prefix>, String> {
        let text = self.text(name)?;
        text.map(|text| text.parse().map_err(|error: Error| error.what())).transpose()
    }

    fn logs(&mut self) -> Result<LogRequest, String> {
        let colour = self.flag("colour")?;
        let form = match self.text("format")?.as_deref() {
            None | Some("json") => LineForm::Json,
            Some("text") => LineForm::Text { colour },
            Some(other) => return Err(format!("format '{other}' is neither json nor text")),
        };
        Ok(LogRequest {
            lines: self.number("lines")?.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            follow: self.flag("follow")?,
            id: self.number("id")?,
            peer: self.block("peer")?,
            form,
        })
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let ids = match self.0.remove("ids") {
            None | Some(Value::Null) => None,
            Some(Value::Array(ids)) => {
                let ids: Option<Vec<u64>> = ids.iter().map(Value::as_u64).collect();
                Some(ids.ok_or("ids are whole numbers")?)
            }
            Some(_) => return Err("ids is not an array".into()),
        };
        Ok(Filter {
            ids,
            peer: self.block("peer")?,
            older: self.milliseconds("older_ms")?,
            younger: self.milliseconds("younger_ms")?,
            state: self.text("state")?,
        })
    }

    fn sort(&mut self) -> Result<Sort, String> {
        let Some(text) = self.text("sort")? else { return Ok(Sort::default()) };
        let (descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let key = SORT_KEYS.iter().find(|(known, _)| *known == name).map(|(_, key)| *key);
        let known = || SORT_KEYS.map(|(name, _)| name).join(", ");
        let key = key.ok_or_else(|| format!("sort '{text}' is none of {}", known()))?;
        Ok(Sort { key, descending })
    }

    /// Refuses what is left: a misspelt field must not be passed over.
    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("unknown field '{name}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let block = |text: &str| text.parse::<Prefix>().expect(text);
        let list = |filter, sort| Request::List(ListRequest { filter, sort, ..ListRequest::default() });
        for (line, request) in [
            (r#"{"command":"status"}"#, Request::Status),
            (r#"{"version":1,"command":"bans"}"#, Request::Bans),
            (r#"{"command":"crashes"}"#, Request::Crashes { name: None }),
            (r#"{"command":"crashes","name":"7"}"#, Request::Crashes { name: Some("7".to_owned()) }),
            (r#"{"command":"list"}"#, list(Filter::default(), Sort::default())),
            (
                r#"{"command":"list","peer":"192.0.2.0/24","older_ms":5000,"sort":"-age"}"#,
                list(
                    Filter {
                        peer: Some(block("192.0.2.0/24")),
                        older: Some(Duration::from_secs(5)),
                        ..Filter::default()
                    },
                    Sort { key: SortKey::Age, descending: true },
                ),
            ),
            (
                r#"{"command":"list","ended":true,"sort":"-ended","limit":3,"brief":true}"#,
                Request::List(ListRequest {
                    ended: true,
                    sort: Sort { key: SortKey::End, descending: true },
                    limit: Some(3),
                    brief: true,
                    ..ListRequest::default()
                }),
            ),
            (r#"{"command":"show","id":7}"#, Request::Show { id: 7 }),
            (
                r#"{"command":"kill","ids":[1,2]}"#,
                Request::Kill(Filter { ids: Some(vec![1, 2]), ..Filter::default() }),
            ),
            (
                r#"{"command":"ban","block":"2001:db8::/32","for_ms":1000,"kill":true}"#,
                Request::Ban {
                    block: block("2001:db8::/32"),
                    time: Some(Duration::from_secs(1)),
                    kill: true,
                },
            ),
            (r#"{"command":"logs"}"#, Request::Logs(LogRequest::default())),
            (
                r#"{"command":"logs","lines":5,"follow":true,"id":7,"format":"text","colour":true}"#,
                Request::Logs(LogRequest {
                    lines: Some(5),
                    follow: true,
                    id: Some(7),
                    peer: None,
                    form: LineForm::Text { colour: true },
                }),
            ),
            (
                r#"{"command":"set","name":"limits","value":"report"}"#,
                Request::Set { setting: Setting::Limits, value: SettingValue([1, 0]) },
            ),
            (r#"{"command":"settings"}"#, Request::Settings),
        ] {
            assert_eq!(Request::parse(line.as_bytes()), Ok((request, None)), "{line}");
        }
        let of_service = Request::parse(br#"{"command":"pause","service":"a"}"#);
        assert_eq!(of_service, Ok((Request::Pause, Some("a".to_owned()))));
    }

    #[test]
    fn requests_need_privileges() {
        for (commands, needed) in [
            (&["status", "metrics", "list", "bans", "logs", "settings"][..], Privilege::Read),
            (&["pause", "resume"], Privilege::Tend),
            (&["drain", "reload", "upgrade"], Privilege::Steer),
        ] {
            for command in commands {
                let line = format!(r#"{{"command":"{command}"}}"#);
                let request = Request::parse(line.as_bytes()).map(|(request, _)| request.needs());
                assert_eq!(request, Ok(needed), "{command}");
            }
        }
        for (line, needed) in [
            (r#"{"command":"kill","ids":[1]}"#, Privilege::Tend),
            (r#"{"command":"ban","block":"192.0.2.1"}"#, Privilege::Tend),
            (r#"{"command":"unban","block":"192.0.2.1"}"#, Privilege::Tend),
            (r#"{"command":"set","name":"limits","value":"report"}"#, Privilege::Steer),
        ] {
            let request = Request::parse(line.as_bytes()).map(|(request, _)| request.needs());
            assert_eq!(request, Ok(needed), "{line}");
        }
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        for (line, why) in [
            ("", "not JSON"),
            ("[]", "not an object"),
            ("{}", "there is no command"),
            (r#"{"command":"stats"}"#, "unknown command 'stats'"),
            (r#"{"version":2,"command":"status"}"#, "version 2 is unknown"),
            (r#"{"command":"status","servise":"a"}"#, "unknown field 'servise'"),
            (r#"{"command":"kill"}"#, "kill needs"),
            (r#"{"command":"kill","ids":["a"]}"#, "ids are whole numbers"),
            (r#"{"command":"show","id":-1}"#, "id is not a whole number"),
            (r#"{"command":"logs","format":"xml"}"#, "neither json nor text"),
            (r#"{"command":"list","sort":"size"}"#, "is none of id, age"),
            (r#"{"command":"ban","block":"192.0.2.1/24"}"#, "bits set beyond"),
            (r#"{"command":"ban","block":"192.0.2.0/33"}"#, "must be 0 to 32"),
            (r#"{"command":"ban","block":"example.org"}"#, "not an IP address"),
            (r#"{"command":"set","value":"1"}"#, "there is no name"),
            (r#"{"command":"set","name":"limits"}"#, "there is no value"),
            (r#"{"command":"set","name":"limit","value":"1"}"#, "these can: limits, max-connections,"),
            (r#"{"command":"set","name":"limits","value":"no"}"#, "limits: invalid value 'no'"),
            (r#"{"command":"set","name":"idle-timeout","value":"0"}"#, "idle-timeout is a time"),
        ] {
            let said = Request::parse(line.as_bytes()).expect_err(line);
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
