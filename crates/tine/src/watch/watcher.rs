//! The supervisor's watcher: one observation of every connection at each look, and which of them to signal.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::diag::{Diag, SocketInfo};
use super::state::{Escalation, Observation, TrackedConnection, WatchRules};
use crate::lifecycle::outcome::EndReason;
use crate::log::Log;
use crate::net::listener::Listener;

/// What is remembered between two looks.
#[derive(Debug)]
pub(crate) struct Watcher {
    rules: WatchRules,
    /// Where it cannot be asked, only the lifetime is kept.
    diag: Option<Diag>,
    /// Family (IPv6 or not) and port of the sockets to look at.
    ports: Vec<(bool, u16)>,
    connections: HashMap<usize, TrackedConnection>,
    next_look: Instant,
}

/// A connection as it was before the kernel was asked.
pub(crate) struct ConnectionSnapshot {
    pub(crate) pid: i32,
    pub(crate) slot: usize,
    pub(crate) id: u64,
    pub(crate) started: Instant,
    /// Its socket's inode; `None` where it is no TCP socket.
    pub(crate) socket: Option<u64>,
}

impl Watcher {
    /// Watches by these rules; `diag` is a way to ask the kernel: none needed, or none to be had.
    pub(crate) fn new(
        rules: WatchRules,
        diag: Option<Option<OwnedFd>>,
        listeners: &[Listener],
        log: &mut Log,
    ) -> Watcher {
        if let Some(None) = diag {
            log.warning("the kernel does not tell of sockets (sock_diag): neither clients that have gone nor idle ones are noticed");
        }
        let mut ports: Vec<(bool, u16)> = listeners.iter().filter_map(Listener::family_and_port).collect();
        ports.sort_unstable();
        ports.dedup();
        let diag = diag.flatten().map(Diag::new);
        Watcher { rules, diag, ports, connections: HashMap::new(), next_look: Instant::now() }
    }

    /// When to look again, if there is anybody to look at.
    pub(crate) fn deadline(&self, anybody: bool) -> Option<Instant> {
        if !anybody || !self.rules.are_any() {
            return None;
        }
        let due = self.connections.values().filter_map(TrackedConnection::deadline).min();
        Some(due.map_or(self.next_look, |due| due.min(self.next_look)))
    }

    /// Forgets a connection that has ended; says why it was ended, if it was.
    pub(crate) fn forget(&mut self, slot: usize, id: u64) -> Option<EndReason> {
        self.connections.remove(&slot).filter(|watched| watched.id == id)?.reason()
    }

    /// Why a connection was told to end, if it was.
    pub(crate) fn reason(&self, slot: usize, id: u64) -> Option<EndReason> {
        self.connections.get(&slot).filter(|watched| watched.id == id)?.reason()
    }

    pub(crate) fn look(&mut self, known: &[ConnectionSnapshot], clock: Instant) -> Vec<(usize, Escalation)> {
        self.next_look = clock + self.rules.interval();
        if known.is_empty() {
            return Vec::new();
        }
        let table = self.table();
        let mut verdicts = Vec::new();
        for (at, one) in known.iter().enumerate() {
            let watched = self
                .connections
                .entry(one.slot)
                .or_insert_with(|| TrackedConnection::new(one.id, one.started));
            if watched.id != one.id {
                *watched = TrackedConnection::new(one.id, one.started);
            }
            let seen = table.as_ref().map_or(Observation::Nothing, |table| see(one, table));
            if let Some(verdict) = watched.look(seen, &self.rules, clock) {
                verdicts.push((at, verdict));
            }
        }
        verdicts
    }

    /// All sockets of the server's connections; `None` where the kernel does not tell.
    fn table(&mut self) -> Option<HashMap<u64, SocketInfo>> {
        let diag = self.diag.as_mut()?;
        let bytes = self.rules.timeouts.count_bytes();
        let mut all = HashMap::new();
        for (ipv6, port) in &self.ports {
            // One look that fails is no look.
            all.extend(diag.connected(*ipv6, *port, bytes).ok()?);
        }
        Some(all)
    }
}

fn see(known: &ConnectionSnapshot, table: &HashMap<u64, SocketInfo>) -> Observation {
    let Some(socket) = known.socket else { return Observation::Nothing };
    match table.get(&socket) {
        Some(facts) => {
            Observation::There { bytes: facts.received.wrapping_add(facts.acked), spoke: facts.received > 0 }
        }
        // A socket that was reset is in the table no more, although the process has it.
        None if has_socket(known.pid, socket) => Observation::Gone,
        None => Observation::Nothing,
    }
}

/// Whether a process has the socket of this inode open. Where it may not be asked, yes: nothing else
/// makes a socket vanish while its process lives on so often.
fn has_socket(pid: i32, inode: u64) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let wanted = format!("socket:[{inode}]");
    descriptors
        .flatten()
        .any(|one| std::fs::read_link(one.path()).is_ok_and(|link| link.as_os_str() == &*wanted))
}
