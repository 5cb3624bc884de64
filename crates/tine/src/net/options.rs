//! The options of listening sockets. `option_table.rs` sets them.

use std::time::Duration;

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
}
