//! Asks the server, by the control protocol (`docs/control.md`), and remembers replies for a
//! moment: however many clients ask at a time, the server is asked once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tine::cli::Observed;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// The time that the server has for a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// The time for which counts, and lists, are remembered. A list is costly for a server with many
/// connections.
const COUNTS_FOR: Duration = Duration::from_millis(100);
const LISTS_FOR: Duration = Duration::from_secs(1);

/// The lines of a reply.
pub(crate) type Reply = Arc<Vec<Value>>;

/// The server, as it is asked.
#[derive(Debug)]
pub(crate) struct Asking {
    observed: Observed,
    status: Remembered,
    metrics: Remembered,
    settings: Remembered,
    bans: Remembered,
    connections: Remembered,
    ended: Remembered,
    crashes: Remembered,
}

/// The last reply to a request.
#[derive(Debug)]
struct Remembered {
    request: Value,
    time: Duration,
    last: Mutex<Option<(Instant, Reply)>>,
}

impl Remembered {
    fn new(request: Value, time: Duration) -> Remembered {
        Remembered { request, time, last: Mutex::new(None) }
    }

    /// The reply. Others that ask meanwhile wait for the same.
    async fn get(&self, observed: &Observed) -> io::Result<Reply> {
        let mut last = self.last.lock().await;
        if let Some((since, reply)) = &*last
            && since.elapsed() < self.time
        {
            return Ok(Arc::clone(reply));
        }
        let reply = ask(observed, &self.request).await.map(Arc::new);
        *last = reply.as_ref().ok().map(|reply| (Instant::now(), Arc::clone(reply)));
        reply
    }
}

impl Asking {
    pub(crate) fn new(observed: Observed) -> Asking {
        let counts = |command: &str| Remembered::new(json!({ "command": command }), COUNTS_FOR);
        let list = |ended: bool| Remembered::new(json!({ "command": "list", "ended": ended }), LISTS_FOR);
        Asking {
            observed,
            status: counts("status"),
            metrics: counts("metrics"),
            settings: counts("settings"),
            bans: counts("bans"),
            connections: list(false),
            ended: list(true),
            crashes: Remembered::new(json!({ "command": "crashes" }), LISTS_FOR),
        }
    }

    /// What `tine status` shows, of each service.
    pub(crate) async fn status(&self) -> io::Result<Reply> {
        self.status.get(&self.observed).await
    }

    /// What each service counts.
    pub(crate) async fn metrics(&self) -> io::Result<Reply> {
        self.metrics.get(&self.observed).await
    }

    /// The options that can be changed.
    pub(crate) async fn settings(&self) -> io::Result<Reply> {
        self.settings.get(&self.observed).await
    }

    /// The bans in force.
    pub(crate) async fn bans(&self) -> io::Result<Reply> {
        self.bans.get(&self.observed).await
    }

    /// The groups of crash reports.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the server has none; it does not reply.
    pub(crate) async fn crashes(&self) -> io::Result<Reply> {
        self.crashes.get(&self.observed).await
    }

    /// A crash report, by its name or the id of its connection: a number, or a service and one.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if there is none; the server does not reply.
    pub(crate) async fn crash(&self, name: &str) -> io::Result<Vec<Value>> {
        let (service, name) = name.split_once(':').map_or((None, name), |(service, id)| (Some(service), id));
        ask(&self.observed, &json!({ "command": "crashes", "name": name, "service": service })).await
    }

    /// The connections that are served, or that have ended.
    pub(crate) async fn connections(&self, ended: bool) -> io::Result<Reply> {
        let remembered = if ended { &self.ended } else { &self.connections };
        remembered.get(&self.observed).await
    }
}

/// The error of a request that the server does not carry out.
fn refusal(why: &Value) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.as_str().unwrap_or_default())
}

/// Sends a request, and reads the lines of the reply.
async fn ask(observed: &Observed, request: &Value) -> io::Result<Vec<Value>> {
    let stream = observed.ask()?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not reply");
    timeout(REPLY_WITHIN, exchange(stream, request)).await.map_err(late)?
}

async fn exchange(mut stream: UnixStream, request: &Value) -> io::Result<Vec<Value>> {
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut lines = BufReader::with_capacity(256 * 1024, stream).lines();
    let mut reply = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
        match (line.get("type"), line.get("done"), line.get("error")) {
            (Some(_), ..) => reply.push(line),
            (None, Some(Value::Bool(true)), _) => return Ok(reply),
            (None, _, Some(why)) => return Err(refusal(why)),
            _ => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its reply is not complete"))
}
