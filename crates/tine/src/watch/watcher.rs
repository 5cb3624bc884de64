//! The watcher of a supervisor: observes every connection at each look, and returns those to
//! signal.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::diag::{Diag, SocketInfo};
use super::proc_net;
use super::state::{Escalation, Observation, TrackedConnection, WatchRules};
use crate::lifecycle::outcome::EndReason;
use crate::log::Log;
use crate::net::listener::Listener;
use crate::net::peer::Peer;
use crate::system::procfs;

/// The connections as of the last look, and the means of the next one.
#[derive(Debug)]
pub(crate) struct Watcher {
    rules: WatchRules,
    /// The socket of each connection is noted. Otherwise it is found by its peer.
    has_notes: bool,
    /// `None` where the system denies sock_diag: then `/proc/net/tcp` is read, without byte counts.
    diag: Option<Diag>,
    /// Family (IPv6 or not) and port of the connections' sockets.
    ports: Vec<(bool, u16)>,
    connections: HashMap<usize, TrackedConnection>,
    next_look: Instant,
    /// When the answers are looked at, if they are.
    next_answers: Instant,
    /// When the next connection may be noticed, while there is none.
    next_notice: Instant,
}

/// The sockets in the kernel's table.
#[derive(Debug)]
struct SocketTable {
    sockets: HashMap<u64, SocketInfo>,
    /// The inode of the socket with this peer; `None` if there are several.
    by_peer: HashMap<(IpAddr, u16), Option<u64>>,
    /// Whether the sockets have their counts and answers.
    has_details: bool,
    /// Whether the table is that of sock_diag, which has counts where they are needed.
    is_counted: bool,
}

/// A connection, as the board has it before a look.
pub(crate) struct ConnectionSnapshot {
    pub(crate) pid: i32,
    pub(crate) slot: usize,
    pub(crate) id: u64,
    pub(crate) started: Instant,
    /// The other end of its socket: the client, or the proxy of the client.
    pub(crate) peer: Peer,
    /// Inode of its socket; `None` where it was not noted, or is not that of a TCP socket.
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
        let is_needed = diag.is_some();
        let mut ports: Vec<(bool, u16)> = listeners.iter().filter_map(Listener::family_and_port).collect();
        ports.sort_unstable();
        ports.dedup();
        // A socket can be made where the kernel has no module that answers.
        let diag = diag.flatten().map(Diag::new).and_then(|mut diag| diag.answers(&ports).then_some(diag));
        let undetected = undetected(&rules, proc_net::connected(&[]).is_ok());
        if is_needed && diag.is_none() && !ports.is_empty() && !undetected.is_empty() {
            log.warning(&format!("sock_diag is unavailable: {undetected} will not be detected"));
        }
        let now = Instant::now();
        Watcher {
            rules,
            has_notes: rules.need_sockets(),
            diag,
            ports,
            connections: HashMap::new(),
            next_look: now,
            next_answers: now,
            next_notice: now,
        }
    }

    /// Changes the rules. They hold for the connections that there are, too.
    pub(crate) fn set_rules(&mut self, rules: WatchRules) {
        self.rules = rules;
        let now = Instant::now();
        (self.next_look, self.next_notice) = (now, now);
    }

    /// Makes the socket for sock_diag, where no rule has needed one.
    pub(crate) fn require_diag(&mut self, socket: impl FnOnce() -> Option<OwnedFd>) {
        if self.diag.is_none() {
            let diag = socket().map(Diag::new);
            self.diag = diag.and_then(|mut diag| diag.answers(&self.ports).then_some(diag));
        }
    }

    /// Whether the kernel tells the bytes of sockets.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.diag.is_some()
    }

    /// When the next connection has to be noticed, in a server that has none; `None` without rules.
    /// At once if its first seconds matter; else at intervals, so that short connections cost
    /// nothing.
    pub(crate) fn notice_at(&self) -> Option<Instant> {
        self.rules.are_any().then_some(self.next_notice)
    }

    /// A notice of the next connection was requested.
    pub(crate) fn notice_requested(&mut self, clock: Instant) {
        let pause = if self.rules.need_sockets() { Duration::ZERO } else { self.rules.interval() };
        self.next_notice = clock + pause;
    }

    /// The time of the next look; `None` without connections or rules.
    pub(crate) fn deadline(&self, any_connection: bool) -> Option<Instant> {
        if !any_connection || !self.rules.are_any() {
            return None;
        }
        let due = self.connections.values().filter_map(TrackedConnection::deadline).min();
        Some(due.map_or(self.next_look, |due| due.min(self.next_look)))
    }

    /// Forgets a connection that has ended, and returns what was observed of it.
    pub(crate) fn forget(&mut self, slot: usize, id: u64) -> Option<TrackedConnection> {
        self.connections.remove(&slot).filter(|tracked| tracked.id == id)
    }

    /// The first bytes that were observed, by slot, with the id of the connection.
    pub(crate) fn first_bytes(&self) -> HashMap<usize, (u64, Duration)> {
        let found = |(slot, tracked): (&usize, &TrackedConnection)| {
            Some((*slot, (tracked.id, tracked.first_byte()?)))
        };
        self.connections.iter().filter_map(found).collect()
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
        let table = self.table(clock);
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
            let counts = table.as_ref().filter(|_| self.rules.need_byte_counts());
            if let Some(sample) = counts.and_then(|table| sample(connection, table)) {
                tracked.note_sample(sample);
            }
            if let Some(escalation) = tracked.look(observation, &self.rules, clock) {
                escalations.push((index, escalation));
            }
        }
        escalations
    }

    /// All sockets of the connections; `None` where the kernel does not report them.
    fn table(&mut self, clock: Instant) -> Option<SocketTable> {
        let Some(diag) = &mut self.diag else {
            let sockets = proc_net::connected(&self.ports).ok()?;
            let by_peer = by_peer(&sockets);
            return Some(SocketTable { sockets, by_peer, has_details: false, is_counted: false });
        };
        let answers = self.rules.answers.filter(|_| self.next_answers <= clock);
        if let Some(limits) = answers {
            // Not at each look: for each socket, the kernel collects much more than its address.
            self.next_answers = clock + limits.interval();
        }
        let has_details = answers.is_some() || self.rules.need_byte_counts();
        let mut sockets = HashMap::new();
        for (ipv6, port) in &self.ports {
            // Without one of the parts, present sockets would look disconnected.
            sockets.extend(diag.connected(*ipv6, *port, has_details).ok()?);
        }
        let by_peer = if self.has_notes { HashMap::new() } else { by_peer(&sockets) };
        Some(SocketTable { sockets, by_peer, has_details, is_counted: true })
    }
}

/// The sockets by their peers. A client can have several connections from one port, to different
/// addresses; then no socket is known to be that of one of them.
fn by_peer(sockets: &HashMap<u64, SocketInfo>) -> HashMap<(IpAddr, u16), Option<u64>> {
    let mut by_peer = HashMap::with_capacity(sockets.len());
    for (inode, info) in sockets {
        match by_peer.entry(info.peer) {
            Entry::Vacant(vacant) => {
                vacant.insert(Some(*inode));
            }
            Entry::Occupied(mut several) => *several.get_mut() = None,
        }
    }
    by_peer
}

/// What a server without sock_diag does not detect, with or without a list of the sockets.
fn undetected(rules: &WatchRules, are_listed: bool) -> String {
    let disconnected = (rules.ends_without_client && !are_listed).then_some("disconnected clients");
    let idle = rules.timeouts.need_byte_counts().then_some("idle clients");
    let output = rules.max_output.map(|_| "clients that have received too much");
    let vanished = rules.answers.map(|_| "clients that vanish with data in flight");
    [disconnected, idle, output, vanished].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The inode of the socket of a connection.
fn socket_of(connection: &ConnectionSnapshot, table: &SocketTable) -> Option<u64> {
    let by_peer = || match connection.peer {
        Peer::Tcp(address) => *table.by_peer.get(&(address.ip(), address.port()))?,
        Peer::Unix(_) | Peer::Vsock { .. } => None,
    };
    connection.socket.or_else(by_peer)
}

/// The bytes received from the client and acknowledged by it, where the table has them.
fn sample(connection: &ConnectionSnapshot, table: &SocketTable) -> Option<(u64, u64)> {
    let info = table.sockets.get(&socket_of(connection, table)?).filter(|_| table.has_details)?;
    Some((info.payload_received().saturating_sub(connection.header.into()), info.payload_sent()))
}

fn observe(connection: &ConnectionSnapshot, table: &SocketTable) -> Observation {
    let Some(socket) = socket_of(connection, table) else { return Observation::Unknown };
    match table.sockets.get(&socket) {
        Some(_) if !table.is_counted => Observation::Unknown,
        Some(info) => Observation::Connected {
            bytes: info.received.wrapping_add(info.acked),
            received_any: info.received > connection.header.into(),
            answers: table.has_details.then_some(info.answers),
        },
        // A reset socket is not in the table, although the process still has it open.
        None if has_socket(connection.pid, socket) => Observation::Disconnected,
        None => Observation::Unknown,
    }
}

/// Whether a process has the socket with this inode open. True where its descriptors may not be
/// read: a reset is the most common reason for a socket to leave the table while its process runs.
fn has_socket(pid: i32, inode: u64) -> bool {
    if procfs::unavailable().is_some() {
        return true;
    }
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let wanted = format!("socket:[{inode}]");
    descriptors.flatten().any(|descriptor| {
        std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == &*wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(peer: [u8; 4], port: u16, received: u64) -> SocketInfo {
        let mut info = SocketInfo::of_peer((IpAddr::from(peer), port));
        info.received = received;
        info
    }

    #[test]
    fn a_socket_without_a_note_is_found_by_its_peer_unless_there_are_several() {
        let sockets = HashMap::from([
            (1, info([192, 0, 2, 1], 7, 1)),
            (2, info([192, 0, 2, 1], 8, 2)),
            (3, info([192, 0, 2, 2], 7, 3)),
            (4, info([192, 0, 2, 2], 7, 4)),
        ]);
        let table = SocketTable { by_peer: by_peer(&sockets), sockets, has_details: true, is_counted: true };
        let look = |peer: Peer, socket| {
            let started = Instant::now();
            match observe(
                &ConnectionSnapshot { pid: 0, slot: 0, id: 1, started, peer, socket, header: 0 },
                &table,
            ) {
                Observation::Connected { bytes, answers, .. } => answers.map(|_| bytes),
                Observation::Disconnected | Observation::Unknown => None,
            }
        };
        let tcp = |text: &str| Peer::Tcp(text.parse().expect("an address"));
        let started = Instant::now();
        let peer = tcp("192.0.2.1:8");
        let connection =
            ConnectionSnapshot { pid: 0, slot: 0, id: 1, started, peer, socket: None, header: 1 };
        assert_eq!(sample(&connection, &table), Some((1, 0)), "without the header of a proxy");
        assert_eq!(look(tcp("192.0.2.1:8"), None), Some(2));
        assert_eq!(look(tcp("192.0.2.1:8"), Some(1)), Some(1), "a note is more precise");
        for peer in [tcp("192.0.2.2:7"), tcp("192.0.2.9:7"), Peer::Unix(None)] {
            assert_eq!(look(peer, None), None, "{peer}");
        }
    }
}
