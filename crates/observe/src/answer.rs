//! From the path of a request to its answer.

use std::io;

use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::asking::{Asking, Reply};
use crate::assets::{self, Asset};
use crate::events::AnswerBody;
use crate::exposition::text;
use crate::families::families;
use crate::guard::Guard;
use crate::negotiation::Exposition;
use crate::pages::Page;
use crate::samples::Samples;
use crate::settings::ObserverSettings;

/// An answer.
pub(crate) type Answer = Response<AnswerBody>;

/// The header with the last event that a client has got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What answers are made of.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) asking: Asking,
    pub(crate) settings: ObserverSettings,
    pub(crate) samples: Samples,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq)]
enum Target {
    Health,
    Readiness,
    Metrics,
    Status,
    Counts,
    Connections(Page),
    Connection(String),
    Bans,
    Crashes,
    Crash(String),
    Events,
    Index,
    Asset(Asset),
}

impl Target {
    /// The target of a path and a query; `None` if there is none.
    ///
    /// # Errors
    /// The query is wrong.
    fn parse(path: &str, query: &str) -> Result<Option<Target>, String> {
        const CONNECTION: &str = "/api/v1/connections/";
        const CRASH: &str = "/api/v1/crashes/";
        Ok(Some(match path {
            "/healthz" => Target::Health,
            "/readyz" => Target::Readiness,
            "/metrics" => Target::Metrics,
            "/api/v1/status" => Target::Status,
            "/api/v1/metrics" => Target::Counts,
            "/api/v1/connections" => Target::Connections(Page::parse(query)?),
            "/api/v1/bans" => Target::Bans,
            "/api/v1/crashes" => Target::Crashes,
            "/api/v1/events" => Target::Events,
            "/api/v1" => Target::Index,
            _ => {
                let below =
                    |prefix| path.strip_prefix(prefix).filter(|id| !id.is_empty() && !id.contains('/'));
                match (below(CONNECTION), below(CRASH), assets::find(path)) {
                    (Some(id), ..) => Target::Connection(id.to_owned()),
                    (_, Some(name), _) => Target::Crash(name.to_owned()),
                    (.., Some(asset)) => Target::Asset(asset),
                    _ => return Ok(None),
                }
            }
        }))
    }

    /// Whether it tells nothing about the server but that it lives: probes have no token, and the
    /// dashboard asks for it.
    fn is_open(&self) -> bool {
        matches!(self, Target::Health | Target::Readiness | Target::Asset(_))
    }
}

impl Answering {
    /// Answers a request.
    pub(crate) async fn answer(
        &self,
        guard: &Guard,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Answer {
        let target = Target::parse(path, query);
        let is_open = matches!(&target, Ok(Some(target)) if target.is_open());
        // Before anything is said about the path, too.
        if !is_open && let Err(status) = guard.check(headers) {
            return refused(status);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are possible");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match target {
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
            Ok(None) => error(StatusCode::NOT_FOUND, "there is no such page; /api/v1 lists what there is"),
            Ok(Some(target)) => self.show(target, headers).await.unwrap_or_else(|why| {
                let text = format!("the server does not reply: {why}");
                error(StatusCode::SERVICE_UNAVAILABLE, &text)
            }),
        }
    }

    async fn show(&self, target: Target, headers: &HeaderMap) -> io::Result<Answer> {
        let asking = &self.asking;
        Ok(match target {
            Target::Health => plain(StatusCode::OK, "ok\n"),
            Target::Readiness => readiness(&asking.status().await?),
            Target::Metrics => {
                let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
                let form = Exposition::preferred(accept.unwrap_or_default());
                let services = asking.metrics().await?;
                let text = text(&families(&services, &self.settings.name), form);
                answer(StatusCode::OK, form.content_type(), text)
            }
            Target::Status => {
                let (status, settings) = (asking.status().await?, asking.settings().await?);
                let server = json!({ "name": self.settings.name, "version": env!("CARGO_PKG_VERSION") });
                let services = status.iter().map(|status| with_settings(status, &settings));
                data(&json!({ "server": server, "services": services.collect::<Vec<Value>>() }))
            }
            Target::Counts => data(&json!({ "services": *asking.metrics().await? })),
            Target::Connections(page) => data(&page.of(&asking.connections(page.ended).await?)),
            Target::Connection(id) => {
                let (live, ended) = (asking.connections(false).await?, asking.connections(true).await?);
                match live.iter().chain(&*ended).find(|row| has_id(row, &id)) {
                    Some(row) => data(row),
                    None => {
                        error(StatusCode::NOT_FOUND, "there is no such connection, and none in the history")
                    }
                }
            }
            Target::Bans => data(&json!({ "bans": *asking.bans().await? })),
            Target::Crashes => match asking.crashes().await {
                Ok(groups) => data(&json!({ "groups": *groups })),
                Err(why) => not_found(why)?,
            },
            Target::Crash(name) => match asking.crash(&name).await {
                Ok(reports) => data(&reports.into_iter().next().unwrap_or_default()),
                Err(why) => not_found(why)?,
            },
            Target::Events => self.follow(headers),
            Target::Index => plain(StatusCode::OK, INDEX),
            Target::Asset(asset) => file(asset),
        })
    }

    /// Events from now on, after those of the last hour that the client has not got.
    fn follow(&self, headers: &HeaderMap) -> Answer {
        let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
        match self.samples.follow(last.unwrap_or(0)) {
            None => error(StatusCode::SERVICE_UNAVAILABLE, "too many clients follow the events already"),
            Some(events) => {
                let mut answer = plain(StatusCode::OK, "");
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                *answer.body_mut() = AnswerBody::Events(events);
                answer
            }
        }
    }
}

/// What there is.
const INDEX: &str = "\
/                          the dashboard
/metrics                   metrics, for Prometheus and OpenMetrics
/healthz                   200 while the observer runs
/readyz                    200 while all services serve, 503 while one is paused or drains
/api/v1/status             what `tine status` shows, as JSON
/api/v1/metrics            what is counted, as JSON
/api/v1/connections        what `tine list` shows, as JSON: ended, service, state, search, older_ms,
                           younger_ms, sort, limit, offset
/api/v1/connections/ID     one of them
/api/v1/bans               the bans in force
/api/v1/crashes            crash reports by cause, as `tine crashes` shows them
/api/v1/crashes/NAME       one of them
/api/v1/events             a sample each second, as server-sent events
";

/// Whether a connection has this id: a number, or a service and a number.
fn has_id(row: &Value, id: &str) -> bool {
    match &row["id"] {
        Value::String(own) => own == id,
        own => own.as_u64().is_some_and(|own| id.parse() == Ok(own)),
    }
}

/// 404 if the server has refused, since it has nothing of the kind.
fn not_found(why: io::Error) -> io::Result<Answer> {
    match why.kind() {
        io::ErrorKind::InvalidInput => Ok(error(StatusCode::NOT_FOUND, &why.to_string())),
        _ => Err(why),
    }
}

/// The status of a service, with its settings.
fn with_settings(status: &Value, settings: &Reply) -> Value {
    let mut status = status.clone();
    let own = settings.iter().filter(|setting| setting["service"] == status["service"]);
    status["settings"] = own.cloned().collect();
    status
}

/// 503 if a service does not serve.
fn readiness(services: &[Value]) -> Answer {
    let not_ready = services.iter().find(|service| service["phase"] != "serving");
    match not_ready {
        None if !services.is_empty() => plain(StatusCode::OK, "ready\n"),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Some(service) => {
            let phase = service["phase"].as_str().unwrap_or("unknown");
            plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{phase}\n"))
        }
    }
}

fn refused(status: StatusCode) -> Answer {
    if status == StatusCode::UNAUTHORIZED {
        let mut answer = error(status, "send the token: Authorization: Bearer TOKEN");
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    error(status, "the host of the request is not this machine: use localhost or an address, or a token")
}

fn error(status: StatusCode, why: &str) -> Answer {
    answer(status, "application/json", json!({ "error": why }).to_string() + "\n")
}

fn plain(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.to_owned())
}

fn data(value: &Value) -> Answer {
    answer(StatusCode::OK, "application/json", value.to_string() + "\n")
}

/// A file of the dashboard.
fn file(asset: Asset) -> Answer {
    let mut answer = answer(StatusCode::OK, asset.content_type, String::new());
    *answer.body_mut() = Bytes::from_static(asset.bytes).into();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(assets::POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Bytes::from(text).into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_targets() {
        let page = || Page::parse("").expect("a page");
        for (path, expected) in [
            ("/metrics", Some(Target::Metrics)),
            ("/metrics/", None),
            ("/healthz", Some(Target::Health)),
            ("/api/v1", Some(Target::Index)),
            ("/api/v1/events", Some(Target::Events)),
            ("/assets/../index.html", None),
            ("/assets/", None),
            ("", None),
            ("/../etc/passwd", None),
            ("/api/v1/../../metrics", None),
            ("/api/v1/connections", Some(Target::Connections(page()))),
            ("/api/v1/connections/git:7", Some(Target::Connection("git:7".into()))),
            ("/api/v1/connections/", None),
            ("/api/v1/connections/../bans", None),
            ("/api/v1/crashes", Some(Target::Crashes)),
            ("/api/v1/crashes/git:7", Some(Target::Crash("git:7".into()))),
            ("/api/v1/crashes/", None),
            ("/API/v1/status", None),
        ] {
            assert_eq!(Target::parse(path, ""), Ok(expected), "{path}");
        }
        assert!(Target::parse("/api/v1/connections", "limit=x").is_err());
    }

    #[test]
    fn a_server_is_ready_if_all_services_serve() {
        let services = |phases: &[&str]| -> Vec<Value> {
            phases.iter().map(|phase| json!({ "phase": phase })).collect()
        };
        for (phases, status) in [
            (&["serving"][..], 200),
            (&["serving", "serving"], 200),
            (&["serving", "paused"], 503),
            (&["draining"], 503),
            (&[], 503),
        ] {
            assert_eq!(readiness(&services(phases)).status(), status, "{phases:?}");
        }
    }
}
