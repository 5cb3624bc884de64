//! From the path of a request to its answer.

use std::io;

use hyper::body::{Body, Bytes};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::asking::{Asking, Reply};
use crate::assets::{self, Asset};
use crate::body::{self, MAX_BODY};
use crate::events::AnswerBody;
use crate::exposition::text;
use crate::families::families;
use crate::guard::{Guard, is_of_another_site};
use crate::negotiation::Exposition;
use crate::samples::Samples;
use crate::settings::ObserverSettings;
use crate::steering::{Steering, merged};
use crate::targets::{INDEX, READS, Target};

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

impl Answering {
    /// Answers a request.
    pub(crate) async fn answer<B>(&self, guard: &Guard, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (parts, body) = request.into_parts();
        let target = Target::parse(parts.uri.path(), parts.uri.query().unwrap_or_default());
        let is_open = matches!(&target, Ok(Some(target)) if target.is_open());
        // Before anything is said about the path, too.
        if !is_open && let Err(status) = guard.check(&parts.headers) {
            return refused(status);
        }
        // One whose query is wrong is a list.
        let methods = target.as_ref().map_or(READS, |target| target.as_ref().map_or("", Target::methods));
        if !methods.is_empty() && !methods.split(", ").any(|method| parts.method == *method) {
            let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods} are possible"));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
            return answer;
        }
        let steering = match target {
            Err(why) => return error(StatusCode::BAD_REQUEST, &why),
            Ok(None) => {
                return error(StatusCode::NOT_FOUND, "there is no such page; /api/v1 lists what there is");
            }
            Ok(Some(Target::Steering(steering))) => steering,
            Ok(Some(target)) => match Steering::of_bans(&parts.method) {
                Some(steering) => steering,
                None => {
                    return self.show(target, &parts.headers).await.unwrap_or_else(|why| no_reply(&why));
                }
            },
        };
        self.steer(&steering, &parts, body).await
    }

    /// Has the server change something, if the request may.
    async fn steer<B>(&self, steering: &Steering, parts: &Parts, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let requests = match self.requests(steering, parts, body).await {
            Ok(requests) => requests,
            Err((status, why)) => return error(status, &why),
        };
        let mut replies = Vec::new();
        for request in &requests {
            match self.asking.change(request).await {
                Ok(reply) => replies.push(reply),
                Err(why) => return no_reply(&why),
            }
        }
        let reply = merged(replies);
        answer(status_of(&reply), "application/json", reply.to_string() + "\n")
    }

    /// What the server is to be asked for.
    ///
    /// # Errors
    /// Why nothing is, with a status.
    async fn requests<B>(
        &self,
        steering: &Steering,
        parts: &Parts,
        body: B,
    ) -> Result<Vec<Value>, (StatusCode, String)>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let wrong = |status: StatusCode, why: &str| Err((status, why.to_owned()));
        if !self.settings.control {
            return wrong(StatusCode::FORBIDDEN, "clients may only read, without --observe-control");
        }
        if is_of_another_site(&parts.headers) {
            return wrong(StatusCode::FORBIDDEN, "the request comes from a page of another site");
        }
        // A form cannot send it, and another site not without asking first.
        if parts.method == Method::POST && !is_json(&parts.headers) {
            return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json");
        }
        let body = match body::read(body).await {
            Ok(body) => body,
            Err(status @ StatusCode::PAYLOAD_TOO_LARGE) => {
                return wrong(status, &format!("the body has more than {MAX_BODY} bytes"));
            }
            Err(status) => return wrong(status, "the body is not complete"),
        };
        let requests = steering.requests(parts.uri.query().unwrap_or_default(), &body);
        requests.map_err(|why| (StatusCode::BAD_REQUEST, why))
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
                let ObserverSettings { name, control, .. } = &self.settings;
                let server =
                    json!({ "name": name, "version": env!("CARGO_PKG_VERSION"), "control": control });
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
            // It is not shown: `Answering::steer`.
            Target::Steering(_) => plain(StatusCode::NOT_FOUND, ""),
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

/// Whether the body is JSON, by its type.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|content_type| content_type.to_str().ok());
    let essence = content_type.and_then(|content_type| content_type.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The status for the last line of a reply.
fn status_of(reply: &Value) -> StatusCode {
    match (&reply["done"], reply["code"].as_u64()) {
        (Value::Bool(true), _) => StatusCode::OK,
        (_, Some(100)) => StatusCode::BAD_REQUEST,
        _ => StatusCode::CONFLICT,
    }
}

fn no_reply(why: &io::Error) -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, &format!("the server does not reply: {why}"))
}

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
