//! The last step before a program is executed, in the connection's own process: a lookup of names,
//! for example. It may take long or crash; no other client waits for it.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use crate::net::peer::Peer;

/// A connection before its program is executed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// The client.
    pub peer: Peer,
    /// The address that the client connected to; `None` over a Unix or vsock socket.
    pub local: Option<SocketAddr>,
    /// The proxy that speaks for the client, if there is one.
    pub proxy: Option<Peer>,
    /// The connections that the server had when it accepted this one, itself included.
    pub connections: usize,
    /// Those of the client's source among them: of its address, or of its user over a Unix socket.
    pub connections_of_source: usize,
    pub(super) socket: BorrowedFd<'a>,
}

/// The socket of the connection.
impl AsFd for Incoming<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket
    }
}

/// The result of [`Program::prepare`](super::Program::prepare): variables for the program, or an
/// exit code instead of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    pub(super) variables: Vec<(OsString, Option<OsString>)>,
    pub(super) exit: Option<u8>,
    pub(super) words: Option<Vec<OsString>>,
}

impl Prepared {
    /// The program is executed with its environment unchanged.
    #[must_use]
    pub fn new() -> Prepared {
        Prepared::default()
    }

    /// The program is not executed: the connection's process ends with this exit code.
    #[must_use]
    pub fn exit(code: u8) -> Prepared {
        Prepared { exit: Some(code), ..Prepared::default() }
    }

    /// Another program is executed instead: a path and arguments. `PATH` is not searched.
    #[must_use]
    pub fn program<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Prepared {
        self.words = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a variable of the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Prepared {
        self.variables.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a variable from the program's environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Prepared {
        self.variables.push((name.into(), None));
        self
    }

    /// The variables as a launch context has them: `NAME=VALUE`, or `NAME` for one to be removed,
    /// and a zero byte each.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.variables {
            bytes.extend_from_slice(name.as_bytes());
            if let Some(value) = value {
                bytes.push(b'=');
                bytes.extend(value.as_bytes().iter().take_while(|byte| **byte != 0));
            }
            bytes.push(0);
        }
        bytes
    }
}

/// The function that prepares.
#[derive(Clone)]
pub(crate) struct Prepare(pub(super) Rc<dyn Fn(&Incoming) -> Prepared>);

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_set_and_removed() {
        let prepared = Prepared::new().env("A", "1\u{0}x").env_remove("B").env("C", "");
        assert_eq!(prepared.to_bytes(), b"A=1\0B\0C=\0");
        assert_eq!(Prepared::exit(7), Prepared { exit: Some(7), ..Prepared::new() });
    }
}
