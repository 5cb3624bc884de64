//! Endpoints: socket addresses to connect to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tine_sys::vsock::VsockAddress;

/// A socket address to connect to.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(SocketAddrUnix),
    /// A vsock stream socket, of a virtual machine or its host (vsock(7)).
    Vsock(VsockAddress),
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
            Endpoint::Vsock(_) => AddressFamily::VSOCK,
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
            Endpoint::Vsock(address) => connect_vsock(socket, *address),
        }
    }

    /// Whether this is an IPv4 loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        matches!(self, Endpoint::Tcp(SocketAddr::V4(address)) if address.ip().is_loopback())
    }
}

fn connect_vsock(socket: &OwnedFd, address: VsockAddress) -> Result<(), Errno> {
    let result = match rustix::net::connect(socket, &address) {
        // The socket stays in this state when the attempt has failed, too
        // (linux/net/vmw_vsock/af_vsock.c, `vsock_connect`).
        Err(Errno::ALREADY) => sockopt::socket_error(socket)?.and(Err(Errno::ALREADY)),
        result => result,
    };
    // A machine refuses a connection by a reset (linux/net/vmw_vsock/virtio_transport_common.c).
    result.map_err(|why| if why == Errno::CONNRESET { Errno::CONNREFUSED } else { why })
}
