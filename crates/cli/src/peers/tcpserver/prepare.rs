//! The preparation of a client's program, in the client's process: lookups, and the rules.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use tine::cli::{host_name, leads_to};
use tine::{Incoming, Peer, Prepared};

use super::client::{shown, write_line};
use super::options::TcpserverOptions;
use super::ucspi::Verbosity;
use super::{ident, rules};

/// The exit code for a client that the rules deny.
const DENIED: u8 = 100;

/// The exit code for a client that is dropped because of a local error.
const DROPPED: u8 = 111;

/// The preparation of clients.
pub(super) struct Preparation {
    options: TcpserverOptions,
}

/// The results of the lookups for a client.
struct RemoteClient {
    ip: String,
    port: u16,
    host: Option<String>,
    info: Option<Vec<u8>>,
}

impl Preparation {
    /// The preparation by these options; `None` if there is nothing to do.
    pub(super) fn new(options: &TcpserverOptions) -> Option<Preparation> {
        let is_plain = options.verbosity < Verbosity::Verbose
            && options.rules.is_none()
            && options.local_name.is_some()
            && !options.asks_names
            && !options.asks_ident;
        (!is_plain).then(|| Preparation { options: options.clone() })
    }

    /// Receives a client: looks it up, and decides.
    pub(super) fn receive(&self, incoming: &Incoming) -> Prepared {
        self.try_receive(incoming).unwrap_or_else(Prepared::exit)
    }

    /// The variables for the program, or the exit code of a client that is denied or dropped.
    fn try_receive(&self, incoming: &Incoming) -> Result<Prepared, u8> {
        let Peer::Tcp(remote) = incoming.peer else { return Ok(Prepared::new()) };
        self.log(format_args!("pid {} from {}", std::process::id(), remote.ip()));
        let local = incoming
            .local
            .ok_or_else(|| self.drop("unable to get local address", &io::ErrorKind::NotConnected.into()))?;
        let local_name = match &self.options.local_name {
            Some(name) => Some(name.as_bytes().to_vec()),
            None => host_name(local.ip()).map(String::into_bytes),
        };
        let client = self.look_up(remote, local);
        let mut variables = vec![
            ("TCPLOCALHOST", local_name.clone()),
            ("TCPREMOTEHOST", client.host.clone().map(String::into_bytes)),
            ("TCPREMOTEINFO", client.info.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (OsString::from(name), value.map(OsString::from_vec)))
        .collect::<Vec<_>>();
        let rule = self.decide(&client)?;
        for variable in &rule.variables {
            let (name, value) =
                variable.split_at(variable.iter().position(|byte| *byte == b'=').unwrap_or(0));
            let (name, value) = (name.to_vec(), value.get(1..).unwrap_or_default().to_vec());
            variables.retain(|(other, _)| other.as_bytes() != name);
            variables.push((OsString::from_vec(name), Some(OsString::from_vec(value))));
        }
        self.log_decision(&rule, local_name.as_deref().unwrap_or_default(), local, &client);
        if rule.denies {
            return Err(DENIED);
        }
        Ok(variables.into_iter().fold(Prepared::new(), |prepared, (name, value)| match value {
            Some(value) => prepared.env(name, value),
            None => prepared.env_remove(name),
        }))
    }

    fn look_up(&self, remote: SocketAddr, local: SocketAddr) -> RemoteClient {
        let host = Some(remote.ip()).filter(|_| self.options.asks_names).and_then(host_name);
        let host = host.filter(|host| !self.options.is_paranoid || leads_to(host, remote.ip()));
        let time = Duration::from_secs(self.options.timeout);
        let info = self.options.asks_ident.then(|| ident::ask(remote, local, time)).flatten();
        RemoteClient { ip: remote.ip().to_string(), port: remote.port(), host, info }
    }

    fn decide(&self, client: &RemoteClient) -> Result<rules::Rule, u8> {
        let Some(file) = &self.options.rules else { return Ok(rules::Rule::default()) };
        let found =
            rules::look_up(Path::new(file), &client.ip, client.host.as_deref(), client.info.as_deref());
        found.or_else(|why| match why.kind() {
            io::ErrorKind::NotFound if self.options.rules_may_lack => Ok(rules::Rule::default()),
            _ => Err(self.drop(&format!("unable to read {}", file.to_string_lossy()), &why)),
        })
    }

    fn log_decision(&self, rule: &rules::Rule, local_name: &[u8], local: SocketAddr, client: &RemoteClient) {
        let word = if rule.denies { "deny" } else { "ok" };
        self.log(format_args!(
            "{word} {} {}:{}:{} {}:{}:{}:{}",
            std::process::id(),
            shown(local_name),
            shown(local.ip().to_string().as_bytes()),
            local.port(),
            shown(client.host.as_deref().unwrap_or_default().as_bytes()),
            shown(client.ip.as_bytes()),
            shown(client.info.as_deref().unwrap_or_default()),
            client.port,
        ));
    }

    fn log(&self, line: std::fmt::Arguments) {
        if self.options.verbosity == Verbosity::Verbose {
            write_line(io::stderr(), &format!("tcpserver: {line}"));
        }
    }

    /// Logs why a client is dropped.
    fn drop(&self, what: &str, why: &io::Error) -> u8 {
        if self.options.verbosity > Verbosity::Quiet {
            let why = tine::cli::reason(why);
            write_line(io::stderr(), &format!("tcpserver: warning: dropping connection, {what}: {why}"));
        }
        DROPPED
    }
}
