//! What paths name.

use crate::assets::{self, Asset};
use crate::pages::Page;
use crate::steering::Steering;

/// What a path names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
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
    Steering(Steering),
}

impl Target {
    /// The target of a path and a query; `None` if there is none.
    ///
    /// # Errors
    /// The query is wrong.
    pub(crate) fn parse(path: &str, query: &str) -> Result<Option<Target>, String> {
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
                let below = |prefix| {
                    let rest = path.strip_prefix(prefix).filter(|id| !id.is_empty() && !id.contains('/'));
                    rest.map(str::to_owned)
                };
                let crash = || below(CRASH).map(Target::Crash);
                let asset = || assets::find(path).map(Target::Asset);
                let steering = || Steering::of_path(path).map(Target::Steering);
                let connection = below(CONNECTION).map(Target::Connection);
                return Ok(connection.or_else(crash).or_else(asset).or_else(steering));
            }
        }))
    }

    /// The methods that it has, as `Allow` lists them (RFC 9110, section 10.2.1).
    pub(crate) fn methods(&self) -> &'static str {
        match self {
            Target::Bans => "GET, HEAD, POST, DELETE",
            Target::Steering(_) => "POST",
            _ => READS,
        }
    }

    /// Whether it tells nothing about the server but that it lives: probes have no token, and the
    /// dashboard asks for it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Target::Health | Target::Readiness | Target::Asset(_))
    }
}

/// The methods of what is only read.
pub(crate) const READS: &str = "GET, HEAD";

/// What there is.
pub(crate) const INDEX: &str = "\
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

With --observe-control, and Content-Type: application/json:
POST   /api/v1/connections/ID/kill
POST   /api/v1/kill                    ids, peer, older_ms, younger_ms, state, service
POST   /api/v1/pause, /api/v1/resume   all services
POST   /api/v1/services/NAME/pause, /api/v1/services/NAME/resume
POST   /api/v1/bans                    block, for_ms, kill, service
DELETE /api/v1/bans?block=BLOCK        and service
";

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
            ("/api/v1/kill", Some(Target::Steering(Steering::Kill))),
            ("/api/v1/connections/7/kill", Some(Target::Steering(Steering::KillOne("7".into())))),
            ("/api/v1/connections/7/", None),
            ("/api/v1/drain", None),
        ] {
            assert_eq!(Target::parse(path, ""), Ok(expected), "{path}");
        }
        assert!(Target::parse("/api/v1/connections", "limit=x").is_err());
    }
}
