//! A last step before a program is executed, in the connection's own process: looking names up, say. It may take its time, and
//! crash: nobody else waits.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use crate::net::peer::Peer;

/// A connection before its program is executed.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Who is at the other end.
    pub peer: Peer,
    /// The address that the client connected to; `None` over a Unix socket.
    pub local: Option<SocketAddr>,
    pub(super) socket: BorrowedFd<'a>,
}

/// The connection itself.
impl AsFd for Incoming<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket
    }
}

/// Variables for the program, or those that it is not to have; or else the exit code of the connection's process, and no program.
pub type PrepareResult = Result<Vec<(OsString, Option<OsString>)>, u8>;

/// What is called.
#[derive(Clone)]
pub(crate) struct Prepare(pub(super) Rc<dyn Fn(&Incoming) -> PrepareResult>);

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare(…)")
    }
}

/// As surroundings have them: `NAME=VALUE`, or `NAME` for one to be taken away, and a zero byte each.
pub(super) fn to_bytes(variables: &[(OsString, Option<OsString>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in variables {
        bytes.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            bytes.push(b'=');
            bytes.extend(value.as_bytes().iter().take_while(|byte| **byte != 0));
        }
        bytes.push(0);
    }
    bytes
}
