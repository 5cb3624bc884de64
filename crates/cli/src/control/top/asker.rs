//! What talks to the server, in threads of its own: a server that does not answer holds up no key.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::Message;
use super::snapshot::Snapshot;
use super::state::{Event, Victim};
use crate::control::ask;
use crate::control::proc::usage;
use crate::control::target::Target;
use crate::error::Error;
use crate::exit;

/// A server, and what is asked about it.
#[derive(Clone)]
pub(super) struct Asker {
    target: Target,
    service: Option<String>,
    start: Instant,
}

impl Asker {
    /// Connects to the server once. If it is the only one that runs, it stays the one that is asked
    /// when others are started. Returns its name, too.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub(super) fn new(target: &Target, service: Option<&String>) -> Result<(Asker, String), Error> {
        let stream = target.connect()?;
        let address = stream.peer_addr().ok();
        let path = address.as_ref().and_then(|address| address.as_pathname());
        let name = path.and_then(Path::file_stem).map(|name| name.to_string_lossy().into_owned());
        let mut target = target.clone();
        if target.server.is_none() && target.control.is_none() {
            target.control = path.map(Path::to_owned);
        }
        let asker = Asker { target, service: service.cloned(), start: Instant::now() };
        Ok((asker, tine::cli::one_line(&name.unwrap_or_default())))
    }

    /// Asks the server what it does.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn snapshot(&self) -> Result<Snapshot, Error> {
        let at = self.start.elapsed();
        let mut snapshot = Snapshot::of(at, &self.lines("status")?, self.lines("list")?);
        // What the operator may read, the server need not.
        snapshot.fill_usage(usage);
        Ok(snapshot)
    }

    fn lines(&self, command: &str) -> Result<Vec<String>, Error> {
        let request = json!({ "version": 1, "command": command, "service": self.service });
        let mut lines = Vec::new();
        self.ask(&request, |line| lines.push(line.to_owned()))?;
        Ok(lines)
    }

    fn ask(&self, request: &Value, mut each: impl FnMut(&str)) -> Result<u64, Error> {
        ask(self.target.connect()?, request, |line| {
            each(line);
            Ok(())
        })
    }

    /// Asks the server each time that something arrives in the channel which is returned, and sends
    /// what it has answered.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub(super) fn start(self, messages: Sender<Message>) -> io::Result<Sender<()>> {
        let (times, asked): (Sender<()>, Receiver<()>) = channel();
        thread::Builder::new().name("asker".into()).spawn(move || {
            for () in asked {
                let event = match self.snapshot() {
                    Ok(snapshot) => Event::Snapshot(Box::new(snapshot)),
                    Err(why) => Event::Lost(lost(&why)),
                };
                if messages.send(Message::Event(event)).is_err() {
                    return;
                }
            }
        })?;
        Ok(times)
    }

    /// Ends a connection, and sends what has become of it. That takes up to seven seconds, in which
    /// the screen goes on.
    pub(super) fn kill(&self, victim: Victim, messages: &Sender<Message>) {
        let (asker, replies) = (self.clone(), messages.clone());
        let Victim { id, number, service, .. } = victim;
        let killed = id.clone();
        let started = thread::Builder::new().name("killer".into()).spawn(move || {
            let ids = [number];
            let request = json!({ "version": 1, "command": "kill", "ids": ids, "service": service });
            let result = asker.ask(&request, |_| {}).map(|_| ()).map_err(|why| why.to_string());
            // The command may have ended meanwhile.
            let _ = replies.send(Message::Event(Event::Killed { id: killed, result }));
        });
        if let Err(why) = started {
            let result = Err(format!("no thread can be started: {why}"));
            let _ = messages.send(Message::Event(Event::Killed { id, result }));
        }
    }
}

/// What the screen says of a server that has not answered.
fn lost(why: &Error) -> String {
    match why.exit_code() {
        exit::NOTHING_RUNS => "the server has ended; start it again".to_owned(),
        _ => why.to_string(),
    }
}
