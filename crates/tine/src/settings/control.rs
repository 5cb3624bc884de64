//! The control socket of a server: whether there is one, and where.

use std::path::PathBuf;

use crate::error::Error;
use crate::log::Log;
use crate::net::control_socket::ControlSocket;

/// How operators reach a running server: `tine status`, `tine list`, `tine kill` and others connect
/// to this Unix socket. Root and the user of the server may read and change, a group may read.
///
/// A library's server has none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    place: Place,
    group: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    None,
    Named(String),
    At(PathBuf),
}

impl Control {
    /// No control socket.
    #[must_use]
    pub fn none() -> Control {
        Control::default()
    }

    /// A control socket in the usual directory: `/run/tine/NAME.sock` for root,
    /// `$XDG_RUNTIME_DIR/tine/NAME.sock` otherwise. If a living server has the name, the process id
    /// is added to it. If the socket cannot be made, the server starts without it and logs a
    /// warning.
    #[must_use]
    pub fn named(name: &str) -> Control {
        Control { place: Place::Named(name.to_owned()), group: None }
    }

    /// A control socket at this path. If it cannot be made, the server does not start.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Control {
        Control { place: Place::At(path.into()), group: None }
    }

    /// Lets members of this group read.
    #[must_use]
    pub fn group(self, gid: u32) -> Control {
        Control { group: Some(gid), ..self }
    }

    /// Makes the socket. Runs in the master, or in a single supervisor, before its first fork.
    ///
    /// # Errors
    /// A socket at a path cannot be made.
    pub(crate) fn bind(&self, log: &mut Log) -> Result<Option<ControlSocket>, Error> {
        match &self.place {
            Place::None => Ok(None),
            Place::At(path) => ControlSocket::bind(path, self.group).map(Some),
            Place::Named(name) => match ControlSocket::bind_named(name, self.group) {
                Ok(socket) => {
                    if socket.path.file_stem().is_none_or(|stem| stem != name.as_str()) {
                        let path = socket.path.display();
                        log.warning(&format!("another server has the name {name}: control socket {path}"));
                    }
                    Ok(Some(socket))
                }
                Err(error) => {
                    log.warning(&format!("no control socket: {error}"));
                    Ok(None)
                }
            },
        }
    }
}
