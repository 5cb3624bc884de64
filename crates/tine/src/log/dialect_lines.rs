//! The lines about connections in a log that has those of another super-server.

use super::Log;
use super::format::Format;
use super::level::LogLevel;
use super::peers::Dialect;
use crate::net::peer::Peer;

impl Log {
    /// Writes a line of another super-server, if it has one.
    pub(super) fn peer_line(&mut self, line: Option<String>) {
        let Some(line) = line else { return };
        let sink = self.events.as_deref_mut().unwrap_or(&mut self.sink);
        sink.write(format!("{line}\n").as_bytes());
    }

    /// The super-server whose lines about connections are written, if there is one.
    pub(super) fn verbose_dialect(&self) -> Option<Dialect> {
        match self.format {
            Format::Peer(dialect) if self.level() >= LogLevel::Verbose => Some(dialect),
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
}
