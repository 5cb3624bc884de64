//! The watcher of a supervisor: observes every connection at each look, and returns those to
//! signal.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::diag::{Diag, SocketInfo};
use super::state::{Escalation, Observation, TrackedConnection, WatchRules};
use crate::lifecycle::outcome::EndReason;
use crate::log::Log;
use crate::net::listener::Listener;

/// The connections as of the last look, and the means of the next one.
#[derive(Debug)]
pub(crate) struct Watcher {
    rules: WatchRules,
    /// Without it, only the lifetime is enforced.
    diag: Option<Diag>,
    /// Family (IPv6 or not) and port of the connections' sockets.
    ports: Vec<(bool, u16)>,
    connections: HashMap<usize, TrackedConnection>,
    next_look: Instant,
}

/// A connection, as the board has it before a look.
pub(crate) struct ConnectionSnapshot {
    pub(crate) pid: i32,
    pub(crate) slot: usize,
    pub(crate) id: u64,
    pub(crate) started: Instant,
    /// Inode of its socket; `None` where it is not a TCP socket.
    pub(crate) socket: Option<u64>,
    /// Bytes that the client's proxy sent before those of the client.
    pub(crate) header: u32,
}

impl Watcher {
    /// A watcher with these rules. `diag` is a socket for sock_diag: `None` where no rule needs
    /// one, `Some(None)` where it could not be made.
    pub(crate) fn new(
        rules: WatchRules,
        diag: Option<Option<OwnedFd>>,
        listeners: &[Listener],
        log: &mut Log,
    ) -> Watcher {
        if let Some(None) = diag {
            log.warning("sock_diag is unavailable: disconnected and idle clients will not be detected");
        }
        let mut ports: Vec<(bool, u16)> = listeners.iter().filter_map(Listener::family_and_port).collect();
        ports.sort_unstable();
        ports.dedup();
        let diag = diag.flatten().map(Diag::new);
        Watcher { rules, diag, ports, connections: HashMap::new(), next_look: Instant::now() }
    }

    /// The time of the next look; `None` without connections or rules.
    pub(crate) fn deadline(&self, any_connection: bool) -> Option<Instant> {
        if !any_connection || !self.rules.are_any() {
            return None;
        }
        let due = self.connections.values().filter_map(TrackedConnection::deadline).min();
        Some(due.map_or(self.next_look, |due| due.min(self.next_look)))
    }

    /// Forgets a connection that has ended. Why it was ended, if so.
    pub(crate) fn forget(&mut self, slot: usize, id: u64) -> Option<EndReason> {
        self.connections.remove(&slot).filter(|tracked| tracked.id == id)?.reason()
    }

    /// Why a connection is being ended, if so.
    pub(crate) fn reason(&self, slot: usize, id: u64) -> Option<EndReason> {
        self.connections.get(&slot).filter(|tracked| tracked.id == id)?.reason()
    }

    /// Observes these connections. Returns the index of each that is to be signalled, and how.
    pub(crate) fn look(
        &mut self,
        connections: &[ConnectionSnapshot],
        clock: Instant,
    ) -> Vec<(usize, Escalation)> {
        self.next_look = clock + self.rules.interval();
        if connections.is_empty() {
            return Vec::new();
        }
        let table = self.table();
        let mut escalations = Vec::new();
        for (index, connection) in connections.iter().enumerate() {
            let tracked = self
                .connections
                .entry(connection.slot)
                .or_insert_with(|| TrackedConnection::new(connection.id, connection.started));
            if tracked.id != connection.id {
                *tracked = TrackedConnection::new(connection.id, connection.started);
            }
            let observation = table.as_ref().map_or(Observation::Unknown, |table| observe(connection, table));
            if let Some(escalation) = tracked.look(observation, &self.rules, clock) {
                escalations.push((index, escalation));
            }
        }
        escalations
    }

    /// All sockets of the connections, by inode; `None` where the kernel does not report them.
    fn table(&mut self) -> Option<HashMap<u64, SocketInfo>> {
        let diag = self.diag.as_mut()?;
        let bytes = self.rules.timeouts.need_byte_counts();
        let mut all = HashMap::new();
        for (ipv6, port) in &self.ports {
            // Without one of the parts, present sockets would look disconnected.
            all.extend(diag.connected(*ipv6, *port, bytes).ok()?);
        }
        Some(all)
    }
}

fn observe(connection: &ConnectionSnapshot, table: &HashMap<u64, SocketInfo>) -> Observation {
    let Some(socket) = connection.socket else { return Observation::Unknown };
    match table.get(&socket) {
        Some(info) => Observation::Connected {
            bytes: info.received.wrapping_add(info.acked),
            received_any: info.received > connection.header.into(),
        },
        // A reset socket is not in the table, although the process still has it open.
        None if has_socket(connection.pid, socket) => Observation::Disconnected,
        None => Observation::Unknown,
    }
}

/// Whether a process has the socket with this inode open. True where its descriptors may not be
/// read: a reset is the most common reason for a socket to leave the table while its process runs.
fn has_socket(pid: i32, inode: u64) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let wanted = format!("socket:[{inode}]");
    descriptors.flatten().any(|descriptor| {
        std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == &*wanted)
    })
}
