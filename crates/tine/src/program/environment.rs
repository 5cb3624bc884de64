//! The environment of a program: what it inherits, what it is given, and what it learns of its connection.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use tine_sys::exec::CStrings;

use crate::system::descendants::CONNECTION;

/// Variables that would lie if they were inherited: about another connection, or meant for the server.
const NOT_INHERITED: [&str; 31] = [
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
    "IPCLOCALPATH",
    "IPCREMOTEEUID",
    "IPCREMOTEEGID",
    "IPCREMOTEPATH",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The variable that names the service, where the server has several.
pub(crate) const SERVICE: &str = "TINE_SERVICE";

/// What does not depend on the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    clear: bool,
    set: Vec<(OsString, OsString)>,
}

impl Environment {
    pub(super) fn set(&mut self, name: OsString, value: OsString) {
        self.set.retain(|(other, _)| *other != name);
        self.set.push((name, value));
    }

    pub(super) fn clear(&mut self, clear: bool) {
        self.clear = clear;
    }

    /// The variables that every connection has, from those of the server.
    pub(super) fn base(&self, server: impl Iterator<Item = (OsString, OsString)>) -> CStrings {
        let hidden = |name: &OsStr| {
            name == CONNECTION
                || NOT_INHERITED.iter().any(|other| name == *other)
                || self.set.iter().any(|(set, _)| set == name)
        };
        let mut words = CStrings::default();
        let inherited = server.filter(|(name, _)| !self.clear && !hidden(name));
        for (name, value) in inherited.chain(self.set.iter().cloned()) {
            words.push_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat());
        }
        words
    }
}

/// The two ends of a connection, as far as a program can be told.
#[derive(Clone, Debug)]
pub(super) enum Ends {
    Tcp {
        local: Option<SocketAddr>,
        remote: SocketAddr,
    },
    /// Who connected: user, group and process id (`SO_PEERCRED`, unix(7)).
    Unix {
        peer: Option<(u32, u32, i32)>,
    },
}

/// Adds what a program learns of its connection: the variables of UCSPI, those of CGI as systemd gives
/// them, and the id in the log; `REMOTE_HOST` where that is asked for. What does not apply is left out.
pub(super) fn describe(words: &mut CStrings, id: u64, ends: &Ends, remote_host: bool) {
    match ends {
        Ends::Tcp { local, remote } => {
            words.push("PROTO=TCP");
            if let Some(local) = local {
                words.push(format_args!("TCPLOCALIP={}", local.ip()));
                words.push(format_args!("TCPLOCALPORT={}", local.port()));
            }
            words.push(format_args!("TCPREMOTEIP={}", remote.ip()));
            words.push(format_args!("TCPREMOTEPORT={}", remote.port()));
            words.push(format_args!("REMOTE_ADDR={}", remote.ip()));
            words.push(format_args!("REMOTE_PORT={}", remote.port()));
            if remote_host {
                words.push(format_args!("REMOTE_HOST={}", remote.ip()));
            }
        }
        Ends::Unix { peer } => {
            words.push("PROTO=UNIX");
            if let Some((uid, gid, pid)) = peer {
                words.push(format_args!("UNIXREMOTEEUID={uid}"));
                words.push(format_args!("UNIXREMOTEEGID={gid}"));
                words.push(format_args!("UNIXREMOTEPID={pid}"));
            }
        }
    }
    words.push(format_args!("{CONNECTION}={id}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> impl Iterator<Item = (OsString, OsString)> {
        [("PATH", "/bin"), ("TCPREMOTEHOST", "stale"), ("TINE_CONNECTION", "9"), ("TERM", "x")]
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
    }

    fn all(words: &CStrings) -> Vec<String> {
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_is_inherited_set_and_cleared() {
        let mut environment = Environment::default();
        assert_eq!(all(&environment.base(server())), ["PATH=/bin", "TERM=x"]);
        environment.set("TERM".into(), "dumb".into());
        environment.set("A".into(), "1".into());
        environment.set("A".into(), "two words".into());
        assert_eq!(all(&environment.base(server())), ["PATH=/bin", "TERM=dumb", "A=two words"]);
        environment.clear(true);
        assert_eq!(all(&environment.base(server())), ["TERM=dumb", "A=two words"]);
    }

    #[test]
    fn what_a_program_learns_of_its_connection() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (ends, expected) in [
            (
                Ends::Tcp { local: Some(address("[::1]:7")), remote: address("[fe80::1%3]:4711") },
                &[
                    "PROTO=TCP",
                    "TCPLOCALIP=::1",
                    "TCPLOCALPORT=7",
                    "TCPREMOTEIP=fe80::1",
                    "TCPREMOTEPORT=4711",
                    "REMOTE_ADDR=fe80::1",
                    "REMOTE_PORT=4711",
                    "TINE_CONNECTION=5",
                ][..],
            ),
            (
                Ends::Tcp { local: None, remote: address("192.0.2.1:1") },
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
                Ends::Unix { peer: Some((0, 1, 2)) },
                &[
                    "PROTO=UNIX",
                    "UNIXREMOTEEUID=0",
                    "UNIXREMOTEEGID=1",
                    "UNIXREMOTEPID=2",
                    "TINE_CONNECTION=5",
                ],
            ),
            (Ends::Unix { peer: None }, &["PROTO=UNIX", "TINE_CONNECTION=5"]),
        ] {
            let mut words = CStrings::default();
            describe(&mut words, 5, &ends, false);
            assert_eq!(all(&words), expected);
        }
    }
}
