//! Sockets that the connector connects in place of those of callers.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{SocketFlags, SocketType, connect, ipproto, socket_with};
use tine_sys::socket_filter::keep_to_peer;

use super::caller::CallerSocket;
use crate::error::next_move::errno;

/// A socket that takes the place of that of a caller.
#[derive(Debug)]
pub(super) struct ConnectAttempt {
    pub(super) socket: OwnedFd,
    pub(super) caller: CallerSocket,
}

impl ConnectAttempt {
    /// Makes the socket, with the options of that of the caller, and begins to connect it. Returns
    /// whether it is connected already.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2).
    pub(super) fn begin(
        caller: CallerSocket,
        to: SocketAddr,
        keeps_to_peer: bool,
    ) -> Result<(ConnectAttempt, bool), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(caller.family, SocketType::STREAM, flags, Some(ipproto::TCP));
        let socket = socket.map_err(|why| match why {
            // Those of this process, not of the caller.
            Errno::MFILE | Errno::NFILE => Errno::AGAIN,
            why => why,
        })?;
        // A connection without them works, too.
        let _ = copy_options(&caller.copy, &socket);
        if keeps_to_peer {
            keep_to_peer(socket.as_fd(), to).map_err(|why| errno(&why))?;
        }
        let is_connected = match connect(&socket, &to) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(why) => return Err(why),
        };
        Ok((ConnectAttempt { socket, caller }, is_connected))
    }

    /// Makes the socket block where that of the caller does.
    pub(super) fn finish(&self) {
        if self.caller.is_blocking {
            // It cannot fail: the descriptor is open.
            let _ = fcntl_setfl(&self.socket, OFlags::empty());
        }
    }
}

/// Copies the options that programs set before they connect.
fn copy_options(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(to, sockopt::tcp_nodelay(from)?)?;
    sockopt::set_socket_linger(to, sockopt::socket_linger(from)?)?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        sockopt::set_socket_timeout(to, timeout, sockopt::socket_timeout(from, timeout)?)?;
    }
    sockopt::set_tcp_user_timeout(to, sockopt::tcp_user_timeout(from)?)?;
    sockopt::set_socket_keepalive(to, sockopt::socket_keepalive(from)?)?;
    sockopt::set_tcp_keepidle(to, sockopt::tcp_keepidle(from)?)?;
    sockopt::set_tcp_keepintvl(to, sockopt::tcp_keepintvl(from)?)?;
    sockopt::set_tcp_keepcnt(to, sockopt::tcp_keepcnt(from)?)
}
