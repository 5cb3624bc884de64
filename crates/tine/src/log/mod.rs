//! The log: every line that a process of tine can write, one function each. Those about connections
//! are here.
//!
//! A line is one event, `TIME EVENT key=value …` as text or the same keys in JSON. It goes to
//! standard error, or to the log writer, which writes it to the target. Writing never blocks: a
//! line that is not taken is dropped and counted, and a later line has the count.

pub(crate) mod channel;
mod compose;
mod dialect_lines;
mod escape;
mod event;
mod format;
pub(crate) mod handler_lines;
mod journal;
mod level;
pub(crate) mod limit;
mod line;
mod peers;
pub(crate) mod record;
pub(crate) mod ring;
mod server_lines;
mod sink;
mod syslog;
mod target;
mod usage;
mod value;
mod wrapping;
pub(crate) mod writer_lines;

use std::io::IsTerminal;
use std::time::SystemTime;

use tine_sys::memory::FlagReader;

use crate::error::one_line;
use crate::lifecycle::outcome::Outcome;
use crate::net::peer::Peer;
use crate::net::privacy::Privacy;
use crate::net::proxied::Proxied;
use channel::LineSender;
use compose::Composer;
pub(crate) use escape::whole_characters;
pub(crate) use format::Format;
pub use format::LogFormat;
pub use level::LogLevel;
pub use peers::Dialect;
use ring::LogRing;
use sink::{Sink, Target};
pub(crate) use target::LogSettings;
pub use target::LogTarget;
pub(crate) use usage::{ByteCounts, BytesSource, StartKind, Times, Usage, Waited};
use value::FieldValue::{self, Bytes, Number, Text};
use wrapping::Wrapping;

/// The log of a process.
#[derive(Debug)]
pub(crate) struct Log {
    format: Format,
    /// At the start.
    level: LogLevel,
    /// The level now, as a word, where it can change.
    level_now: Option<FlagReader>,
    composer: Composer,
    sink: Sink,
    /// Standard output, for the events of `tcpsvd`.
    events: Option<Box<Sink>>,
    /// Memory with the last lines, in a server with a control socket.
    ring: Option<LogRing>,
    /// The same for connection processes.
    ring_of_connections: Option<LogRing>,
    privacy: Privacy,
    /// The mode of the jail, for the ends of connections.
    jail: Option<&'static str>,
}

impl Log {
    /// A log of this process: through the channel to the log writer, or else on standard error. The
    /// name of the service is in each line; `None` in a server with one service.
    pub(crate) fn new(
        format: Format,
        level: LogLevel,
        service: Option<String>,
        channel: Option<LineSender>,
    ) -> Log {
        if let Some(LineSender { socket, wrapping }) = channel {
            let composer = Composer::new(format, false, service, wrapping);
            let (sink, privacy) = (Sink::channel(socket), Privacy::None);
            return Log {
                format,
                level,
                level_now: None,
                composer,
                sink,
                events: None,
                ring: None,
                ring_of_connections: None,
                privacy,
                jail: None,
            };
        }
        let colour = format == Format::Text
            && std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let sink = Sink::of(Target::StandardError);
        let events = (format == Format::Peer(Dialect::Tcpsvd) && level >= LogLevel::Verbose)
            .then(|| Box::new(Sink::of(Target::StandardOutput)));
        let wrapping = journal::is_stream(rustix::stdio::stderr()).then_some(Wrapping::Priority);
        let composer = Composer::new(format, colour, service, wrapping);
        Log {
            format,
            level,
            level_now: None,
            composer,
            sink,
            events,
            ring: None,
            ring_of_connections: None,
            privacy: Privacy::None,
            jail: None,
        }
    }

    /// The same log for a connection process, which has no descriptor of the server: on standard
    /// error, or through a descriptor of its own.
    pub(crate) fn for_connection(&self) -> Log {
        let Log { format, level, level_now, ring_of_connections, privacy, jail, .. } = *self;
        let ring = ring_of_connections;
        let (composer, sink) = (self.composer.copy(), self.sink.for_connection());
        let events = None;
        Log { format, level, level_now, composer, sink, events, ring, ring_of_connections, privacy, jail }
    }

    /// Has the level that this word has from now on, once it has one.
    pub(crate) fn follow_level(&mut self, level: FlagReader) {
        self.level_now = Some(level);
    }

    #[inline]
    fn level(&self) -> LogLevel {
        self.level_now.and_then(|level| LogLevel::from_word(level.get())).unwrap_or(self.level)
    }

    /// Keeps later lines in this memory, too; with `None` no longer.
    pub(crate) fn keep_lines_in(&mut self, ring: Option<LogRing>) {
        self.ring = ring;
        self.ring_of_connections = ring;
    }

    /// Leaves the memory with the last lines out of processes forked from now on: connection
    /// processes that write no line are forked faster, and it lies in a part of the address space
    /// for which each would need a page table.
    pub(crate) fn exclude_ring_from_fork(&mut self) {
        self.ring.iter().for_each(|ring| ring.set_in_forks(false));
        self.ring_of_connections = None;
    }

    /// The same log, which shows peers in this way.
    pub(crate) fn with_privacy(self, privacy: Privacy) -> Log {
        Log { privacy, ..self }
    }

    /// How this log shows peers.
    pub(crate) fn privacy(&self) -> Privacy {
        self.privacy
    }

    fn shown(&self, peer: &Peer) -> String {
        self.privacy.show(*peer).to_string()
    }

    fn shown_proxy(&self, proxied: Option<&Proxied>) -> Option<String> {
        proxied.map(|proxied| self.shown(&proxied.proxy))
    }

    /// The channel to the log writer, for another process; `None` without one.
    pub(crate) fn channel(&self) -> Option<LineSender> {
        let socket = self.sink.copy_of_channel()?;
        Some(LineSender { socket, wrapping: self.composer.wrapping.clone() })
    }

    /// Closes the channel to the log writer.
    pub(crate) fn close_channel(&mut self) {
        let stderr = Log::new(self.format, self.level, self.composer.service.take(), None);
        let Log { level_now, ring, ring_of_connections, privacy, .. } = *self;
        *self = Log { level_now, ring, ring_of_connections, privacy, ..stderr };
    }

    /// Moves the log's own descriptor, if it has one, to this number or a higher one. The channel
    /// stays where connection processes keep it, if they log what they receive.
    pub(crate) fn move_above(&mut self, lowest: i32) {
        if !(self.sink.is_channel() && self.may_log_in_connections()) {
            self.sink.move_above(lowest);
        }
        self.events.iter_mut().for_each(|sink| sink.move_above(lowest));
    }

    /// Whether accepted and ended connections are logged.
    pub(crate) fn logs_connections(&self) -> bool {
        self.format != Format::Off && self.level() >= self.connection_level()
    }

    /// The lowest level at which connections are logged.
    fn connection_level(&self) -> LogLevel {
        if matches!(self.format, Format::Peer(_)) { LogLevel::Verbose } else { LogLevel::Normal }
    }

    /// Whether received bytes are logged now. Without `--verbose` at the start, a connection
    /// process does not look at the level: its page would be a fault more.
    pub(crate) fn logs_bytes(&self) -> bool {
        self.may_log_bytes() && self.level() >= LogLevel::Verbose
    }

    /// Whether received bytes can ever be logged: `--verbose` at the start.
    pub(crate) fn may_log_bytes(&self) -> bool {
        !matches!(self.format, Format::Off | Format::Peer(_)) && self.level >= LogLevel::Verbose
    }

    pub(crate) fn listen(&mut self, address: &str, backlog: u32) {
        if let Some(dialect) = self.verbose_dialect() {
            return self.peer_line(dialect.listen(address));
        }
        self.event("listen", &[("address", Text(address)), ("backlog", Number(backlog.into()))]);
    }

    /// `observe`: an address that the observer listens on.
    pub(crate) fn observe(&mut self, address: &str) {
        self.event("observe", &[("address", Text(address))]);
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
        let (peer, proxy) = (self.shown(peer), self.shown_proxy(proxied));
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
        let (peer, proxy) = (self.shown(peer), self.shown_proxy(proxied));
        let outcome = outcome.to_string();
        let mut fields = vec![("id", Number(id)), ("peer", Text(&peer))];
        fields.extend(proxy.as_ref().map(|proxy| ("proxy", Text(proxy))));
        fields.extend([("pid", Number(pid as u64)), ("outcome", Text(&outcome))]);
        fields.extend(self.jail.map(|mode| ("jail", Text(mode))));
        fields.extend(usage.fields());
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

    /// The report of a crash was written.
    pub(crate) fn crash(&mut self, id: u64, cause: &str, report: &str) {
        self.always("crash", &[("id", Number(id)), ("cause", Text(cause)), ("report", Text(report))]);
    }

    pub(crate) fn reject(&mut self, peer: &Peer, proxied: Option<&Proxied>, reason: &str) {
        if let Format::Peer(dialect) = self.format {
            return self.peer_line(dialect.reject(*peer));
        }
        let (peer, proxy) = (self.shown(peer), self.shown_proxy(proxied));
        let mut fields = vec![("peer", Text(&peer))];
        fields.extend(proxy.as_ref().map(|proxy| ("proxy", Text(proxy))));
        fields.push(("reason", Text(reason)));
        self.event("reject", &fields);
    }

    /// A proxy is closed because of what it sent, or did not send in time.
    pub(crate) fn reject_proxy(&mut self, proxy: &Peer, reason: &str, text: &str) {
        let proxy = self.shown(proxy);
        let proxy = ("peer", Text(&proxy));
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
        let (peer, proxy) = (self.shown(peer), self.shown_proxy(proxied));
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

    fn event(&mut self, event: &str, fields: &[(&str, FieldValue)]) {
        // The formats of other super-servers have lines of their own for events.
        if self.level() >= LogLevel::Normal && !matches!(self.format, Format::Peer(_)) {
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
        let time = SystemTime::now();
        // First: a line that was read from the log is in memory.
        if let Some(ring) = self.ring {
            ring.keep(time, event, fields);
        }
        let dropped = self.sink.take_dropped();
        if dropped > 0 {
            let line = self.composer.compose_at(time, "dropped", &[("lines", Number(dropped))]);
            if !self.sink.write(line) {
                self.sink.add_dropped(dropped);
                self.ring.into_iter().for_each(LogRing::count_dropped);
                return;
            }
        }
        let line = self.composer.compose_at(time, event, fields);
        if !self.sink.write(line) {
            self.ring.into_iter().for_each(LogRing::count_dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_select_the_events() {
        for (format, level, connections, bytes) in [
            (Format::Text, LogLevel::Quiet, false, false),
            (Format::Json, LogLevel::Normal, true, false),
            (Format::Text, LogLevel::Verbose, true, true),
            (Format::Off, LogLevel::Verbose, false, false),
        ] {
            let log = Log::new(format, level, None, None);
            assert_eq!((log.logs_connections(), log.logs_bytes()), (connections, bytes));
        }
    }
}
