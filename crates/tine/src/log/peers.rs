//! The log lines of the super-servers by whose names tine can be called. Statistics programs parse
//! them.

use std::net::SocketAddr;

use crate::net::peer::{Credentials, Peer};

/// The super-server whose lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `tcpserver` of ucspi-tcp.
    Tcpserver,
    /// `tcpsvd` of ipsvd.
    Tcpsvd,
    /// `s6-tcpserver` of s6-networking, with this maximum of connections of an address.
    S6Tcpserver(usize),
    /// `s6-ipcserver` of s6, with this maximum of connections of a user; `None` if it does not
    /// look up its clients.
    S6Ipcserver(Option<usize>),
}

use Dialect::{S6Ipcserver, S6Tcpserver, Tcpserver, Tcpsvd};

impl Dialect {
    /// The line about the number of connections.
    pub(super) fn status(self, count: usize, limit: usize) -> String {
        match self {
            Tcpserver => format!("tcpserver: status: {count}/{limit}"),
            Tcpsvd => format!("tcpsvd: info: status {count}/{limit}"),
            S6Tcpserver(_) => format!("s6-tcpserverd: info: status: {count}/{limit}"),
            S6Ipcserver(_) => format!("s6-ipcserverd: info: status: {count}/{limit}"),
        }
    }

    /// Whether a forker writes the status line, before the lines of the connection process.
    pub(super) fn status_precedes(self) -> bool {
        matches!(self, Tcpserver | Tcpsvd)
    }

    /// Whether there is a status line before the first connection.
    pub(super) fn status_at_start(self) -> bool {
        self != Tcpsvd
    }

    /// The line about a listener, from its name in the log.
    pub(super) fn listen(self, name: &str) -> Option<String> {
        let address = name.split(' ').next()?;
        match self {
            Tcpserver => None,
            Tcpsvd => Some(format!("tcpsvd: info: listening on {address}, starting.")),
            S6Tcpserver(_) => {
                let address: SocketAddr = address.parse().ok()?;
                let (ip, port) = (address.ip(), address.port());
                Some(format!("s6-tcpserverd: info: starting - bound to ip {ip} port {port}"))
            }
            S6Ipcserver(_) => Some("s6-ipcserverd: info: starting".into()),
        }
    }

    /// The line about the end of a connection, from the status as wait(2) encodes it. `left`: the
    /// connections that its source still has.
    pub(super) fn end(self, peer: Peer, pid: i32, status: i32, left: usize) -> String {
        let (signal, code) = (status & 0x7f, status >> 8);
        let how = match signal {
            0 => format!("exitcode {code}"),
            _ => format!("signal {signal}"),
        };
        match self {
            Tcpserver => format!("tcpserver: end {pid} status {status}"),
            // After a signal, too, it shows the bits of the exit code, which are 0.
            Tcpsvd => format!("tcpsvd: info: end {pid} exit {code}"),
            S6Tcpserver(limit) => format!("s6-tcpserverd: info: end pid {pid} {how} count {left}/{limit}"),
            S6Ipcserver(limit) => {
                let client = limit.and_then(|_| credentials(peer));
                let uid = client.map_or_else(|| "?".into(), |client| client.uid.to_string());
                format!("s6-ipcserverd: info: end pid {pid} uid {uid} {how}")
            }
        }
    }

    /// The line about a client that is rejected because of its source.
    pub(super) fn reject(self, peer: Peer) -> Option<String> {
        match (self, peer) {
            (S6Tcpserver(limit), Peer::Tcp(address)) => {
                let (ip, port) = (address.ip(), address.port());
                Some(format!("s6-tcpserverd: info: reject {ip}_{port} count {limit}/{limit}"))
            }
            (S6Ipcserver(Some(limit)), peer) => {
                let Credentials { uid, gid, .. } = credentials(peer)?;
                Some(format!("s6-ipcserverd: info: deny {uid}:{gid} count {limit}/{limit}"))
            }
            _ => None,
        }
    }

    /// The lines at the end of the server.
    pub(super) fn stop(self) -> Option<String> {
        let name = match self {
            Tcpserver => return None,
            Tcpsvd => return Some("tcpsvd: info: sigterm received, exit.".into()),
            S6Tcpserver(_) => "s6-tcpserverd",
            S6Ipcserver(_) => "s6-ipcserverd",
        };
        Some(format!("{name}: info: received SIGTERM, quitting\n{name}: info: exiting"))
    }

    /// A warning.
    pub(super) fn warning(self, text: &str) -> String {
        let name = match self {
            Tcpserver => "tcpserver",
            Tcpsvd => "tcpsvd",
            S6Tcpserver(_) => "s6-tcpserverd",
            S6Ipcserver(_) => "s6-ipcserverd",
        };
        format!("{name}: warning: {text}")
    }
}

fn credentials(peer: Peer) -> Option<Credentials> {
    if let Peer::Unix(credentials) = peer { credentials } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_end() {
        for (dialect, status, line) in [
            (Tcpserver, 256, "tcpserver: end 7 status 256"),
            (Tcpserver, 9, "tcpserver: end 7 status 9"),
            (Tcpsvd, 100 << 8, "tcpsvd: info: end 7 exit 100"),
            (Tcpsvd, 9, "tcpsvd: info: end 7 exit 0"),
            (S6Tcpserver(4), 256, "s6-tcpserverd: info: end pid 7 exitcode 1 count 2/4"),
            (S6Tcpserver(4), 15, "s6-tcpserverd: info: end pid 7 signal 15 count 2/4"),
            (S6Ipcserver(Some(4)), 0, "s6-ipcserverd: info: end pid 7 uid 1000 exitcode 0"),
            (S6Ipcserver(None), 9, "s6-ipcserverd: info: end pid 7 uid ? signal 9"),
        ] {
            assert_eq!(dialect.end(local(), 7, status, 2), line);
        }
    }

    fn local() -> Peer {
        Peer::Unix(Some(Credentials { uid: 1000, gid: 100, pid: None }))
    }

    #[test]
    fn lines_of_a_rejection() {
        let tcp = Peer::Tcp(([192, 0, 2, 1], 9).into());
        for (dialect, peer, line) in [
            (Tcpserver, tcp, None),
            (S6Tcpserver(4), tcp, Some("s6-tcpserverd: info: reject 192.0.2.1_9 count 4/4")),
            (S6Ipcserver(Some(4)), local(), Some("s6-ipcserverd: info: deny 1000:100 count 4/4")),
            (S6Ipcserver(None), local(), None),
        ] {
            assert_eq!(dialect.reject(peer).as_deref(), line);
        }
    }

    #[test]
    fn lines_of_a_start() {
        for (dialect, address, line) in [
            (Tcpserver, "127.0.0.1:7 (given)", None),
            (Tcpsvd, "0.0.0.0:7 (given)", Some("tcpsvd: info: listening on 0.0.0.0:7, starting.")),
            (S6Tcpserver(1), "[::1]:7", Some("s6-tcpserverd: info: starting - bound to ip ::1 port 7")),
            (S6Ipcserver(None), "/run/s", Some("s6-ipcserverd: info: starting")),
        ] {
            assert_eq!(dialect.listen(address).as_deref(), line);
        }
    }
}
