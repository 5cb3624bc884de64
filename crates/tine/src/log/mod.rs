//! The log: every line that a process of tine can write, one function each.
//!
//! A line is one event, `TIME EVENT key=value …` as text or the same keys in JSON. Writing never
//! blocks: a line that standard error does not take is dropped and counted, and a later line has
//! the count.

mod escape;
mod format;
pub(crate) mod limit;
mod peers;
mod sink;
mod value;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use tine_sys::process::{Ended, How};

use crate::error::{Error, one_line};
use crate::lifecycle::outcome::{Outcome, signal_name};
use crate::net::control_socket::Operator;
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;
pub(crate) use escape::whole_characters;
pub(crate) use format::Format;
pub use format::LogFormat;
pub use peers::Dialect;
use sink::{Sink, Target};
use value::FieldValue::{self, Bytes, Decimal, Number, Text};
use value::write_value;

/// Which events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Errors and warnings only.
    Quiet,
    /// Every event.
    #[default]
    Normal,
    /// Every event, and the bytes that connections receive, shortened and escaped.
    Verbose,
}

/// A log on standard error.
#[derive(Debug)]
pub(crate) struct Log {
    format: Format,
    level: LogLevel,
    colour: bool,
    sink: Sink,
    /// Standard output, for the events of `tcpsvd`.
    events: Option<Box<Sink>>,
    line: String,
    /// The name of the service, logged in each line; `None` in a server with one service.
    service: Option<String>,
}

/// The resources that a connection used, for its `end` line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) duration: Duration,
    pub(crate) bytes: Option<(u64, u64)>,
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
}

impl Log {
    /// A log on standard error of this process.
    pub(crate) fn new(format: Format, level: LogLevel, service: Option<String>) -> Log {
        let colour = format == Format::Text
            && std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let sink = Sink::of(Target::StandardError);
        let events = (format == Format::Peer(Dialect::Tcpsvd) && level >= LogLevel::Verbose)
            .then(|| Box::new(Sink::of(Target::StandardOutput)));
        Log { format, level, colour, sink, events, line: String::new(), service }
    }

    /// The same log, without a descriptor of its own, for a connection process.
    pub(crate) fn for_connection(&self) -> Log {
        let Log { format, level, colour, .. } = *self;
        let service = self.service.clone();
        Log { format, level, colour, sink: Sink::plain(), events: None, line: String::new(), service }
    }

    /// Moves the log's own descriptor, if it has one, to this number or a higher one.
    pub(crate) fn move_above(&mut self, lowest: i32) {
        self.sink.move_above(lowest);
        self.events.iter_mut().for_each(|sink| sink.move_above(lowest));
    }

    /// Whether accepted and ended connections are logged.
    pub(crate) fn logs_connections(&self) -> bool {
        self.format != Format::Off && self.level >= self.connection_level()
    }

    /// The lowest level at which connections are logged.
    fn connection_level(&self) -> LogLevel {
        if matches!(self.format, Format::Peer(_)) { LogLevel::Verbose } else { LogLevel::Normal }
    }

    /// Whether received bytes are logged.
    pub(crate) fn logs_bytes(&self) -> bool {
        !matches!(self.format, Format::Off | Format::Peer(_)) && self.level >= LogLevel::Verbose
    }

    pub(crate) fn listen(&mut self, address: &str, backlog: u32) {
        if let Some(dialect) = self.verbose_dialect() {
            return self.peer_line(dialect.listen(address));
        }
        self.event("listen", &[("address", Text(address)), ("backlog", Number(backlog.into()))]);
    }

    /// The super-server whose lines about connections are written, if there is one.
    fn verbose_dialect(&self) -> Option<Dialect> {
        match self.format {
            Format::Peer(dialect) if self.level >= LogLevel::Verbose => Some(dialect),
            _ => None,
        }
    }

    /// The number of connections at the start, as a line of other super-servers only.
    pub(crate) fn first_status(&mut self, limit: usize) {
        if let Some(dialect) = self.verbose_dialect().filter(|dialect| dialect.status_at_start()) {
            self.peer_line(Some(dialect.status(0, limit)));
        }
    }

    /// The same in a forker, before the lines of a connection process.
    pub(crate) fn status_before(&mut self, count: impl FnOnce() -> usize, limit: usize) {
        if let Some(dialect) = self.verbose_dialect().filter(|dialect| dialect.status_precedes()) {
            self.peer_line(Some(dialect.status(count(), limit)));
        }
    }

    /// The same after a connection.
    pub(crate) fn status(&mut self, count: impl FnOnce() -> usize, limit: usize) {
        if let Some(dialect) = self.verbose_dialect() {
            self.peer_line(Some(dialect.status(count(), limit)));
        }
    }

    /// The end of a connection, as other super-servers write it. `left`: the connections that its
    /// source still has. False if that is not the format.
    pub(crate) fn end_of_peer(
        &mut self,
        peer: &Peer,
        pid: i32,
        status: i32,
        left: impl FnOnce() -> usize,
    ) -> bool {
        if let Some(dialect) = self.verbose_dialect() {
            self.peer_line(Some(dialect.end(*peer, pid, status, left())));
        }
        matches!(self.format, Format::Peer(_))
    }

    pub(crate) fn accept(
        &mut self,
        id: u64,
        peer: &Peer,
        proxied: Option<&Proxied>,
        pid: i32,
        count: usize,
        limit: usize,
    ) {
        let (peer, proxy) = (peer.to_string(), proxy_of(proxied));
        let mut fields = vec![("id", Number(id)), ("peer", Text(&peer))];
        fields.extend(proxy.as_ref().map(|proxy| ("proxy", Text(proxy))));
        fields.extend([
            ("pid", Number(pid as u64)),
            ("count", Number(count as u64)),
            ("limit", Number(limit as u64)),
        ]);
        self.event("accept", &fields);
    }

    pub(crate) fn end(
        &mut self,
        id: u64,
        peer: &Peer,
        proxied: Option<&Proxied>,
        pid: i32,
        outcome: &Outcome,
        usage: &Usage,
    ) {
        let (peer, proxy) = (peer.to_string(), proxy_of(proxied));
        let outcome = outcome.to_string();
        let mut fields = vec![("id", Number(id)), ("peer", Text(&peer))];
        fields.extend(proxy.as_ref().map(|proxy| ("proxy", Text(proxy))));
        fields.extend([
            ("pid", Number(pid as u64)),
            ("outcome", Text(&outcome)),
            ("seconds", Decimal(usage.duration.as_secs_f64())),
        ]);
        if let Some((bytes_in, bytes_out)) = usage.bytes {
            fields.extend([("in", Number(bytes_in)), ("out", Number(bytes_out))]);
        }
        fields.extend([
            ("cpu_seconds", Decimal(usage.cpu.as_secs_f64())),
            ("peak_kib", Number(usage.peak_kib)),
        ]);
        self.event("end", &fields);
    }

    pub(crate) fn receive(&mut self, id: u64, bytes: &[u8]) {
        const SHOWN: usize = 64;
        let shown = match bytes.get(..SHOWN) {
            Some(first) => &first[..whole_characters(first)],
            None => bytes,
        };
        let shown = ("data", Bytes(shown));
        self.event("receive", &[("id", Number(id)), ("bytes", Number(bytes.len() as u64)), shown]);
    }

    /// A line that a program wrote to standard error.
    pub(crate) fn stderr(&mut self, id: u64, line: &[u8]) {
        self.event("stderr", &[("id", Number(id)), ("text", Bytes(line))]);
    }

    /// The number of lines of a program's standard error that were not logged.
    pub(crate) fn stderr_suppressed(&mut self, id: u64, suppressed: u64) {
        self.event("stderr", &[("id", Number(id)), ("suppressed", Number(suppressed))]);
    }

    pub(crate) fn reject(&mut self, peer: &Peer, proxied: Option<&Proxied>, reason: &str) {
        if let Format::Peer(dialect) = self.format {
            return self.peer_line(dialect.reject(*peer));
        }
        let (peer, proxy) = (peer.to_string(), proxy_of(proxied));
        let mut fields = vec![("peer", Text(&peer))];
        fields.extend(proxy.as_ref().map(|proxy| ("proxy", Text(proxy))));
        fields.push(("reason", Text(reason)));
        self.event("reject", &fields);
    }

    /// A proxy is closed because of what it sent, or did not send in time.
    pub(crate) fn reject_proxy(&mut self, proxy: &Peer, reason: &str, text: &str) {
        let proxy = ("peer", Text(&proxy.to_string()));
        self.event("reject", &[proxy, ("reason", Text(reason)), ("text", Text(text))]);
    }

    /// A client is served that limits or rules would delay or reject, if they were enforced.
    /// `host`: the name of its host, if a rule about names decides.
    pub(crate) fn report(
        &mut self,
        peer: &Peer,
        proxied: Option<&Proxied>,
        reason: &str,
        would: &str,
        host: Option<&str>,
    ) {
        let (peer, proxy) = (peer.to_string(), proxy_of(proxied));
        let mut fields = vec![("peer", Text(&peer))];
        fields.extend(proxy.as_ref().map(|proxy| ("proxy", Text(proxy))));
        fields.extend([("reason", Text(reason)), ("would", Text(would))]);
        fields.extend(host.map(|host| ("host", Text(host))));
        self.event("report", &fields);
    }

    /// The number of reported clients that were not logged.
    pub(crate) fn reports_suppressed(&mut self, suppressed: u64, reason: &str) {
        self.event("report", &[("suppressed", Number(suppressed)), ("reason", Text(reason))]);
    }

    /// The number of rejected clients that were not logged.
    pub(crate) fn rejects_suppressed(&mut self, suppressed: u64, reason: &str) {
        self.event("reject", &[("suppressed", Number(suppressed)), ("reason", Text(reason))]);
    }

    /// The access rules were reloaded.
    pub(crate) fn reload(&mut self, rules: usize) {
        self.event("reload", &[("rules", Number(rules as u64))]);
    }

    /// The source of a peer is rejected for this time.
    pub(crate) fn penalty(&mut self, peer: &Peer, reason: &str, time: Duration) {
        self.event(
            "penalty",
            &[
                ("peer", Text(&peer.to_string())),
                ("reason", Text(reason)),
                ("seconds", Decimal(time.as_secs_f64())),
            ],
        );
    }

    /// A process has connected to the control socket that may do nothing.
    pub(crate) fn control_denied(&mut self, operator: Operator) {
        let Operator { uid, pid, .. } = operator;
        self.warning(&format!("control denied to pid {pid} of uid {uid}: only root and the user of the server may (--control-group lets a group read)"));
    }

    /// A control process has ended: a warning if a signal ended it.
    pub(crate) fn control_ended(&mut self, ended: &Ended) {
        if let How::Signaled(signal) = ended.how {
            let signal = signal_name(signal);
            self.warning(&format!("a control process was ended by {signal}: its command is not answered"));
        }
    }

    /// An operator has changed the server.
    pub(crate) fn control(&mut self, operator: Operator, command: &str, detail: Option<&str>) {
        let mut fields = vec![("command", Text(command)), ("uid", Number(operator.uid.into()))];
        // 0 is a process that this PID namespace does not see.
        fields
            .extend(u64::try_from(operator.pid).ok().filter(|pid| *pid > 0).map(|pid| ("pid", Number(pid))));
        fields.extend(detail.map(|detail| ("detail", Text(detail))));
        self.event("control", &fields);
    }

    /// The server drains; `None` if connections have any time to finish.
    pub(crate) fn drain(&mut self, connections: usize, timeout: Option<Duration>) {
        let mut fields = vec![("connections", Number(connections as u64))];
        fields.extend(timeout.map(|timeout| ("timeout_seconds", Decimal(timeout.as_secs_f64()))));
        self.event("drain", &fields);
    }

    /// Every service of the master has stopped.
    pub(crate) fn stop_all(&mut self, services: usize) {
        self.event("stop", &[("services", Number(services as u64))]);
    }

    pub(crate) fn stop(&mut self, connections: u64) {
        if let Some(dialect) = self.verbose_dialect() {
            return self.peer_line(dialect.stop());
        }
        self.event("stop", &[("connections", Number(connections))]);
    }

    pub(crate) fn warning(&mut self, text: &str) {
        self.always("warning", &[("text", Text(text))]);
    }

    pub(crate) fn restart(&mut self, role: &str, pid: i32, outcome: &Outcome, restart_in: Duration) {
        self.always(
            "restart",
            &[
                ("role", Text(role)),
                ("pid", Number(pid as u64)),
                ("outcome", Text(&outcome.to_string())),
                ("restart_in_seconds", Decimal(restart_in.as_secs_f64())),
            ],
        );
    }

    /// The error that ends this process.
    pub(crate) fn fatal(&mut self, error: &Error) {
        self.always("error", &[("text", Text(&error.to_string()))]);
    }

    /// An error after which the process goes on.
    pub(crate) fn error(&mut self, what: &str, why: &str, next: &str) {
        self.always("error", &[("text", Text(&format!("{what}: {why}; {next}")))]);
    }

    pub(crate) fn recovered(&mut self, what: &str) {
        self.always("recovered", &[("text", Text(what))]);
    }

    /// Writes a line of another super-server, if it has one.
    fn peer_line(&mut self, line: Option<String>) {
        let Some(line) = line else { return };
        let sink = self.events.as_deref_mut().unwrap_or(&mut self.sink);
        sink.write(format!("{line}\n").as_bytes());
    }

    fn event(&mut self, event: &str, fields: &[(&str, FieldValue)]) {
        // The formats of other super-servers have lines of their own for events.
        if self.level >= LogLevel::Normal && !matches!(self.format, Format::Peer(_)) {
            self.always(event, fields);
        }
    }

    fn always(&mut self, event: &str, fields: &[(&str, FieldValue)]) {
        if self.format == Format::Off {
            return;
        }
        if let Format::Peer(dialect) = self.format {
            let text = fields.iter().find_map(|(key, value)| match value {
                Text(text) if *key == "text" => Some(*text),
                _ => None,
            });
            let line = dialect.warning(&one_line(text.unwrap_or(event))) + "\n";
            self.sink.write(line.as_bytes());
            return;
        }
        let dropped = self.sink.take_dropped();
        if dropped > 0 {
            self.compose("dropped", &[("lines", Number(dropped))]);
            if !self.sink.write(self.line.as_bytes()) {
                self.sink.add_dropped(dropped);
                return;
            }
        }
        self.compose(event, fields);
        self.sink.write(self.line.as_bytes());
    }

    fn compose(&mut self, event: &str, fields: &[(&str, FieldValue)]) {
        self.line.clear();
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let colour = self.colour;
        let line = &mut self.line;
        // Writing to a string cannot fail.
        let _ = match self.format {
            Format::Json => write!(line, "{{\"time\":\"{time}\",\"event\":\"{event}\""),
            _ if colour => write!(line, "\x1b[2m{time}\x1b[0m {}{event}\x1b[0m", paint(event)),
            _ => write!(line, "{time} {event}"),
        };
        let service = self.service.as_deref().map(|service| ("service", Text(service)));
        for (key, value) in service.iter().chain(fields) {
            let _ = match self.format {
                Format::Json => write!(line, ",\"{key}\":"),
                _ => write!(line, " {key}="),
            };
            write_value(line, value, self.format);
        }
        line.push_str(if self.format == Format::Json { "}\n" } else { "\n" });
    }
}

/// The proxy of a client, as the log shows it.
fn proxy_of(proxied: Option<&Proxied>) -> Option<String> {
    proxied.map(|proxied| proxied.proxy.to_string())
}

fn paint(event: &str) -> &'static str {
    match event {
        "error" => "\x1b[31m",
        "warning" | "restart" | "reject" | "report" | "penalty" | "dropped" => "\x1b[33m",
        "accept" => "\x1b[32m",
        "end" => "\x1b[36m",
        _ => "\x1b[1m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(format: Format, event: &str, fields: &[(&str, FieldValue)]) -> String {
        let mut log = Log { colour: false, ..Log::new(format, LogLevel::Normal, None) };
        log.compose(event, fields);
        let (_time, rest) =
            log.line.split_once(if format == Format::Json { ',' } else { ' ' }).expect("a time first");
        rest.to_owned()
    }

    #[test]
    fn text_lines_quote_and_escape() {
        for (fields, line) in [
            (vec![("id", Number(7)), ("peer", Text("127.0.0.1:80"))], "e id=7 peer=127.0.0.1:80\n"),
            (vec![("outcome", Text("exit 0"))], "e outcome=\"exit 0\"\n"),
            (vec![("outcome", Text("error größe"))], "e outcome=\"error größe\"\n"),
            (vec![("text", Bytes("it's größe \u{1b}".as_bytes()))], "e text=\"it's größe \\u{1b}\"\n"),
            (vec![("data", Text("a\nb\u{1b}\"="))], "e data=\"a\\nb\\u{1b}\\\"=\"\n"),
            (vec![("data", Bytes(b"a\n\xff\""))], "e data=\"a\\n\\xff\\\"\"\n"),
            (vec![("outcome", Text(""))], "e outcome=\"\"\n"),
            (vec![("seconds", Decimal(1.5))], "e seconds=1.500000\n"),
        ] {
            assert_eq!(compose(Format::Text, "e", &fields), line);
        }
    }

    #[test]
    fn json_lines_are_json() {
        let fields = [("text", Text("a\"\n\u{7f}é")), ("n", Number(3)), ("s", Decimal(0.25))];
        let line = compose(Format::Json, "e", &fields);
        let value: serde_json::Value = serde_json::from_str(&format!("{{{line}")).expect("JSON");
        assert_eq!(value["event"], "e");
        assert_eq!(value["text"], "a\"\n\u{7f}é");
        assert_eq!((value["n"].as_u64(), value["s"].as_f64()), (Some(3), Some(0.25)));
    }

    #[test]
    fn levels_select_the_events() {
        for (format, level, connections, bytes) in [
            (Format::Text, LogLevel::Quiet, false, false),
            (Format::Json, LogLevel::Normal, true, false),
            (Format::Text, LogLevel::Verbose, true, true),
            (Format::Off, LogLevel::Verbose, false, false),
        ] {
            let log = Log::new(format, level, None);
            assert_eq!((log.logs_connections(), log.logs_bytes()), (connections, bytes));
        }
    }
}
