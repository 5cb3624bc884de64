//! The log lines of the super-servers by whose names tine can be called. Statistics programs parse
//! them.

use std::net::SocketAddr;

/// The super-server whose lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `tcpserver` of ucspi-tcp.
    Tcpserver,
    /// `tcpsvd` of ipsvd.
    Tcpsvd,
    /// `s6-tcpserver` of s6-networking, with this maximum of connections of an address.
    S6Tcpserver(usize),
    /// `s6-ipcserver` of s6.
    S6Ipcserver,
}

use Dialect::{S6Ipcserver, S6Tcpserver, Tcpserver, Tcpsvd};

impl Dialect {
    /// The line about the number of connections.
    pub(super) fn status(self, count: usize, limit: usize) -> String {
        match self {
            Tcpserver => format!("tcpserver: status: {count}/{limit}"),
            Tcpsvd => format!("tcpsvd: info: status {count}/{limit}"),
            S6Tcpserver(_) => format!("s6-tcpserverd: info: status: {count}/{limit}"),
            S6Ipcserver => format!("s6-ipcserverd: info: status: {count}/{limit}"),
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
            S6Ipcserver => Some("s6-ipcserverd: info: starting".into()),
        }
    }

    /// The line about the end of a connection, from the status as wait(2) encodes it. `left`: the
    /// connections that its source still has.
    pub(super) fn end(self, pid: i32, status: i32, left: usize) -> String {
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
            S6Ipcserver => format!("s6-ipcserverd: info: end pid {pid} {how}"),
        }
    }

    /// The line about a client that is rejected because of its source.
    pub(super) fn reject(self, peer: SocketAddr) -> Option<String> {
        let S6Tcpserver(limit) = self else { return None };
        let (ip, port) = (peer.ip(), peer.port());
        Some(format!("s6-tcpserverd: info: reject {ip}_{port} count {limit}/{limit}"))
    }

    /// The lines at the end of the server.
    pub(super) fn stop(self) -> Option<String> {
        let name = match self {
            Tcpserver => return None,
            Tcpsvd => return Some("tcpsvd: info: sigterm received, exit.".into()),
            S6Tcpserver(_) => "s6-tcpserverd",
            S6Ipcserver => "s6-ipcserverd",
        };
        Some(format!("{name}: info: received SIGTERM, quitting\n{name}: info: exiting"))
    }

    /// A warning.
    pub(super) fn warning(self, text: &str) -> String {
        let name = match self {
            Tcpserver => "tcpserver",
            Tcpsvd => "tcpsvd",
            S6Tcpserver(_) => "s6-tcpserverd",
            S6Ipcserver => "s6-ipcserverd",
        };
        format!("{name}: warning: {text}")
    }
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
            (S6Ipcserver, 0, "s6-ipcserverd: info: end pid 7 exitcode 0"),
        ] {
            assert_eq!(dialect.end(7, status, 2), line);
        }
    }

    #[test]
    fn lines_of_a_start() {
        for (dialect, address, line) in [
            (Tcpserver, "127.0.0.1:7 (given)", None),
            (Tcpsvd, "0.0.0.0:7 (given)", Some("tcpsvd: info: listening on 0.0.0.0:7, starting.")),
            (S6Tcpserver(1), "[::1]:7", Some("s6-tcpserverd: info: starting - bound to ip ::1 port 7")),
            (S6Ipcserver, "/run/s", Some("s6-ipcserverd: info: starting")),
        ] {
            assert_eq!(dialect.listen(address).as_deref(), line);
        }
    }
}
