//! The options of listening sockets: their values, and a table of how each one is set and what to
//! do where the kernel refuses it.
//!
//! Accepted sockets inherit them (tcp(7)), so they cost nothing per connection.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tine_sys::socket::{IntOption, bind_to_device, set_int};

use crate::error::{Error, named};

/// [`Server::backlog`](crate::Server::backlog).
pub const BACKLOG: u32 = 4096;
/// [`Server::keep_alive_time`](crate::Server::keep_alive_time).
pub const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
/// [`Server::keep_alive_interval`](crate::Server::keep_alive_interval).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// [`Server::keep_alive_probes`](crate::Server::keep_alive_probes).
pub const KEEP_ALIVE_PROBES: u32 = 6;
/// [`Server::socket_mode`](crate::Server::socket_mode).
pub const SOCKET_MODE: u32 = 0o666;

/// Which clients an IPv6 wildcard address (`[::]`) accepts (`BindIPv6Only=` of systemd.socket(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindIpv6Only {
    /// IPv4 clients, too, unless the server listens on `0.0.0.0` and the same port as well.
    #[default]
    Default,
    /// IPv4 clients, too.
    Both,
    /// IPv6 clients only.
    Ipv6Only,
}

named!(BindIpv6Only { Default = "default", Both = "both", Ipv6Only = "ipv6-only" });

/// When to bind an address that the machine does not have (`IP_FREEBIND`, ip(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FreeBind {
    #[default]
    Never,
    /// If an ordinary bind fails for that reason. The log then has a warning.
    IfAbsent,
    Always,
}

/// The options that must be set before the socket is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindOptions {
    pub(crate) free_bind: FreeBind,
    pub(crate) transparent: bool,
    pub(crate) reuse_port: bool,
    /// The name of a network interface.
    pub(crate) device: Option<String>,
}

/// Owner, group and mode of the file of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileOptions {
    pub(crate) mode: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// The options of a server's listening sockets.
#[derive(Clone, Debug)]
pub(crate) struct SocketOptions {
    /// The size of the kernel's queue of clients (listen(2)).
    pub(crate) backlog: u32,
    pub(crate) bind_ipv6_only: BindIpv6Only,
    pub(crate) at_bind: BindOptions,
    pub(crate) file: FileOptions,
    pub(crate) no_delay: bool,
    pub(crate) keep_alive_time: Duration,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) keep_alive_probes: u32,
    pub(crate) defer_accept: Option<Duration>,
    pub(crate) mark: Option<u32>,
    pub(crate) ip_tos: Option<u8>,
    pub(crate) ip_ttl: Option<u8>,
    /// Bytes, as are those of the other buffer.
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) tcp_congestion: Option<String>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            backlog: BACKLOG,
            bind_ipv6_only: BindIpv6Only::Default,
            at_bind: BindOptions::default(),
            file: FileOptions { mode: SOCKET_MODE, uid: None, gid: None },
            no_delay: true,
            keep_alive_time: KEEP_ALIVE_TIME,
            keep_alive_interval: KEEP_ALIVE_INTERVAL,
            keep_alive_probes: KEEP_ALIVE_PROBES,
            defer_accept: None,
            mark: None,
            ip_tos: None,
            ip_ttl: None,
            send_buffer: None,
            receive_buffer: None,
            tcp_congestion: None,
        }
    }
}

/// Times in whole seconds, as many as the kernel takes (`MAX_TCP_KEEPIDLE` and
/// `MAX_TCP_KEEPINTVL`, include/net/tcp.h).
const MOST_SECONDS: u64 = 32_767;
/// `MAX_TCP_KEEPCNT`, include/net/tcp.h.
const MOST_PROBES: u32 = 127;
/// The kernel doubles the size of a buffer, as an int (socket(7)).
const MOST_BYTES: usize = i32::MAX as usize / 2;

impl SocketOptions {
    /// Refuses values that the kernel does not take.
    pub(crate) fn check(&self) -> Result<(), Error> {
        within("backlog", u64::from(self.backlog), 0, i32::MAX as u64)?;
        seconds("keep-alive time", self.keep_alive_time)?;
        seconds("keep-alive interval", self.keep_alive_interval)?;
        within("number of keep-alive probes", self.keep_alive_probes.into(), 1, MOST_PROBES.into())?;
        self.defer_accept.map_or(Ok(()), |time| seconds("time to defer accept", time))?;
        for (name, size) in [("send buffer", self.send_buffer), ("receive buffer", self.receive_buffer)] {
            size.map_or(Ok(()), |size| within(name, size as u64, 1, MOST_BYTES as u64))?;
        }
        self.ip_ttl.map_or(Ok(()), |ttl| within("IP TTL", ttl.into(), 1, 255))?;
        within("mode of Unix sockets", self.file.mode.into(), 0, 0o777)
    }

    /// Sets the options of a TCP socket that is not bound yet.
    pub(crate) fn set_all(&self, socket: &impl AsFd, is_ipv6: bool) -> Result<(), OptionFault> {
        self.set(socket, is_ipv6, |_| true)
    }

    /// Sets the options of a TCP socket that can be set once it is bound.
    pub(crate) fn set_on_bound(&self, socket: &impl AsFd, is_ipv6: bool) -> Result<(), OptionFault> {
        self.set(socket, is_ipv6, |row| !row.binds)
    }

    fn set(
        &self,
        socket: &impl AsFd,
        is_ipv6: bool,
        which: impl Fn(&OptionRow) -> bool,
    ) -> Result<(), OptionFault> {
        let target = OptionTarget { socket: socket.as_fd(), is_ipv6 };
        for row in TABLE.iter().filter(|row| which(row)) {
            (row.set)(self, &target).map_err(|why| OptionFault { row, why })?;
        }
        Ok(())
    }
}

fn within(what: &str, value: u64, least: u64, most: u64) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::usage(format_args!("the {what} is {value}"), format_args!("choose {least} to {most}")))
}

fn seconds(what: &str, time: Duration) -> Result<(), Error> {
    if (1..=MOST_SECONDS).contains(&time.as_secs()) && time.subsec_nanos() == 0 {
        return Ok(());
    }
    Err(Error::usage(
        format_args!("the {what} is {time:?}"),
        format_args!("choose whole seconds, 1 to {MOST_SECONDS}"),
    ))
}

/// The socket that an option is set on.
struct OptionTarget<'a> {
    socket: std::os::fd::BorrowedFd<'a>,
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
    fn values_that_the_kernel_does_not_take_are_refused() {
        let second = Duration::from_secs(1);
        let ok = SocketOptions::default;
        for (name, options) in [
            ("keep-alive time is 0ns", SocketOptions { keep_alive_time: Duration::ZERO, ..ok() }),
            ("keep-alive time is 1.5s", SocketOptions { keep_alive_time: second * 3 / 2, ..ok() }),
            ("keep-alive time is 32768s", SocketOptions { keep_alive_time: second * 32_768, ..ok() }),
            ("keep-alive interval is 0ns", SocketOptions { keep_alive_interval: Duration::ZERO, ..ok() }),
            ("probes is 0", SocketOptions { keep_alive_probes: 0, ..ok() }),
            ("probes is 128", SocketOptions { keep_alive_probes: 128, ..ok() }),
            ("defer accept is 500ms", SocketOptions { defer_accept: Some(second / 2), ..ok() }),
            ("send buffer is 0", SocketOptions { send_buffer: Some(0), ..ok() }),
            ("receive buffer is 1073741824", SocketOptions { receive_buffer: Some(1 << 30), ..ok() }),
            ("IP TTL is 0", SocketOptions { ip_ttl: Some(0), ..ok() }),
            ("mode of Unix sockets is 512", {
                SocketOptions { file: FileOptions { mode: 0o1000, uid: None, gid: None }, ..ok() }
            }),
        ] {
            let error = options.check().expect_err(name);
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
    }

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
