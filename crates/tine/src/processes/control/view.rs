//! What a control process can tell: a copy of what the supervisor knew when it was forked, and the
//! shared memory as it is now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::crashes::CrashQuestions;
use crate::admission::access::prefix::Prefix;
use crate::ipc::board::Entry;
use crate::ipc::board::reader::{BoardConnection, BoardReader};
use crate::ipc::members::Members;
use crate::ipc::setting::{Setting, SettingValue};
use crate::ipc::stats::ConnStats;
use crate::jail::plan::Plan;
use crate::log::ByteCounts;
use crate::log::ring::LogRing;
use crate::net::peer::Peer;
use crate::net::privacy::Privacy;
use crate::system::clock::now;
use crate::system::procfs::ProcessUsage;
use crate::watch::diag::{Diag, SocketInfo};
use crate::watch::history::History;

/// What can be told about a server.
pub(crate) struct View {
    pub(crate) service: Option<String>,
    /// How peers are shown.
    pub(crate) privacy: Privacy,
    /// The process id of the supervisor.
    pub(crate) pid: i32,
    /// `serving`, `paused`, `draining` or `ending`.
    pub(crate) phase: &'static str,
    pub(crate) addresses: Vec<String>,
    pub(crate) listeners: Vec<ListenerView>,
    /// 1 for the first process of the server, one more for each that has replaced another.
    pub(crate) generation: u64,
    pub(crate) max_connections: usize,
    /// Whether connections execute a program, which does not count its bytes.
    pub(crate) has_program: bool,
    /// The number of forkers, each of which can have a template; `None` where the program is not
    /// started warm.
    pub(crate) warm_forkers: Option<usize>,
    /// `None` of a service without a bus.
    pub(crate) fleet: Option<FleetView>,
    pub(crate) processes: Vec<ProcessView>,
    /// The usage of the supervisor itself.
    pub(crate) usage: Option<ProcessUsage>,
    pub(crate) board: BoardReader,
    pub(crate) stats: ConnStats,
    /// The processes, where the program shares state.
    pub(crate) members: Members,
    /// The last lines of the log.
    pub(crate) log: Option<LogRing>,
    pub(crate) history: History,
    /// `None` in a server without crash reports.
    pub(crate) crashes: Option<CrashQuestions>,
    pub(crate) bans: Vec<BanView>,
    /// The first bytes of clients of programs, by slot, with the id of the connection.
    pub(crate) first_bytes: HashMap<usize, (u64, Duration)>,
    pub(crate) settings: Vec<SettingView>,
    /// What connections may not do.
    pub(crate) jail: Plan,
    /// Slots whose connection is being ended, with its id.
    pub(crate) ending: HashMap<usize, u64>,
    /// For the kernel's table of sockets, where it may be read.
    pub(crate) diag: Option<Diag>,
    /// Family (IPv6 or not) and port of the connections' sockets.
    pub(crate) ports: Vec<(bool, u16)>,
}

/// The fleet, as a supervisor knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FleetView {
    /// Whether the bus is there.
    pub(crate) is_connected: bool,
    /// The nodes that are heard, this one included.
    pub(crate) present: u32,
    /// The nodes that are not heard, and have not left.
    pub(crate) lost: u32,
    /// Bans and lifts, and penalties, that other nodes have told.
    pub(crate) bans: u64,
    pub(crate) penalties: u64,
}

/// A forker, a helper or a template.
pub(crate) struct ProcessView {
    pub(crate) role: String,
    pub(crate) pid: i32,
    pub(crate) restarts: u32,
    pub(crate) usage: Option<ProcessUsage>,
}

/// A listener, as the kernel counts it.
pub(crate) struct ListenerView {
    pub(crate) address: String,
    /// The clients in its backlog, and its length; `None` for other sockets than those of TCP.
    pub(crate) queued: Option<u32>,
    pub(crate) backlog: Option<u32>,
    /// Clients that the kernel has dropped, since the backlog was full.
    pub(crate) overflows: Option<u32>,
}

/// An option that can be changed.
pub(crate) struct SettingView {
    pub(crate) setting: Setting,
    pub(crate) value: SettingValue,
    pub(crate) at_start: SettingValue,
}

/// A ban in force.
pub(crate) struct BanView {
    pub(crate) block: Prefix,
    /// The time that is left; `None` for ever.
    pub(crate) left: Option<Duration>,
}

/// The sockets of the connections in the kernel's table.
pub(super) struct Sockets {
    by_inode: HashMap<u64, SocketInfo>,
    /// The socket with this peer; `None` if there are several.
    by_peer: HashMap<(IpAddr, u16), Option<SocketInfo>>,
}

impl View {
    /// Reads the kernel's table of sockets; without it, or where it is denied, no socket is known.
    pub(super) fn sockets(&mut self) -> Sockets {
        let mut by_inode = HashMap::new();
        for (ipv6, port) in &self.ports {
            let found = self.diag.as_mut().and_then(|diag| diag.connected(*ipv6, *port, true).ok());
            by_inode.extend(found.unwrap_or_default());
        }
        let mut by_peer = HashMap::with_capacity(by_inode.len());
        for info in by_inode.values() {
            let known = by_peer.entry(info.peer).or_insert(Some(*info));
            // A client can have several connections from one port, to different addresses.
            *known = known.filter(|known| known == info);
        }
        Sockets { by_inode, by_peer }
    }

    /// The bytes that the process of a connection has counted.
    pub(super) fn counted(&self, slot: usize) -> Option<ByteCounts> {
        let bytes = if self.has_program { None } else { self.stats.bytes(slot) };
        bytes.map(ByteCounts::of_process)
    }

    /// The time from the start of a connection to the first byte of its client.
    pub(super) fn first_byte(&self, slot: usize, entry: &Entry) -> Option<Duration> {
        match self.has_program {
            true => self.first_bytes.get(&slot).filter(|(id, _)| *id == entry.id).map(|(_, time)| *time),
            false => self.stats.first_byte(slot, entry.start, now()),
        }
    }
}

impl Sockets {
    /// No socket is known.
    pub(super) fn none() -> Sockets {
        Sockets { by_inode: HashMap::new(), by_peer: HashMap::new() }
    }

    /// The socket of a connection.
    pub(super) fn of(&self, connection: &BoardConnection) -> Option<SocketInfo> {
        if let Some(info) = self.by_inode.get(&connection.socket).filter(|_| connection.socket != 0) {
            return Some(*info);
        }
        // The other end of the socket is the proxy, where one speaks for the client.
        match connection.proxied.map_or(connection.entry.peer, |proxied| proxied.proxy) {
            Peer::Tcp(address) => *self.by_peer.get(&(address.ip(), address.port()))?,
            _ => None,
        }
    }
}

/// A time of the monotonic clock as a date (RFC 3339).
pub(super) fn date(monotonic: u64) -> String {
    let ago = Duration::from_nanos(now().saturating_sub(monotonic));
    let time = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(time).to_string()
}
