//! The next move after a connection could not be made, by the error of socket(2), connect(2) or the
//! handshake.

use rustix::io::Errno;

use crate::error::Error;

/// Describes a connection that could not be made, in one line.
pub(super) fn cannot_connect(target: &str, errno: Errno) -> Error {
    let next = match target.split_once(':') {
        Some(("unix", _)) => unix(errno),
        Some(("vsock", _)) => vsock(errno),
        _ => tcp(errno),
    };
    Error::system(format_args!("cannot connect to {target}"), &errno.into(), next)
}

/// The next move for a TCP address.
fn tcp(errno: Errno) -> &'static str {
    match errno {
        Errno::CONNREFUSED => "start a server there, or check the port",
        Errno::TIMEDOUT => "check the address, the route to it and its firewall",
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NONET => {
            "check the address, and the route to it (`ip route get ADDRESS`)"
        }
        // What the network or the host at the other end reported by ICMP.
        Errno::HOSTDOWN | Errno::NOPROTOOPT | Errno::OPNOTSUPP | Errno::PROTO | Errno::MSGSIZE => {
            "check the address, the route to it and its firewall"
        }
        Errno::NETDOWN => "bring the interface up (`ip link`)",
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => {
            "wait until ports are free, or widen net.ipv4.ip_local_port_range; for an IPv6 address, check \
             that this host has one (`ip -6 address`)"
        }
        Errno::ACCESS | Errno::PERM => "check the firewall, the routes and the security policy of this host",
        Errno::AFNOSUPPORT => {
            "use an address of the other family (IPv4 or IPv6): this host has only that one"
        }
        Errno::INVAL => "check the address, and whether a route blocks it (`ip route get ADDRESS`)",
        Errno::CONNRESET | Errno::PIPE => "see the server's log",
        Errno::CONNABORTED => "try again: a program of this host closed the socket",
        errno => of_this_process(errno).unwrap_or("see `strace -e network` for the call that failed"),
    }
}

/// The next move for a Unix socket.
fn unix(errno: Errno) -> &'static str {
    match errno {
        Errno::CONNREFUSED => "start a server there; a socket file stays when its server has ended",
        Errno::NOENT => "start a server there, or check the path",
        Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::NOTSOCK => "check the path",
        Errno::ACCESS | Errno::PERM => "check the permissions of the socket and of the directories above it",
        Errno::PROTOTYPE => "give the path of a stream socket: this one is of another type",
        Errno::TIMEDOUT => "check that the server accepts: its backlog is full",
        Errno::CONNRESET | Errno::PIPE => "see the server's log",
        Errno::AFNOSUPPORT => "use a kernel with Unix sockets",
        errno => of_this_process(errno).unwrap_or("see `strace -e network` for the call that failed"),
    }
}

/// The next move for a vsock address, by the errors of linux/net/vmw_vsock/af_vsock.c and of the
/// transports.
fn vsock(errno: Errno) -> &'static str {
    match errno {
        Errno::CONNRESET | Errno::CONNREFUSED => "start a server there, or check the port",
        Errno::TIMEDOUT | Errno::HOSTUNREACH => {
            "check the CID, and that its machine runs; for CID 1, that vsock_loopback is loaded"
        }
        Errno::NETUNREACH | Errno::NODEV | Errno::ADDRNOTAVAIL => {
            "check that this machine has a way there: vsock_loopback for CID 1, a virtio device for 2, vhost_vsock \
             for guests"
        }
        Errno::ACCESS | Errno::PERM => "check the security policy of this host",
        Errno::INVAL => "check the CID",
        Errno::AFNOSUPPORT => "use a kernel with vsock (`modprobe vsock`)",
        Errno::PIPE => "see the server's log",
        errno => of_this_process(errno).unwrap_or("see `strace -e network` for the call that failed"),
    }
}

/// The next move for an error about this process or host, whatever the address.
fn of_this_process(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::MFILE => "raise the limit of open files (`ulimit -n`)",
        Errno::NFILE => "close files of other processes, or raise fs.file-max",
        Errno::NOMEM | Errno::NOBUFS => "free memory, or raise net.ipv4.tcp_mem",
        Errno::NOSPC => "raise fs.epoll.max_user_watches",
        Errno::AGAIN => "try again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each error that socket(2), bind(2) and connect(2) document for a stream socket, and each
    /// that an ICMP message becomes: a word of the next move for TCP, and for a Unix socket. A
    /// dash: the error does not occur there.
    const ERRORS: [(Errno, &str, &str); 32] = [
        (Errno::CONNREFUSED, "start a server there, or check the port", "start a server"),
        (Errno::NOENT, "-", "start a server there, or check the path"),
        (Errno::TIMEDOUT, "firewall", "backlog is full"),
        (Errno::HOSTUNREACH, "ip route get", "-"),
        (Errno::NETUNREACH, "ip route get", "-"),
        (Errno::NONET, "ip route get", "-"),
        (Errno::HOSTDOWN, "firewall", "-"),
        (Errno::NOPROTOOPT, "firewall", "-"),
        (Errno::OPNOTSUPP, "firewall", "-"),
        (Errno::PROTO, "firewall", "-"),
        (Errno::MSGSIZE, "firewall", "-"),
        (Errno::NETDOWN, "ip link", "-"),
        (Errno::ADDRNOTAVAIL, "ip_local_port_range", "-"),
        (Errno::ADDRINUSE, "ip_local_port_range", "-"),
        (Errno::ACCESS, "firewall, the routes and the security policy of this host", "permissions"),
        (Errno::PERM, "firewall, the routes and the security policy of this host", "permissions"),
        (Errno::AFNOSUPPORT, "other family", "kernel"),
        (Errno::PROTONOSUPPORT, "strace", "strace"),
        (Errno::INVAL, "check the address", "strace"),
        (Errno::CONNRESET, "server's log", "server's log"),
        (Errno::PIPE, "server's log", "server's log"),
        (Errno::CONNABORTED, "try again", "-"),
        (Errno::MFILE, "ulimit -n", "ulimit -n"),
        (Errno::NFILE, "fs.file-max", "fs.file-max"),
        (Errno::NOMEM, "memory", "memory"),
        (Errno::NOBUFS, "memory", "memory"),
        (Errno::NOSPC, "max_user_watches", "max_user_watches"),
        (Errno::AGAIN, "try again", "try again"),
        (Errno::NOTDIR, "-", "check the path"),
        (Errno::LOOP, "-", "check the path"),
        (Errno::NAMETOOLONG, "-", "check the path"),
        (Errno::PROTOTYPE, "-", "stream socket"),
    ];

    #[test]
    fn errors_of_vsock_have_next_moves_of_their_own() {
        for (errno, word) in [
            (Errno::CONNRESET, "start a server there"),
            (Errno::CONNREFUSED, "start a server there"),
            (Errno::TIMEDOUT, "check the CID, and that its machine runs; for CID 1"),
            (Errno::HOSTUNREACH, "check the CID"),
            (Errno::NETUNREACH, "vsock_loopback"),
            (Errno::NODEV, "vsock_loopback"),
            (Errno::ADDRNOTAVAIL, "vsock_loopback"),
            (Errno::ACCESS, "security policy"),
            (Errno::INVAL, "check the CID"),
            (Errno::AFNOSUPPORT, "modprobe vsock"),
            (Errno::PIPE, "server's log"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::PROTO, "strace"),
        ] {
            let line = cannot_connect("vsock:2:5000", errno).to_string();
            assert!(line.contains("connect to vsock:2:5000: ") && line.contains(word), "{line}");
        }
    }

    #[test]
    fn every_error_has_a_next_move_that_fits_its_cause() {
        for (errno, over_tcp, over_unix) in ERRORS {
            for (target, word) in [("host:1", over_tcp), ("unix:/run/x", over_unix)] {
                let line = cannot_connect(target, errno).to_string();
                let start = format!("cannot connect to {target}: {}; ", tine_sys::reason(&errno.into()));
                let next = line.strip_prefix(&start).unwrap_or_else(|| panic!("{line}"));
                assert!(word == "-" || next.contains(word), "{line}");
                // Ports and addresses are no subject of a path, nor paths of an address.
                let others = if target == "host:1" { ["path", "directories"] } else { ["port", "route"] };
                assert!(word == "-" || !others.iter().any(|other| next.contains(other)), "{line}");
            }
        }
    }
}
