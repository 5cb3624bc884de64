//! Ends of connections that are held back until the kernel has told their bytes: those of programs,
//! which count none themselves. The kernel tells them when the client has acknowledged everything;
//! what is not told in time is what the kernel has counted so far.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tine_sys::wait;

use crate::admission::penalty::Fault;
use crate::ipc::board::Entry;
use crate::lifecycle::crash::CrashNote;
use crate::lifecycle::outcome::Outcome;
use crate::log::{ByteCounts, Usage};
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;
use crate::watch::destroyed::DestroyedSockets;
use crate::watch::history::EndedConnection;

/// The longest time that the end of a connection is held back.
const HOLD: Duration = Duration::from_millis(500);

/// The end of a connection, for its line in the log and its record.
pub(super) struct ConnectionEnd {
    pub(super) entry: Entry,
    pub(super) proxied: Option<Proxied>,
    pub(super) pid: i32,
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
    /// The fault and the time of a penalty that begins.
    pub(super) penalty: Option<(Fault, Duration)>,
    /// What its process has noted, if it has crashed.
    pub(super) crash: Option<CrashNote>,
}

impl ConnectionEnd {
    /// What is kept of it for operators.
    pub(super) fn record(&self) -> EndedConnection {
        let ConnectionEnd { entry, proxied, pid, outcome, usage, .. } = self;
        EndedConnection {
            id: entry.id,
            peer: entry.peer,
            proxied: *proxied,
            pid: *pid,
            start: entry.start,
            outcome: outcome.clone(),
            usage: *usage,
        }
    }

    /// The other end of the socket; `None` if it is not one of TCP.
    fn socket_peer(&self) -> Option<SocketAddr> {
        match self.proxied.map_or(self.entry.peer, |proxied| proxied.proxy) {
            Peer::Tcp(address) => Some(address),
            Peer::Unix(_) | Peer::Vsock { .. } => None,
        }
    }

    fn set_bytes(&mut self, (received, sent): (u64, u64)) {
        let header = self.proxied.map_or(0, |proxied| u64::from(proxied.header));
        self.usage.bytes = Some(ByteCounts::of_kernel((received.saturating_sub(header), sent)));
    }
}

/// The ends that are held back.
pub(super) struct HeldEnds {
    /// `None` in a server without programs, or whose kernel does not tell.
    destroyed: Option<DestroyedSockets>,
    /// Family (IPv6 or not) and port of the connections' sockets.
    ports: Vec<(bool, u16)>,
    ends: Vec<(Instant, SocketAddr, ConnectionEnd)>,
}

impl HeldEnds {
    pub(super) fn new(destroyed: Option<DestroyedSockets>, ports: Vec<(bool, u16)>) -> HeldEnds {
        HeldEnds { destroyed, ports, ends: Vec::new() }
    }

    /// Completes an end with the bytes that the kernel has counted, or holds it back.
    pub(super) fn complete_or_hold(&mut self, mut end: ConnectionEnd, now: Instant) -> Option<ConnectionEnd> {
        let Some((destroyed, peer)) = self.destroyed.as_mut().zip(end.socket_peer()) else {
            return Some(end);
        };
        destroyed.read();
        match destroyed.take(peer, end.entry.start) {
            Some(bytes) => {
                end.set_bytes(bytes);
                Some(end)
            }
            None => {
                self.ends.push((now + HOLD, peer, end));
                None
            }
        }
    }

    /// Takes the ends whose bytes are known by now, and those whose time is over; all of them if
    /// none is to be held back any longer.
    pub(super) fn take(&mut self, now: Instant, all: bool) -> Vec<ConnectionEnd> {
        let Some(destroyed) = self.destroyed.as_mut().filter(|_| !self.ends.is_empty()) else {
            return Vec::new();
        };
        destroyed.read();
        let is_any_over = all || self.ends.iter().any(|(until, ..)| *until <= now);
        let remaining = if is_any_over { destroyed.remaining(&self.ports) } else { HashMap::new() };
        if all {
            let is_told = |destroyed: &DestroyedSockets, peer: SocketAddr| {
                destroyed.has(peer) || remaining.contains_key(&(peer.ip(), peer.port()))
            };
            // What is in neither is destroyed already, and its message is on its way.
            let until = Instant::now() + HOLD;
            while Instant::now() < until && !self.ends.iter().all(|(_, peer, _)| is_told(destroyed, *peer)) {
                let mut poll = [PollFd::from_borrowed_fd(destroyed.descriptor(), PollFlags::IN)];
                let _ = wait::until(&mut poll, Some(until));
                destroyed.read();
            }
        }
        let mut taken = Vec::new();
        for (until, peer, mut end) in std::mem::take(&mut self.ends) {
            let is_over = all || until <= now;
            let found = destroyed.take(peer, end.entry.start);
            match found.or_else(|| remaining.get(&(peer.ip(), peer.port())).copied().filter(|_| is_over)) {
                Some(bytes) => end.set_bytes(bytes),
                None if is_over => {}
                None => {
                    self.ends.push((until, peer, end));
                    continue;
                }
            }
            taken.push(end);
        }
        taken
    }

    /// When the time of the first one is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ends.iter().map(|(until, ..)| *until).min()
    }

    /// Readable when the kernel tells more, if an end is held back.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.destroyed.as_ref().filter(|_| !self.ends.is_empty()).map(DestroyedSockets::descriptor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::log::Times;
    use crate::system::clock;

    fn end(peer: Peer, start: u64) -> ConnectionEnd {
        let (none, times) = (Duration::ZERO, Times::default());
        ConnectionEnd {
            entry: Entry { id: 1, peer, start },
            proxied: None,
            pid: 1,
            outcome: Outcome::Exit(0),
            usage: Usage { duration: none, bytes: None, cpu: none, peak_kib: 0, times, start_kind: None },
            penalty: None,
            crash: None,
        }
    }

    #[test]
    fn an_end_is_held_back_until_its_bytes_are_known_or_its_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("bound");
        let ports = vec![(false, local.port())];
        let destroyed = DestroyedSockets::new(&ports, Ok);
        let mut held = HeldEnds::new(destroyed, ports);
        let (now, start) = (Instant::now(), clock::now());
        assert!(held.complete_or_hold(end(Peer::Unix(None), start), now).is_some(), "no socket of TCP");
        let mut client = TcpStream::connect(local).expect("listens");
        client.write_all(b"hello").expect("sends");
        let peer = Peer::Tcp(client.local_addr().expect("bound"));
        let (_server, _) = listener.accept().expect("a client");
        assert!(held.complete_or_hold(end(peer, start), now).is_none());
        assert!(held.descriptor().is_some() && held.take(now, false).is_empty());
        assert_eq!(held.deadline(), Some(now + HOLD));
        // A process still has the socket: what it has so far.
        let ends = held.take(now + HOLD, false);
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].usage.bytes, Some(ByteCounts::of_kernel((5, 0))));
        assert!(held.descriptor().is_none() && held.deadline().is_none());
        let mut none = HeldEnds::new(None, Vec::new());
        assert!(none.complete_or_hold(end(peer, start), now).is_some(), "the kernel does not tell");
    }
}
