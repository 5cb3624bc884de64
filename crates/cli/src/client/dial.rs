//! Making connections, without waiting for them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use tine::Address;
use tine_load::plan::endpoint::Endpoint;

use crate::error::Error;
use crate::resolve::resolve;

use super::tally::Count;

/// An address with the places that it may mean, in the order in which to try them.
#[derive(Clone, Debug)]
pub struct Target {
    /// As it was typed.
    pub name: String,
    places: Vec<Endpoint>,
}

impl Target {
    /// Looks up what an address means.
    pub fn find(address: Address) -> Result<Target, Error> {
        let places = resolve(&address)?;
        Ok(Target { name: address.to_string(), places })
    }

    /// Begins to connect to the first place.
    pub fn dial(&self) -> Dial {
        Dial { left: self.places.iter().cloned().collect(), last: Errno::ADDRNOTAVAIL }
    }
}

/// A connection that is being made.
#[derive(Debug)]
pub struct Dial {
    left: VecDeque<Endpoint>,
    last: Errno,
}

impl Dial {
    /// Starts connecting to the next place. The socket is writable once it is decided.
    ///
    /// # Errors
    /// The last place's error, when no place is left.
    pub fn next(&mut self) -> Result<OwnedFd, Errno> {
        while let Some(place) = self.left.pop_front() {
            match connect(&place) {
                Ok(socket) => return Ok(socket),
                Err(errno) => self.last = errno,
            }
        }
        Err(self.last)
    }

    /// Asks a writable socket how it went; on failure, starts with the next place.
    pub fn decide(&mut self, socket: OwnedFd) -> Result<Decided, Errno> {
        match sockopt::socket_error(&socket) {
            Ok(Ok(())) => Ok(Decided::Connected(socket)),
            Ok(Err(errno)) | Err(errno) => {
                self.last = errno;
                self.next().map(Decided::Trying)
            }
        }
    }
}

/// How an attempt went.
#[derive(Debug)]
pub enum Decided {
    /// It is a connection.
    Connected(OwnedFd),
    /// It is the next attempt.
    Trying(OwnedFd),
}

fn connect(place: &Endpoint) -> Result<OwnedFd, Errno> {
    let socket = place.socket()?;
    if let Endpoint::Tcp(_) = place {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    match place.connect(&socket) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// The kind of an error of a connection.
pub fn kind(errno: Errno) -> Count {
    match errno {
        Errno::CONNREFUSED | Errno::NOENT => Count::Refused,
        Errno::CONNRESET | Errno::PIPE => Count::Reset,
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::TIMEDOUT | Errno::ADDRNOTAVAIL => Count::Unreachable,
        _ => Count::Other,
    }
}

/// One line for a connection that could not be made.
pub fn cannot_connect(target: &str, errno: Errno) -> Error {
    let next = match kind(errno) {
        Count::Refused => "start a server there, or check the port",
        Count::Unreachable => "check the address, the route to it and its firewall",
        _ => "check the address",
    };
    Error::system(format_args!("cannot connect to {target}"), &errno.into(), next)
}
