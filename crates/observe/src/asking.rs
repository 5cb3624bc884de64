//! Asks the server, by the control protocol (`docs/control.md`), and remembers replies for a
//! moment: however many clients ask at a time, the server is asked once.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tine::cli::Observed;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

/// The time that the server has for a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// The time that it has to change something. To end a connection takes it 7 s at most.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);

/// Changes at a time, at most; others wait. The server serves few requests of its observer at a
/// time, and one that ends connections may take seconds: what is only read must not wait for it.
const MAX_CHANGES: usize = 2;

/// The time for which counts, and lists, are remembered. A list is costly for a server with many
/// connections.
const COUNTS_FOR: Duration = Duration::from_millis(100);
const LISTS_FOR: Duration = Duration::from_secs(1);

/// Connections of a sample, at most: the newest of those that are served, and of those that have
/// ended.
pub(crate) const SAMPLED_LIVE: usize = 200;
pub(crate) const SAMPLED_ENDED: usize = 100;

/// The lines of a reply.
pub(crate) type Reply = Arc<Vec<Value>>;

/// The server, as it is asked.
#[derive(Debug)]
pub(crate) struct Asking {
    observed: Observed,
    /// Changes so far: what was asked for before the last one is not remembered.
    changes: Cell<u64>,
    changing: Semaphore,
    status: Remembered,
    metrics: Remembered,
    settings: Remembered,
    bans: Remembered,
    connections: Remembered,
    ended: Remembered,
    newest: Remembered,
    last_ended: Remembered,
    crashes: Remembered,
}

/// The last reply to a request.
#[derive(Debug)]
struct Remembered {
    request: Value,
    time: Duration,
    last: Mutex<Option<LastReply>>,
}

#[derive(Debug)]
struct LastReply {
    since: Instant,
    /// The changes before it was asked for.
    changes: u64,
    reply: Reply,
}

impl Remembered {
    fn new(request: Value, time: Duration) -> Remembered {
        Remembered { request, time, last: Mutex::new(None) }
    }

    /// The reply. Others that ask meanwhile wait for the same.
    async fn get(&self, asking: &Asking) -> io::Result<Reply> {
        let mut last = self.last.lock().await;
        let changes = asking.changes.get();
        if let Some(last) = &*last
            && last.since.elapsed() < self.time
            && last.changes == changes
        {
            return Ok(Arc::clone(&last.reply));
        }
        let reply = ask(&asking.observed, &self.request).await.map(Arc::new);
        let remembered = reply.as_ref().ok().map(Arc::clone);
        *last = remembered.map(|reply| LastReply { since: Instant::now(), changes, reply });
        reply
    }
}

impl Asking {
    pub(crate) fn new(observed: Observed) -> Asking {
        let counts = |command: &str| Remembered::new(json!({ "command": command }), COUNTS_FOR);
        let list = |ended: bool| Remembered::new(json!({ "command": "list", "ended": ended }), LISTS_FOR);
        Asking {
            observed,
            changes: Cell::new(0),
            changing: Semaphore::new(MAX_CHANGES),
            status: counts("status"),
            metrics: counts("metrics"),
            settings: counts("settings"),
            bans: counts("bans"),
            connections: list(false),
            ended: list(true),
            newest: Remembered::new(
                json!({ "command": "list", "sort": "-id", "limit": SAMPLED_LIVE, "brief": true }),
                COUNTS_FOR,
            ),
            last_ended: Remembered::new(
                json!({ "command": "list", "ended": true, "sort": "-ended", "limit": SAMPLED_ENDED }),
                COUNTS_FOR,
            ),
            crashes: Remembered::new(json!({ "command": "crashes" }), LISTS_FOR),
        }
    }

    /// What `tine status` shows, of each service.
    pub(crate) async fn status(&self) -> io::Result<Reply> {
        self.status.get(self).await
    }

    /// What each service counts.
    pub(crate) async fn metrics(&self) -> io::Result<Reply> {
        self.metrics.get(self).await
    }

    /// The options that can be changed.
    pub(crate) async fn settings(&self) -> io::Result<Reply> {
        self.settings.get(self).await
    }

    /// The bans in force.
    pub(crate) async fn bans(&self) -> io::Result<Reply> {
        self.bans.get(self).await
    }

    /// The groups of crash reports.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the server has none; it does not reply.
    pub(crate) async fn crashes(&self) -> io::Result<Reply> {
        self.crashes.get(self).await
    }

    /// A crash report, by its name or the id of its connection: a number, or a service and one.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if there is none; the server does not reply.
    pub(crate) async fn crash(&self, name: &str) -> io::Result<Vec<Value>> {
        let (service, name) = name.split_once(':').map_or((None, name), |(service, id)| (Some(service), id));
        ask(&self.observed, &json!({ "command": "crashes", "name": name, "service": service })).await
    }

    /// The newest connections, without the bytes that the kernel has counted: cheap for a server.
    pub(crate) async fn newest(&self) -> io::Result<Reply> {
        self.newest.get(self).await
    }

    /// The connections that have ended last.
    pub(crate) async fn last_ended(&self) -> io::Result<Reply> {
        self.last_ended.get(self).await
    }

    /// The connections that are served, or that have ended.
    pub(crate) async fn connections(&self, ended: bool) -> io::Result<Reply> {
        let remembered = if ended { &self.ended } else { &self.connections };
        remembered.get(self).await
    }

    /// Has the server change something; returns the last line of its reply. What is asked for
    /// afterwards is asked anew.
    ///
    /// # Errors
    /// The server has not replied: it may have changed it, or not.
    pub(crate) async fn change(&self, request: &Value) -> io::Result<Value> {
        let place = self.changing.acquire().await.map_err(io::Error::other)?;
        let reply = exchange_within(CHANGE_WITHIN, &self.observed, request).await;
        drop(place);
        self.changes.set(self.changes.get() + 1);
        reply.map(|(_, last)| last)
    }
}

/// The error of a request that the server does not carry out.
fn refusal(why: &Value) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.as_str().unwrap_or_default())
}

/// Sends a request, and reads the lines of the reply.
async fn ask(observed: &Observed, request: &Value) -> io::Result<Vec<Value>> {
    let (lines, last) = exchange_within(REPLY_WITHIN, observed, request).await?;
    match last.get("error") {
        None => Ok(lines),
        Some(why) => Err(refusal(why)),
    }
}

/// The lines of a reply, and the last one, which says whether it is done.
type WholeReply = (Vec<Value>, Value);

async fn exchange_within(time: Duration, observed: &Observed, request: &Value) -> io::Result<WholeReply> {
    let stream = observed.ask()?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it takes too long");
    timeout(time, exchange(stream, request)).await.map_err(late)?
}

async fn exchange(mut stream: UnixStream, request: &Value) -> io::Result<WholeReply> {
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut lines = BufReader::with_capacity(256 * 1024, stream).lines();
    let mut reply = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
        match (line.get("type"), line.get("done"), line.get("error")) {
            (Some(_), ..) => reply.push(line),
            (None, Some(Value::Bool(true)), _) | (None, _, Some(_)) => return Ok((reply, line)),
            _ => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its reply is not complete"))
}
