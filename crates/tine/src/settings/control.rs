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
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    None,
    Named(String),
    At(PathBuf),
}

/// Where bans are kept for the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// In the usual directory of the user.
    #[default]
    Usual,
    In(PathBuf),
    None,
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
        Control { place: Place::Named(name.to_owned()), ..Control::default() }
    }

    /// A control socket at this path. If it cannot be made, the server does not start.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Control {
        Control { place: Place::At(path.into()), ..Control::default() }
    }

    /// Lets members of this group read.
    #[must_use]
    pub fn group(self, gid: u32) -> Control {
        Control { group: Some(gid), ..self }
    }

    /// Sets the directory in which bans are kept for the next start; `None` keeps none. Default:
    /// `$STATE_DIRECTORY`, or else `/var/lib/tine` for root and `$XDG_STATE_HOME/tine` or
    /// `~/.local/state/tine` for others.
    #[must_use]
    pub fn state_directory(self, directory: Option<PathBuf>) -> Control {
        Control { state: directory.map_or(State::None, State::In), ..self }
    }

    /// Whether there is to be one.
    pub(crate) fn is_any(&self) -> bool {
        self.place != Place::None
    }

    /// The file in which a server with this socket keeps the bans of a service.
    pub(crate) fn state_file(&self, socket: &ControlSocket, service: Option<&str>) -> Option<PathBuf> {
        let directory = match &self.state {
            State::None => return None,
            State::In(directory) => directory.clone(),
            State::Usual => usual_state_directory()?,
        };
        let name = socket.path.file_stem()?.to_str()?;
        Some(directory.join(match service {
            Some(service) => format!("{name}.{service}.bans.json"),
            None => format!("{name}.bans.json"),
        }))
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

/// `$STATE_DIRECTORY` (systemd.exec(5)), or the directory of the user (XDG Base Directory
/// Specification).
fn usual_state_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directories) = variable("STATE_DIRECTORY") {
        // Several are separated by colons.
        let first = directories.to_str()?.split(':').next()?;
        return Some(first.into());
    }
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/tine".into());
    }
    let state = variable("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/state")))?;
    Some(state.join("tine"))
}
