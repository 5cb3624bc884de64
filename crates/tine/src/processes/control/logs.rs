//! The answer to `logs`: the last lines of the log that match, and then those that follow.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;

use super::reply::{Reply, SYSTEM, Wait};
use super::request::{LineForm, LogRequest};
use super::view::View;
use crate::admission::access::prefix::Prefix;
use crate::ipc::board::reader::BoardReader;
use crate::ipc::steering::{Order, OrderAnswer, OrderSender};
use crate::log::record::LogRecord;
use crate::log::ring::{LogRing, NextLine, RingReader};
use crate::net::peer::Peer;

/// How often a follower looks for new lines.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// The time that a line has to become complete; its writer may have died.
const PATIENCE: Duration = Duration::from_millis(100);

/// Lines that are read at once, at most.
const MAX_READ: usize = 4096;

/// Connections whose clients are remembered, at most.
const MAX_CLIENTS: usize = 8192;

/// A line of a reply, with the date for its order among those of other services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatedLine {
    pub(super) date: String,
    pub(super) line: Vec<u8>,
}

/// Answers the request.
///
/// # Errors
/// The controller has gone, or the server has ended while the controller did not read.
pub(super) fn logs(
    request: &LogRequest,
    view: &View,
    orders: &OrderSender,
    reply: &mut Reply,
) -> io::Result<()> {
    let Some(ring) = view.log else { return reply.error(SYSTEM, "the server keeps no lines") };
    if request.follow {
        if let Err(why) = become_follower(orders) {
            return reply.error(SYSTEM, why);
        }
        reply.be_patient();
    }
    let mut lines = MatchingLines::new(ring, request, view.service.as_deref(), Some(&view.board));
    let mut count = send(reply, lines.last(reply)?)?;
    if request.follow {
        reply.line(&json!({ "type": "follow" }))?;
        loop {
            reply.flush()?;
            let wait = reply.wait(&[], INTERVAL)?;
            count += send(reply, lines.next(Instant::now()))?;
            if wait == Wait::ServerEnded {
                break;
            }
        }
        if !view.board.is_draining() {
            // It has not stopped, it has died; and this process does in a moment.
            return reply.error(SYSTEM, "the server has ended");
        }
    }
    reply.done(count)
}

/// Asks the supervisor, or the master, whether this process may stay.
///
/// # Errors
/// It may not: why.
pub(super) fn become_follower(orders: &OrderSender) -> Result<(), &'static str> {
    if !orders.send(Order::Follow) {
        return Err("the server has ended");
    }
    match orders.answer() {
        Some(OrderAnswer::Done(_)) => Ok(()),
        Some(_) => Err("as many commands follow the log as can; end one of them"),
        None => Err("the server has ended"),
    }
}

/// Adds lines to a reply. Returns how many.
pub(super) fn send(reply: &mut Reply, lines: impl IntoIterator<Item = DatedLine>) -> io::Result<u64> {
    let mut count = 0;
    for DatedLine { line, .. } in lines {
        reply.raw(&line)?;
        count += 1;
    }
    Ok(count)
}

/// The lines of a ring that a request is about.
pub(super) struct MatchingLines<'a> {
    reader: RingReader,
    request: &'a LogRequest,
    service: Option<&'a str>,
    /// For the clients of connections of which no line has the client.
    board: Option<&'a BoardReader>,
    /// The client of each connection, where lines are chosen by it.
    clients: HashMap<u64, Option<IpAddr>>,
    /// Until when an incomplete line is waited for.
    patient_until: Option<Instant>,
}

impl<'a> MatchingLines<'a> {
    /// The lines of a ring from the oldest one on.
    pub(super) fn new(
        ring: LogRing,
        request: &'a LogRequest,
        service: Option<&'a str>,
        board: Option<&'a BoardReader>,
    ) -> MatchingLines<'a> {
        let (reader, clients) = (ring.reader(), HashMap::new());
        MatchingLines { reader, request, service, board, clients, patient_until: None }
    }

    /// The last lines that there are, as many as the request wants.
    ///
    /// # Errors
    /// The controller has gone.
    pub(super) fn last(&mut self, reply: &Reply) -> io::Result<VecDeque<DatedLine>> {
        let mut last = VecDeque::new();
        let wanted = self.request.lines.unwrap_or(usize::MAX);
        loop {
            last.extend(self.next(Instant::now()));
            last.drain(..last.len().saturating_sub(wanted));
            if self.patient_until.is_none() {
                return Ok(last);
            }
            // The writer of a line is about to finish it.
            reply.wait(&[], Duration::from_millis(1))?;
        }
    }

    /// The lines since the last call, those that are complete.
    pub(super) fn next(&mut self, now: Instant) -> Vec<DatedLine> {
        let read = self.read(now);
        let records: Vec<(u64, Option<LogRecord>)> =
            read.iter().map(|(lost, bytes)| (*lost, LogRecord::decode(bytes))).collect();
        if self.request.peer.is_some() {
            // The line with the client of a connection can come after others about it.
            records.iter().filter_map(|(_, record)| record.as_ref()).for_each(|record| self.learn(record));
        }
        let mut found = Vec::new();
        for (lost, record) in &records {
            if *lost > 0 {
                found.push(self.line_of(&LogRecord::lost(*lost)));
            }
            found.extend(record.as_ref().and_then(|record| self.select(record)));
        }
        found
    }

    /// The records since the last call, each with the number of lines that were overwritten before
    /// it.
    fn read(&mut self, now: Instant) -> Vec<(u64, Vec<u8>)> {
        let mut read = Vec::new();
        // Others write all the time: what is read has its turn.
        while read.len() < MAX_READ {
            let skips = self.patient_until.is_some_and(|until| until <= now);
            match self.reader.next_line(skips) {
                NextLine::Record(bytes) => read.push((self.reader.take_lost(), bytes)),
                NextLine::Incomplete => {
                    self.patient_until.get_or_insert(now + PATIENCE);
                    break;
                }
                NextLine::End => {
                    self.patient_until = None;
                    break;
                }
            }
        }
        read
    }

    /// The line of a record, if the request is about it.
    fn select(&mut self, record: &LogRecord) -> Option<DatedLine> {
        let is_selected = self.request.peer.is_none_or(|block| self.is_of_client(record, block))
            && self.request.id.is_none_or(|id| record.id() == Some(id));
        is_selected.then(|| self.line_of(record))
    }

    fn line_of(&self, record: &LogRecord) -> DatedLine {
        let date = record.date();
        let line = match self.request.form {
            LineForm::Json => {
                let object = record.to_json(self.service);
                format!("{{\"type\":\"log\",{}\n", &object[1..])
            }
            LineForm::Text { colour } => {
                let text = json!(record.to_text(self.service, colour));
                format!("{{\"type\":\"log\",\"time\":\"{date}\",\"text\":{text}}}\n")
            }
        };
        DatedLine { date, line: line.into_bytes() }
    }

    /// Remembers the client of a connection, if the record has both.
    fn learn(&mut self, record: &LogRecord) {
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.clear();
        }
        if let (Some(id), Some(_)) = (record.id(), record.peer()) {
            self.clients.insert(id, address_of(record));
        }
    }

    /// Whether a record is about a client in this block. Lines of standard error, for one, have the
    /// id of the connection only: its client is in another line, or on the board.
    fn is_of_client(&mut self, record: &LogRecord, block: Prefix) -> bool {
        let client = match (record.peer(), record.id()) {
            (None, Some(id)) => {
                let board = self.board;
                *self.clients.entry(id).or_insert_with(|| on_board(board?, id))
            }
            _ => address_of(record),
        };
        client.is_some_and(|client| block.contains(Prefix::of(client)))
    }
}

/// The address of the client that a record has.
fn address_of(record: &LogRecord) -> Option<IpAddr> {
    record.peer()?.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// The client of a connection that is served.
fn on_board(board: &BoardReader, id: u64) -> Option<IpAddr> {
    let connection = board.connections().find(|connection| connection.entry.id == id)?;
    if let Peer::Tcp(address) = connection.entry.peer { Some(address.ip()) } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::log::{Format, Log, LogLevel};

    /// The events that a request selects from the lines about two connections.
    fn selected(request: &LogRequest) -> Vec<Value> {
        let ring = LogRing::alone().expect("memory");
        let mut log = Log::new(Format::Json, LogLevel::Normal, None, None);
        log.keep_lines_in(Some(ring));
        let mut lines = MatchingLines::new(ring, request, Some("git"), None);
        // Written by another process than the next line, and earlier.
        log.stderr(1, b"a line");
        for (id, peer) in [(1, "192.0.2.1:5"), (2, "[2001:db8::1]:5")] {
            log.accept(id, &Peer::Tcp(peer.parse().expect(peer)), None, 99, 1, 10);
        }
        log.accept(3, &Peer::Unix(None), None, 99, 1, 10);
        log.stderr(2, b"another");
        log.drain(2, None);
        let found = lines.next(Instant::now());
        assert_eq!(lines.next(Instant::now()), []);
        let values = found.iter().map(|found| serde_json::from_slice(&found.line).expect("JSON"));
        values.inspect(|value: &Value| assert_eq!(value["type"], "log")).collect()
    }

    fn events(request: &LogRequest) -> String {
        let events: Vec<String> = selected(request)
            .iter()
            .map(|line| format!("{} {}", line["event"].as_str().expect("an event"), line["id"]))
            .collect();
        events.join(", ")
    }

    #[test]
    fn lines_are_chosen_by_connection_and_client() {
        let block = |text: &str| text.parse().ok();
        let all = LogRequest::default();
        for (request, lines) in [
            (all.clone(), "stderr 1, accept 1, accept 2, accept 3, stderr 2, drain null"),
            (LogRequest { id: Some(2), ..all.clone() }, "accept 2, stderr 2"),
            (LogRequest { peer: block("192.0.2.0/24"), ..all.clone() }, "stderr 1, accept 1"),
            (LogRequest { peer: block("2001:db8::/32"), ..all.clone() }, "accept 2, stderr 2"),
            (LogRequest { peer: block("any"), id: Some(1), ..all.clone() }, "stderr 1, accept 1"),
            (LogRequest { peer: block("192.0.2.0/24"), id: Some(2), ..all.clone() }, ""),
        ] {
            assert_eq!(events(&request), lines, "{request:?}");
        }
    }

    #[test]
    fn lines_have_the_form_that_is_wanted() {
        let text = |colour| LogRequest { id: Some(2), form: LineForm::Text { colour }, ..Default::default() };
        let line = &selected(&text(false))[1];
        let time = line["time"].as_str().expect("a time");
        assert_eq!(line["text"], format!("{time} stderr service=git id=2 text=another"));
        let coloured = &selected(&text(true))[1];
        assert!(coloured["text"].as_str().is_some_and(|text| text.contains("\x1b[1mstderr\x1b[0m")));
    }
}
