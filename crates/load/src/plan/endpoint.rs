//! Endpoints: socket addresses to connect to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A socket address to connect to.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(SocketAddrUnix),
}

impl Endpoint {
    /// Creates a non-blocking socket of the endpoint's family.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn socket(&self) -> Result<OwnedFd, Errno> {
        let family = match self {
            Endpoint::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Endpoint::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Endpoint::Unix(_) => AddressFamily::UNIX,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None)
    }

    /// Starts to connect; further calls report the progress.
    ///
    /// # Errors
    /// Those of connect(2): EINPROGRESS at first, then EALREADY, until the outcome is known.
    pub fn connect(&self, socket: &OwnedFd) -> Result<(), Errno> {
        match self {
            Endpoint::Tcp(address) => rustix::net::connect(socket, address),
            Endpoint::Unix(address) => rustix::net::connect(socket, address),
        }
    }

    /// Whether this is an IPv4 loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        matches!(self, Endpoint::Tcp(SocketAddr::V4(address)) if address.ip().is_loopback())
    }
}
