//! The connection that a program serves, and what its process needs to know of it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tine_sys::exec::CgroupEntry;

use super::environment::Endpoints;
use crate::admission::access::names::PendingNameRules;
use crate::ipc::board::Entry;
use crate::net::peer::{Peer, canonical};
use crate::net::proxied::Proxied;
use crate::net::unix_name;

/// The connection that the program is executed for.
#[derive(Debug)]
pub(crate) struct ProgramConnection<'a> {
    pub(crate) socket: &'a OwnedFd,
    pub(crate) entry: Entry,
    pub(crate) proxied: Option<&'a Proxied>,
    pub(crate) launch_context: &'a LaunchContext,
}

/// Facts that a forker looks up for a connection process, which has none of the tables.
#[derive(Debug, Default)]
pub(crate) struct LaunchContext {
    /// The entry into the cgroup of the slot; `None` without cgroups.
    pub(crate) cgroup: Option<CgroupEntry>,
    /// The variables that the access rule of the client sets, `NAME=VALUE` and a zero byte each.
    pub(crate) variables: Vec<u8>,
    /// The access rules that the host name of the client decides.
    pub(crate) pending_name_rules: Option<PendingNameRules>,
    /// Whether a client that they deny is served, and reported.
    pub(crate) reports_names: bool,
    /// The connections of the server, and of the client's source; counted for a prepare function.
    pub(crate) counts: (usize, usize),
}

/// The addresses of a connection: those in its PROXY header, or those of its socket.
pub(super) fn endpoints(client: &ProgramConnection) -> Endpoints {
    let socket = client.socket;
    match client.entry.peer {
        Peer::Tcp(remote) => {
            let own = || SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok();
            let local = client.proxied.and_then(|proxied| proxied.local);
            Endpoints::Tcp { local: local.or_else(|| own().map(canonical)), remote }
        }
        Peer::Unix(credentials) => Endpoints::Unix { credentials, name: unix_name::of_client(socket) },
        Peer::Vsock { cid, port } => Endpoints::Vsock { cid, port },
    }
}
