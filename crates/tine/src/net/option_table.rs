//! How the options of listening sockets are set, in a table: when, with which value, and the next
//! move where the kernel refuses one.
//!
//! Accepted sockets inherit the options (tcp(7)), so they cost nothing per connection.
//! TCP_USER_TIMEOUT is not among them: it would also end clients that only read slowly. The
//! supervisor finds clients that vanish with data in flight (`watch/`).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::sockopt;
use tine_sys::socket::{IntOption, bind_to_device, set_int};

use crate::error::Error;
use crate::net::options::{FreeBind, SocketOptions};

/// Sets the options of a TCP socket that is not bound yet.
pub(crate) fn set_all(options: &SocketOptions, socket: &impl AsFd, is_ipv6: bool) -> Result<(), OptionFault> {
    set(options, socket.as_fd(), is_ipv6, |_| true)
}

/// Sets the options of a TCP socket that can be set once it is bound.
pub(crate) fn set_on_bound(
    options: &SocketOptions,
    socket: &impl AsFd,
    is_ipv6: bool,
) -> Result<(), OptionFault> {
    set(options, socket.as_fd(), is_ipv6, |row| !row.binds)
}

fn set(
    options: &SocketOptions,
    socket: BorrowedFd,
    is_ipv6: bool,
    which: impl Fn(&OptionRow) -> bool,
) -> Result<(), OptionFault> {
    let target = OptionTarget { socket, is_ipv6 };
    for row in TABLE.iter().filter(|row| which(row)) {
        (row.set)(options, &target).map_err(|why| OptionFault { row, why })?;
    }
    Ok(())
}

/// The socket that an option is set on.
struct OptionTarget<'a> {
    socket: BorrowedFd<'a>,
    is_ipv6: bool,
}

impl OptionTarget<'_> {
    fn set_int(&self, option: IntOption, value: i32) -> Result<(), Errno> {
        errno(set_int(self.socket, option, value))
    }
}

/// How an option is set. A value that is not set leaves the socket alone.
struct OptionRow {
    /// The option as the manual pages and systemd call it.
    name: &'static str,
    /// It has an effect only before bind(2).
    binds: bool,
    set: fn(&SocketOptions, &OptionTarget) -> Result<(), Errno>,
    /// The next move for an error; else, to leave the option out.
    next: &'static [(Errno, &'static str)],
}

const PLAIN: &[(Errno, &str)] = &[];

/// The options, in the order in which they are set.
const TABLE: &[OptionRow] = &[
    OptionRow {
        name: "FreeBind (IP_FREEBIND)",
        binds: true,
        set: |options, to| match (options.at_bind.free_bind, to.is_ipv6) {
            (FreeBind::Always, true) => sockopt::set_ipv6_freebind(to.socket, true),
            (FreeBind::Always, false) => sockopt::set_ip_freebind(to.socket, true),
            _ => Ok(()),
        },
        next: PLAIN,
    },
    OptionRow {
        name: "Transparent (IP_TRANSPARENT)",
        binds: true,
        set: |options, to| match (options.at_bind.transparent, to.is_ipv6) {
            (true, true) => to.set_int(IntOption::TransparentIpv6, 1),
            (true, false) => to.set_int(IntOption::Transparent, 1),
            (false, _) => Ok(()),
        },
        next: &[(Errno::PERM, "give the server CAP_NET_ADMIN, or leave the option out")],
    },
    OptionRow {
        name: "ReusePort (SO_REUSEPORT)",
        binds: true,
        set: |options, to| match options.at_bind.reuse_port {
            true => sockopt::set_socket_reuseport(to.socket, true),
            false => Ok(()),
        },
        next: PLAIN,
    },
    OptionRow {
        name: "BindToDevice (SO_BINDTODEVICE)",
        binds: true,
        set: |options, to| match &options.at_bind.device {
            Some(name) => errno(bind_to_device(to.socket, name)),
            None => Ok(()),
        },
        next: &[
            (Errno::NODEV, "choose a network interface of this machine (`ip link` lists them)"),
            (Errno::PERM, "give the server CAP_NET_RAW, or leave the option out"),
        ],
    },
    OptionRow {
        name: "KeepAlive (SO_KEEPALIVE)",
        binds: false,
        set: |_, to| sockopt::set_socket_keepalive(to.socket, true),
        next: PLAIN,
    },
    OptionRow {
        name: "KeepAliveTimeSec (TCP_KEEPIDLE)",
        binds: false,
        set: |options, to| sockopt::set_tcp_keepidle(to.socket, options.keep_alive_time),
        next: PLAIN,
    },
    OptionRow {
        name: "KeepAliveIntervalSec (TCP_KEEPINTVL)",
        binds: false,
        set: |options, to| sockopt::set_tcp_keepintvl(to.socket, options.keep_alive_interval),
        next: PLAIN,
    },
    OptionRow {
        name: "KeepAliveProbes (TCP_KEEPCNT)",
        binds: false,
        set: |options, to| sockopt::set_tcp_keepcnt(to.socket, options.keep_alive_probes),
        next: PLAIN,
    },
    OptionRow {
        name: "NoDelay (TCP_NODELAY)",
        binds: false,
        set: |options, to| sockopt::set_tcp_nodelay(to.socket, options.no_delay),
        next: PLAIN,
    },
    OptionRow {
        name: "DeferAcceptSec (TCP_DEFER_ACCEPT)",
        binds: false,
        set: |options, to| match options.defer_accept {
            Some(time) => to.set_int(IntOption::DeferAccept, time.as_secs() as i32),
            None => Ok(()),
        },
        next: PLAIN,
    },
    OptionRow {
        name: "Mark (SO_MARK)",
        binds: false,
        set: |options, to| match options.mark {
            Some(mark) => to.set_int(IntOption::Mark, mark.cast_signed()),
            None => Ok(()),
        },
        next: &[(Errno::PERM, "give the server CAP_NET_ADMIN, or leave the option out")],
    },
    OptionRow {
        name: "IPTOS (IP_TOS)",
        binds: false,
        set: |options, to| {
            let Some(tos) = options.ip_tos else { return Ok(()) };
            if to.is_ipv6 {
                sockopt::set_ipv6_tclass(to.socket, tos.into())?;
            }
            // An IPv6 socket needs it for its IPv4 clients.
            sockopt::set_ip_tos(to.socket, tos)
        },
        next: PLAIN,
    },
    OptionRow {
        name: "IPTTL (IP_TTL)",
        binds: false,
        set: |options, to| {
            let Some(ttl) = options.ip_ttl else { return Ok(()) };
            if to.is_ipv6 {
                sockopt::set_ipv6_unicast_hops(to.socket, Some(ttl))?;
            }
            sockopt::set_ip_ttl(to.socket, ttl.into())
        },
        next: PLAIN,
    },
    OptionRow {
        name: "SendBuffer (SO_SNDBUF)",
        binds: false,
        set: |options, to| {
            let Some(size) = options.send_buffer else { return Ok(()) };
            // Beyond the limit of the system only with CAP_NET_ADMIN.
            sockopt::set_socket_send_buffer_size_force(to.socket, size)
                .or_else(|_| sockopt::set_socket_send_buffer_size(to.socket, size))
        },
        next: PLAIN,
    },
    OptionRow {
        name: "ReceiveBuffer (SO_RCVBUF)",
        binds: false,
        set: |options, to| {
            let Some(size) = options.receive_buffer else { return Ok(()) };
            sockopt::set_socket_recv_buffer_size_force(to.socket, size)
                .or_else(|_| sockopt::set_socket_recv_buffer_size(to.socket, size))
        },
        next: PLAIN,
    },
    OptionRow {
        name: "TCPCongestion (TCP_CONGESTION)",
        binds: false,
        set: |options, to| match &options.tcp_congestion {
            Some(name) => sockopt::set_tcp_congestion(to.socket, name),
            None => Ok(()),
        },
        next: &[
            (Errno::NOENT, "choose one of net.ipv4.tcp_available_congestion_control"),
            (
                Errno::PERM,
                "add it to net.ipv4.tcp_allowed_congestion_control, or give the server CAP_NET_ADMIN",
            ),
        ],
    },
];

fn errno(result: std::io::Result<()>) -> Result<(), Errno> {
    result.map_err(|why| Errno::from_io_error(&why).unwrap_or(Errno::IO))
}

/// An option that the kernel refused.
#[derive(Clone, Copy)]
pub(crate) struct OptionFault {
    row: &'static OptionRow,
    pub(crate) why: Errno,
}

impl OptionFault {
    /// The error of the listener that the option was meant for.
    pub(crate) fn error(&self, listener: impl std::fmt::Display) -> Error {
        let known = self.row.next.iter().find(|(why, _)| *why == self.why);
        let next = known.map_or("leave the option out: this kernel does not take it", |(_, next)| next);
        let what = format_args!("cannot set {} of the listener on {listener}", self.row.name);
        Error::system(what, &self.why.into(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_option_has_a_next_move() {
        for row in TABLE {
            for (why, next) in row.next {
                let error = OptionFault { row, why: *why }.error("here");
                assert_eq!(error.next(), *next);
            }
            assert!(
                OptionFault { row, why: Errno::NOPROTOOPT }
                    .error("here")
                    .next()
                    .contains("leave the option out")
            );
        }
    }
}
