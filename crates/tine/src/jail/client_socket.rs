//! The attempt to use the socket of a client for another connection.
//!
//! The socket belongs to the network of the server, whatever network its process is in. connect(2)
//! with AF_UNSPEC dissolves the connection, and then the socket could connect to others, or listen.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, accept_with, bind, connect, connect_unspec,
    getsockname, listen, sendto, socket_with,
};
use tine_sys::socket_filter::hold_to_port;

use super::filter::FAST_OPEN;
use super::layer::Layer;
use super::plan::Plan;

/// A TCP connection of this process with itself, and a listener that others could connect to.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    /// What a client's would be. It does not block.
    served: OwnedFd,
    address: SocketAddr,
    _client: OwnedFd,
    _listener: OwnedFd,
}

impl ClientSocket {
    /// Makes one, in a process with the privileges of the supervisor, for a jail that keeps the
    /// sockets of clients from other uses; `None` for another one, or where none can be made.
    pub(crate) fn of(plan: &Plan) -> Option<ClientSocket> {
        let socket = || socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok();
        if !plan.is_on(Layer::ClientSocket) {
            return None;
        }
        let (listener, client) = (socket()?, socket()?);
        bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).ok()?;
        listen(&listener, 2).ok()?;
        // As the supervisor does.
        if plan.holds_clients {
            hold_to_port(listener.as_fd()).ok()?;
        }
        let address = SocketAddr::try_from(getsockname(&listener).ok()?).ok()?;
        connect(&client, &address).ok()?;
        let served = accept_with(&listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
        Some(ClientSocket { served, address, _client: client, _listener: listener })
    }

    /// Whether the socket can be used for another connection.
    pub(super) fn connects_elsewhere(&self) -> bool {
        let Self { served, address, .. } = self;
        let send = || sendto(served, b"\n", SendFlags::from_bits_retain(FAST_OPEN), address).map(drop);
        let begun = connect_unspec(served).and_then(|()| match send() {
            Ok(()) | Err(Errno::INPROGRESS) => Err(Errno::INPROGRESS),
            Err(_) => connect(served, address),
        });
        match begun {
            Ok(()) => return true,
            Err(Errno::INPROGRESS) => {}
            Err(_) => return false,
        }
        // The answer of this machine comes at once, if any does.
        let mut answer = [PollFd::new(served, PollFlags::OUT)];
        let _ = tine_sys::wait::until(&mut answer, Some(Instant::now() + Duration::from_millis(20)));
        matches!(connect(served, address), Ok(()) | Err(Errno::ISCONN))
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.served.as_fd()
    }
}
