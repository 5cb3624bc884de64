//! The environment of a program: variables that it inherits, those that are set for it, and those
//! that describe its connection.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use tine_sys::exec::CStrings;

use crate::net::peer::Credentials;
use crate::net::zone::IpWithZone;
use crate::system::descendants::CONNECTION;
use crate::system::users::Login;

/// Variables that are not inherited: they describe another connection, or belong to the server.
const NOT_INHERITED: [&str; 33] = [
    SERVICE,
    "PROTO",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPLOCALHOST",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "TCPREMOTEHOST",
    "TCPREMOTEINFO",
    "TCPINTERFACE",
    "TCP6INTERFACE",
    "TCPCONCURRENCY",
    "TCPCONNNUM",
    "TCPCONNMAX",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REMOTE_HOST",
    "UNIXLOCALPATH",
    "UNIXREMOTEEUID",
    "UNIXREMOTEEGID",
    "UNIXREMOTEPID",
    "UNIXREMOTEPATH",
    "IPCLOCALPATH",
    "IPCREMOTEEUID",
    "IPCREMOTEEGID",
    "IPCREMOTEPATH",
    "IPCCONNNUM",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The environment variable that holds the name of the service, in a server with several.
pub(crate) const SERVICE: &str = "TINE_SERVICE";

/// The part of the environment that all connections share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    clear: bool,
    set: Vec<(OsString, OsString)>,
    /// Removed at last.
    removed: Vec<OsString>,
    /// The variables of the user, in place of the server's.
    login: Option<Login>,
}

/// The variables of [`Login`].
const LOGIN: [&str; 4] = ["USER", "LOGNAME", "HOME", "SHELL"];

impl Environment {
    pub(super) fn set(&mut self, name: OsString, value: OsString) {
        self.set.retain(|(other, _)| *other != name);
        self.set.push((name, value));
    }

    pub(super) fn remove(&mut self, name: OsString) {
        self.removed.push(name);
    }

    pub(super) fn set_login(&mut self, login: Option<Login>) {
        self.login = login;
    }

    pub(super) fn clear(&mut self, clear: bool) {
        self.clear = clear;
    }

    /// The `PATH` that is set for the program.
    pub(super) fn path(&self) -> Option<&OsStr> {
        self.set.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str())
    }

    /// The variables of every connection, from those of the server.
    pub(super) fn base(&self, server: impl Iterator<Item = (OsString, OsString)>) -> CStrings {
        let is_set = |name: &OsStr| self.set.iter().any(|(set, _)| set == name);
        let hidden = |name: &OsStr| {
            name == CONNECTION
                || NOT_INHERITED.iter().any(|other| name == *other)
                || self.login.is_some() && LOGIN.iter().any(|other| name == *other)
        };
        let inherited = server.filter(|(name, _)| !self.clear && !hidden(name));
        let other = inherited.chain(self.login_variables()).filter(|(name, _)| !is_set(name));
        let mut variables = CStrings::default();
        for (name, value) in other.chain(self.set.iter().cloned()) {
            if !self.removed.contains(&name) {
                variables.push_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat());
            }
        }
        variables
    }

    fn login_variables(&self) -> impl Iterator<Item = (OsString, OsString)> + '_ {
        let values = self.login.iter().flat_map(|Login { name, home, shell }| [name, name, home, shell]);
        LOGIN.iter().zip(values).filter_map(|(name, value)| Some((name.into(), value.as_ref()?.into())))
    }
}

/// The addresses of a connection, as its program gets them.
#[derive(Clone, Debug)]
pub(super) enum Endpoints {
    Tcp {
        local: Option<SocketAddr>,
        remote: SocketAddr,
    },
    Unix {
        credentials: Option<Credentials>,
        /// The name to which the client has bound its socket ([`crate::net::unix_name`]).
        name: Option<Vec<u8>>,
    },
    /// The client's machine and port.
    Vsock {
        cid: u32,
        port: u32,
    },
}

/// Adds the variables that describe a connection: those of UCSPI, those of CGI that systemd sets
/// too, and the id in the log; `REMOTE_HOST` if requested. Unknown values are left out.
pub(super) fn describe(variables: &mut CStrings, id: u64, endpoints: &Endpoints, remote_host: bool) {
    match endpoints {
        Endpoints::Tcp { local, remote } => {
            variables.push("PROTO=TCP");
            if let Some(local) = local {
                variables.push(format_args!("TCPLOCALIP={}", IpWithZone(local)));
                variables.push(format_args!("TCPLOCALPORT={}", local.port()));
            }
            variables.push(format_args!("TCPREMOTEIP={}", IpWithZone(remote)));
            variables.push(format_args!("TCPREMOTEPORT={}", remote.port()));
            variables.push(format_args!("REMOTE_ADDR={}", IpWithZone(remote)));
            variables.push(format_args!("REMOTE_PORT={}", remote.port()));
            if remote_host {
                variables.push(format_args!("REMOTE_HOST={}", remote.ip()));
            }
        }
        Endpoints::Unix { credentials, name } => {
            variables.push("PROTO=UNIX");
            if let Some(Credentials { uid, gid, pid }) = credentials {
                variables.push(format_args!("UNIXREMOTEEUID={uid}"));
                variables.push(format_args!("UNIXREMOTEEGID={gid}"));
                if let Some(pid) = pid {
                    variables.push(format_args!("UNIXREMOTEPID={pid}"));
                }
            }
            if let Some(name) = name {
                variables.push_bytes(&[b"REMOTE_ADDR=", &name[..]].concat());
            }
        }
        // As systemd sets them (systemd/src/core/service.c).
        Endpoints::Vsock { cid, port } => {
            variables.push("PROTO=VSOCK");
            variables.push(format_args!("REMOTE_ADDR=vsock:{cid}"));
            variables.push(format_args!("REMOTE_PORT={port}"));
            if remote_host {
                variables.push(format_args!("REMOTE_HOST=vsock:{cid}"));
            }
        }
    }
    variables.push(format_args!("{CONNECTION}={id}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> impl Iterator<Item = (OsString, OsString)> {
        [("PATH", "/bin"), ("TCPREMOTEHOST", "stale"), ("TINE_CONNECTION", "9"), ("TERM", "x")]
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
    }

    fn all(variables: &CStrings) -> Vec<String> {
        variables.iter().map(|variable| variable.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn inherited_set_and_cleared_variables() {
        let mut environment = Environment::default();
        assert_eq!(all(&environment.base(server())), ["PATH=/bin", "TERM=x"]);
        environment.set("TERM".into(), "dumb".into());
        environment.set("A".into(), "1".into());
        environment.set("A".into(), "two words".into());
        assert_eq!(all(&environment.base(server())), ["PATH=/bin", "TERM=dumb", "A=two words"]);
        environment.clear(true);
        assert_eq!(all(&environment.base(server())), ["TERM=dumb", "A=two words"]);
        environment.remove("TERM".into());
        environment.remove("PATH".into());
        assert_eq!(all(&environment.base(server())), ["A=two words"]);
        environment.clear(false);
        assert_eq!(all(&environment.base(server())), ["A=two words"]);
    }

    #[test]
    fn the_variables_of_the_user_replace_those_of_the_server() {
        let server = || {
            [("HOME", "/root"), ("SHELL", "/bin/bash"), ("USER", "root"), ("LANG", "C")]
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
        };
        let login = |name: Option<&str>, home: Option<&str>| Login {
            name: name.map(str::to_owned),
            home: home.map(str::to_owned),
            shell: None,
        };
        let mut environment = Environment::default();
        environment.set_login(Some(login(Some("git"), Some("/srv/git"))));
        assert_eq!(all(&environment.base(server())), ["LANG=C", "USER=git", "LOGNAME=git", "HOME=/srv/git"]);
        environment.set("HOME".into(), "/tmp".into());
        assert_eq!(all(&environment.base(server())), ["LANG=C", "USER=git", "LOGNAME=git", "HOME=/tmp"]);
        environment.set_login(Some(login(None, None)));
        assert_eq!(all(&environment.base(server())), ["LANG=C", "HOME=/tmp"]);
        environment.set_login(None);
        assert_eq!(all(&environment.base(server())), ["SHELL=/bin/bash", "USER=root", "LANG=C", "HOME=/tmp"]);
    }

    #[test]
    fn variables_that_describe_the_connection() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let credentials = |pid| Some(Credentials { uid: 0, gid: 1, pid });
        for (endpoints, expected) in [
            (
                Endpoints::Tcp { local: Some(address("[::1]:7")), remote: address("[fe80::1%1]:4711") },
                &[
                    "PROTO=TCP",
                    "TCPLOCALIP=::1",
                    "TCPLOCALPORT=7",
                    "TCPREMOTEIP=fe80::1%lo",
                    "TCPREMOTEPORT=4711",
                    "REMOTE_ADDR=fe80::1%lo",
                    "REMOTE_PORT=4711",
                    "TINE_CONNECTION=5",
                ][..],
            ),
            (
                Endpoints::Tcp { local: None, remote: address("192.0.2.1:1") },
                &[
                    "PROTO=TCP",
                    "TCPREMOTEIP=192.0.2.1",
                    "TCPREMOTEPORT=1",
                    "REMOTE_ADDR=192.0.2.1",
                    "REMOTE_PORT=1",
                    "TINE_CONNECTION=5",
                ],
            ),
            (
                Endpoints::Unix { credentials: credentials(Some(2)), name: Some(b"/run/client".to_vec()) },
                &[
                    "PROTO=UNIX",
                    "UNIXREMOTEEUID=0",
                    "UNIXREMOTEEGID=1",
                    "UNIXREMOTEPID=2",
                    "REMOTE_ADDR=/run/client",
                    "TINE_CONNECTION=5",
                ],
            ),
            (
                Endpoints::Unix { credentials: credentials(None), name: None },
                &["PROTO=UNIX", "UNIXREMOTEEUID=0", "UNIXREMOTEEGID=1", "TINE_CONNECTION=5"],
            ),
            (Endpoints::Unix { credentials: None, name: None }, &["PROTO=UNIX", "TINE_CONNECTION=5"]),
            (
                Endpoints::Vsock { cid: 3, port: 4_000_000_000 },
                &["PROTO=VSOCK", "REMOTE_ADDR=vsock:3", "REMOTE_PORT=4000000000", "TINE_CONNECTION=5"],
            ),
        ] {
            let mut variables = CStrings::default();
            describe(&mut variables, 5, &endpoints, false);
            assert_eq!(all(&variables), expected);
        }
    }
}
