//! Listening sockets: bound here, or inherited from the process that started this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::error::Error;
use crate::net::address::{Address, resolve};

/// Sockets that a service listens on, at most: a forker has a bit for each.
pub(crate) const MAX_LISTENERS: usize = 64;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    /// The address as logged.
    pub(crate) name: String,
    /// The TCP port.
    pub(crate) port: Option<u16>,
    /// An earlier listener of the same address has the same port, which is printed once.
    repeats: bool,
    /// Removes the file of a Unix socket when it is dropped.
    _file: Option<SocketFile>,
    /// Another process has the socket, too: it was inherited.
    pub(crate) shared: bool,
    /// `accept` can block. The socket was inherited without `O_NONBLOCK`, and setting it would
    /// change the socket for every process that shares it.
    pub(crate) blocks: bool,
}

/// The keep-alive times that the kernel takes (`MAX_TCP_KEEPIDLE`, include/net/tcp.h).
const KEEP_ALIVE_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);

/// The options of a server's listening sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    /// The size of the kernel's queue of clients (listen(2)).
    pub(crate) backlog: u32,
    /// `TCP_NODELAY` (tcp(7)).
    pub(crate) no_delay: bool,
    /// `TCP_KEEPIDLE` (tcp(7)).
    pub(crate) keep_alive_time: Duration,
}

impl SocketOptions {
    /// Refuses values that the kernel does not take.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if i32::try_from(self.backlog).is_err() {
            return Err(Error::usage(
                format_args!("backlog is {}", self.backlog),
                format_args!("choose {} or less", i32::MAX),
            ));
        }
        if !KEEP_ALIVE_TIMES.contains(&self.keep_alive_time) || self.keep_alive_time.subsec_nanos() > 0 {
            return Err(Error::usage(
                format_args!("the keep-alive time is {:?}", self.keep_alive_time),
                "choose whole seconds, 1 to 32767",
            ));
        }
        Ok(())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Binds every socket address that an address resolves to: a host name can have several.
    pub(crate) fn bind(address: &Address, backlog: u32) -> Result<Vec<Listener>, Error> {
        match address {
            Address::Tcp { host, port } => bind_host(host, *port, backlog),
            Address::Unix(path) => bind_path(address, path, backlog).map(|listener| vec![listener]),
            Address::Abstract(name) => {
                let target = SocketAddrUnix::new_abstract_name(name.as_bytes());
                let target = target.map_err(|why| cannot_listen(address, why))?;
                let socket = bind_unix(address, &target, backlog)?;
                Ok(vec![Listener::new(socket, address.to_string(), None)])
            }
        }
    }

    fn new(socket: OwnedFd, name: String, port: Option<u16>) -> Listener {
        Listener { socket, name, port, repeats: false, _file: None, shared: false, blocks: false }
    }

    /// A listening stream socket that the process that started this one opened.
    pub(crate) fn inherited(socket: OwnedFd, name: &str) -> Result<Listener, Error> {
        let next = "pass a listening stream socket, or bind an address instead";
        let unfit = |why: Errno| {
            Error::system(format_args!("cannot serve inherited socket '{name}'"), &why.into(), next)
        };
        if !sockopt::socket_acceptconn(&socket).map_err(unfit)?
            || sockopt::socket_type(&socket).map_err(unfit)? != SocketType::STREAM
        {
            return Err(Error::usage(
                format_args!("inherited socket '{name}' is not a listening stream socket"),
                next,
            ));
        }
        let local = rustix::net::getsockname(&socket).map_err(unfit)?;
        let tcp = SocketAddr::try_from(local).ok();
        if tcp.is_some() {
            set_tcp_options(&socket).map_err(unfit)?;
        }
        let shown = tcp.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        let blocks = !rustix::fs::fcntl_getfl(&socket).map_err(unfit)?.contains(OFlags::NONBLOCK);
        let mut listener =
            Listener::new(socket, format!("{shown} ({name})"), tcp.map(|address| address.port()));
        listener.shared = true;
        listener.blocks = blocks;
        Ok(listener)
    }

    /// The port that a ready server prints: each port of an address once.
    pub(crate) fn port_to_print(&self) -> Option<u16> {
        self.port.filter(|_| !self.repeats)
    }

    /// Applies the options that the builder stored, before clients are accepted. An inherited
    /// socket that blocks keeps its backlog: other processes accept from it, too.
    pub(crate) fn apply(&self, options: &SocketOptions) -> Result<(), Error> {
        let applied = self.apply_to_socket(options);
        applied.map_err(|why| cannot_listen(&self.name, why))
    }

    fn apply_to_socket(&self, options: &SocketOptions) -> Result<(), Errno> {
        if !self.blocks {
            listen(&self.socket, options.backlog)?;
        }
        if self.port.is_some() {
            // The clients' sockets inherit them (tcp(7)).
            sockopt::set_tcp_nodelay(&self.socket, options.no_delay)?;
            sockopt::set_tcp_keepidle(&self.socket, options.keep_alive_time)?;
        }
        Ok(())
    }

    /// Moves the descriptor to this number or a higher one.
    pub(crate) fn move_above(&mut self, lowest: i32) -> Result<(), Errno> {
        self.socket = fcntl_dupfd_cloexec(&self.socket, lowest)?;
        Ok(())
    }

    /// Whether it is an IPv6 socket, and its port; `None` where it is not a TCP socket.
    pub(crate) fn family_and_port(&self) -> Option<(bool, u16)> {
        let local = SocketAddr::try_from(rustix::net::getsockname(self).ok()?).ok()?;
        Some((local.is_ipv6(), local.port()))
    }

    /// The number of clients in the backlog. For TCP the kernel reports it (`ss -l`); for Unix
    /// sockets only whether there is one, and then the number is taken as unlimited.
    pub(crate) fn queued(&self) -> u64 {
        if self.port.is_some()
            && let Ok(clients) = tine_sys::socket::accept_queue(self.as_fd())
        {
            return u64::from(clients);
        }
        let mut poll = [PollFd::new(self, PollFlags::IN)];
        if matches!(tine_sys::wait::now(&mut poll), Ok(0)) { 0 } else { u64::MAX }
    }
}

/// The file of a Unix socket that this process bound. Dropping it removes the file, unless another
/// file has replaced it; in a process forked later, dropping it does nothing.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    process: u32,
}

impl SocketFile {
    fn of(path: &Path) -> Option<SocketFile> {
        let file = std::fs::symlink_metadata(path).ok()?;
        // The working directory can change before the file is removed.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Some(SocketFile { path, device: file.dev(), inode: file.ino(), process: std::process::id() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let current = std::fs::symlink_metadata(&self.path);
        if std::process::id() == self.process
            && current.is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode))
        {
            // It fails where the file was removed, or where this user may no longer write: both are
            // harmless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind_host(host: &str, port: u16, backlog: u32) -> Result<Vec<Listener>, Error> {
    let mut found: Vec<Listener> = Vec::new();
    let mut failed = None;
    for address in resolve(host, port)? {
        // With port 0, the other addresses of a name get the port that the first one got.
        let port = found.first().and_then(|first| first.port).unwrap_or(port);
        match bind_tcp(SocketAddr::new(address.ip(), port), backlog) {
            Ok((socket, local)) => {
                let mut listener = Listener::new(socket, local.to_string(), Some(local.port()));
                listener.repeats = !found.is_empty();
                found.push(listener);
            }
            Err(why) if is_family_missing(why) => failed = failed.or(Some((address, why))),
            Err(why) => return Err(cannot_listen(&address, why)),
        }
    }
    match failed {
        Some((address, why)) if found.is_empty() => Err(cannot_listen(&address, why)),
        _ => Ok(found),
    }
}

/// Whether the machine lacks the address family, so that another address of the host may work.
fn is_family_missing(why: Errno) -> bool {
    why == Errno::AFNOSUPPORT || why == Errno::ADDRNOTAVAIL
}

/// Binds and listens. `[::]` accepts IPv4 clients, too, and becomes `0.0.0.0` on a machine without
/// IPv6.
fn bind_tcp(address: SocketAddr, backlog: u32) -> Result<(OwnedFd, SocketAddr), Errno> {
    let unspecified = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match bind_tcp_as(address, unspecified, backlog) {
        Err(why) if unspecified && is_family_missing(why) => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            bind_tcp_as(address, false, backlog)
        }
        result => result,
    }
}

fn bind_tcp_as(address: SocketAddr, dual: bool, backlog: u32) -> Result<(OwnedFd, SocketAddr), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual)?;
    }
    set_tcp_options(&socket)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, backlog)?;
    let local = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, local))
}

fn listen(socket: &OwnedFd, backlog: u32) -> Result<(), Errno> {
    rustix::net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// Sets the options that accepted sockets inherit, so that they cost nothing per connection.
/// Keep-alive probes start after a minute without traffic; after six unanswered probes, 10 s apart,
/// the kernel resets the connection. TCP_USER_TIMEOUT stays off: it would also end clients that
/// only read slowly. The supervisor finds clients that vanish with data in flight (`watch/`).
fn set_tcp_options(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(socket, 6)?;
    sockopt::set_tcp_nodelay(socket, true)
}

fn bind_path(address: &Address, path: &Path, backlog: u32) -> Result<Listener, Error> {
    let target = SocketAddrUnix::new(path).map_err(|why| cannot_listen(address, why))?;
    let socket = match bind_unix(address, &target, backlog) {
        Err(_) if is_abandoned(path) => {
            // No process listens on it. Another process may have removed it already.
            let _ = std::fs::remove_file(path);
            bind_unix(address, &target, backlog)?
        }
        result => result?,
    };
    let mut listener = Listener::new(socket, address.to_string(), None);
    listener._file = SocketFile::of(path);
    Ok(listener)
}

/// Whether a path is a socket file on which no process listens.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixStream::connect(path).is_err_and(|why| why.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn bind_unix(address: &Address, target: &SocketAddrUnix, backlog: u32) -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let bound =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).and_then(|socket| {
            rustix::net::bind(&socket, target)?;
            listen(&socket, backlog)?;
            Ok(socket)
        });
    bound.map_err(|why| cannot_listen(address, why))
}

/// The error of a listener, with the next move for each cause.
fn cannot_listen(address: &impl std::fmt::Display, why: Errno) -> Error {
    let next = match why {
        Errno::ADDRINUSE => {
            "stop the process that listens there (`ss -ltnp` shows it), or choose another address"
        }
        Errno::ACCESS => {
            "choose a port from 1024 up or a directory that you may write to, or give it CAP_NET_BIND_SERVICE"
        }
        Errno::ADDRNOTAVAIL => "choose an address of this machine (`ip address` lists them)",
        Errno::NOENT | Errno::NOTDIR => "create the directory first",
        Errno::MFILE => "raise the limit of open files (`ulimit -n`)",
        _ => "choose another address",
    };
    Error::system(format_args!("cannot listen on {address}"), &why.into(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_host_name_share_one_port() {
        let found = Listener::bind(&"localhost:0".parse().expect("an address"), 16).expect("bound");
        assert!(found.iter().all(|listener| listener.port == found[0].port));
        assert_eq!(found.iter().filter(|listener| !listener.repeats).count(), 1);
    }

    #[test]
    fn clients_inherit_the_keep_alive_time() {
        let listener = &Listener::bind(&"127.0.0.1:0".parse().expect("an address"), 16).expect("bound")[0];
        let time = Duration::from_secs(420);
        let options = SocketOptions { backlog: 16, no_delay: true, keep_alive_time: time };
        options.check().expect("a time that the kernel takes");
        listener.apply(&options).expect("set");
        let address = SocketAddr::try_from(rustix::net::getsockname(listener).expect("bound")).expect("TCP");
        let _client = std::net::TcpStream::connect(address).expect("it listens");
        let socket = rustix::net::accept(listener).expect("a client");
        assert_eq!(sockopt::tcp_keepidle(&socket), Ok(time));
        assert_eq!(sockopt::socket_keepalive(&socket), Ok(true));
        for time in [Duration::ZERO, Duration::from_millis(1500), Duration::from_secs(32_768)] {
            SocketOptions { keep_alive_time: time, ..options }.check().expect_err("out of range");
        }
    }

    #[test]
    fn a_socket_file_is_replaced_when_abandoned_and_removed_by_its_owner() {
        let path = std::env::temp_dir().join(format!("tine-listener-{}", std::process::id()));
        let address: Address = format!("unix:{}", path.display()).parse().expect("an address");
        let first = Listener::bind(&address, 16).expect("bound");
        let taken = Listener::bind(&address, 16).expect_err("a process listens");
        assert_eq!(taken.exit_code(), 111, "{taken}");
        drop(first);
        let second = Listener::bind(&address, 16).expect("no process listens any more");
        drop(second);
        assert!(!path.exists());
        let third = Listener::bind(&address, 16).expect("the file is gone");
        std::fs::remove_file(&path).expect("exists");
        std::fs::write(&path, "mine").expect("a file");
        Listener::bind(&address, 16).expect_err("not a socket");
        drop(third);
        assert!(path.exists(), "not ours");
        std::fs::remove_file(&path).expect("exists");
    }
}
