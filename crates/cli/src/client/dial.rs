//! Connecting without blocking, to the first endpoint of a target that accepts.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use tine::Address;
use tine_load::findings::state::State;
use tine_load::plan::endpoint::Endpoint;

use crate::error::Error;
use crate::resolve::resolve;

/// An address with its endpoints, in the order in which to try them.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The address as typed.
    pub name: String,
    pub endpoints: Vec<Endpoint>,
}

impl Target {
    /// Resolves an address.
    pub(super) fn resolve(address: Address) -> Result<Target, Error> {
        let endpoints = resolve(&address)?;
        Ok(Target { name: address.to_string(), endpoints })
    }

    /// Prepares to connect.
    pub(super) fn dial(&self) -> Dial {
        Dial { left: self.endpoints.iter().cloned().collect(), last: Errno::ADDRNOTAVAIL }
    }
}

/// A connection being made.
#[derive(Debug)]
pub(super) struct Dial {
    left: VecDeque<Endpoint>,
    last: Errno,
}

impl Dial {
    /// Starts to connect to the next endpoint. The socket becomes writable when the outcome is
    /// known.
    ///
    /// # Errors
    /// The error of the last endpoint, if none is left.
    pub(super) fn next(&mut self) -> Result<OwnedFd, Errno> {
        while let Some(endpoint) = self.left.pop_front() {
            match connect(&endpoint) {
                Ok(socket) => return Ok(socket),
                Err(errno) => self.last = errno,
            }
        }
        Err(self.last)
    }

    /// Checks a writable socket. If it failed, starts to connect to the next endpoint.
    pub(super) fn check(&mut self, socket: OwnedFd) -> Result<Attempt, Errno> {
        match sockopt::socket_error(&socket) {
            Ok(Ok(())) => Ok(Attempt::Connected(socket)),
            Ok(Err(errno)) | Err(errno) => {
                self.last = errno;
                self.next().map(Attempt::Connecting)
            }
        }
    }
}

/// An attempt to connect.
#[derive(Debug)]
pub(super) enum Attempt {
    Connected(OwnedFd),
    Connecting(OwnedFd),
}

fn connect(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    let socket = endpoint.socket()?;
    if let Endpoint::Tcp(_) = endpoint {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    match endpoint.connect(&socket) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Describes a connection that could not be made, in one line.
pub(super) fn cannot_connect(target: &str, errno: Errno) -> Error {
    let next = match State::of_connect(errno) {
        State::Refused => "start a server there, or check the port",
        State::Unreachable | State::ConnectTimeout | State::NoPorts => {
            "check the address, the route to it and its firewall"
        }
        _ => "check the address",
    };
    Error::system(format_args!("cannot connect to {target}"), &errno.into(), next)
}
