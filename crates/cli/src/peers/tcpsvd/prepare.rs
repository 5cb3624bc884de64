//! The preparation of a client's program, in the client's process: lookups, instructions, and the
//! limit of the client's address.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use tine::cli::{host_name, leads_to};
use tine::{Incoming, Peer, Prepared};

use super::client::{self, shown, write_line};
use super::instruct::{self, Action, Instruction};
use super::options::{Instructions, TcpsvdOptions};

/// The exit code for a client that is denied.
const DENIED: u8 = 100;

/// The exit code for a client that is dropped because of a local error.
const DROPPED: u8 = 111;

/// The variables of a connection that tine sets, and `tcpsvd -E` does not.
const VARIABLES: [&str; 7] =
    ["PROTO", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEIP", "TCPREMOTEPORT", "REMOTE_ADDR", "REMOTE_PORT"];

/// The preparation of clients.
pub(super) struct Preparation {
    options: TcpsvdOptions,
}

/// A client and the results of the lookups.
struct Client {
    remote: SocketAddr,
    local: SocketAddr,
    local_name: Option<OsString>,
    host: Option<String>,
    /// The connections of its address.
    connections: usize,
}

impl Preparation {
    pub(super) fn new(options: &TcpsvdOptions) -> Preparation {
        Preparation { options: options.clone() }
    }

    /// Receives a client: looks it up, and decides.
    pub(super) fn receive(&self, incoming: &Incoming) -> Prepared {
        self.try_receive(incoming).unwrap_or_else(Prepared::exit)
    }

    fn try_receive(&self, incoming: &Incoming) -> Result<Prepared, u8> {
        let Peer::Tcp(remote) = incoming.peer else { return Ok(Prepared::new()) };
        self.log(format_args!("pid {} from {}", std::process::id(), remote.ip()));
        let local = incoming
            .local
            .ok_or_else(|| drop_client("unable to get local address", &io::ErrorKind::NotConnected.into()))?;
        let client = self.look_up(remote, local, incoming.connections_of_source);
        let instruction = self.instruction(&client)?;
        for line in &instruction.bad {
            let matched = &instruction.matched;
            write_line(io::stderr(), &format!("tcpsvd: warning: bad instruction: {matched}: {line}"));
        }
        let action = self.within_limit(incoming, &client, &instruction);
        self.log_decision(&action, &client, &instruction);
        let prepared = match action {
            Action::Deny => return Err(DENIED),
            Action::Start => Prepared::new(),
            Action::Execute(command) => {
                Prepared::new().program([OsString::from("/bin/sh"), "-c".into(), command])
            }
        };
        let variables = self.variables(&client).into_iter().chain(instruction.variables);
        Ok(variables.fold(prepared, |prepared, (name, value)| match value {
            Some(value) => prepared.env(name, value),
            None => prepared.env_remove(name),
        }))
    }

    fn look_up(&self, remote: SocketAddr, local: SocketAddr, connections: usize) -> Client {
        let host = Some(remote.ip()).filter(|_| self.options.asks_names).and_then(host_name);
        let host = host.filter(|host| !self.options.is_paranoid || leads_to(host, remote.ip()));
        let named = self.options.local_name.clone();
        let local_name = named.or_else(|| host_name(local.ip()).map(Into::into));
        Client { remote, local, local_name, host, connections }
    }

    fn instruction(&self, client: &Client) -> Result<Instruction, u8> {
        let Some(instructions) = &self.options.instructions else { return Ok(Instruction::default()) };
        let timeout = Duration::from_secs(self.options.file_timeout);
        let (ip, host) = (client.remote.ip(), client.host.as_deref());
        instruct::look_up(instructions, ip, host, timeout, &leads_to).map_err(|why| {
            let (Instructions::Folder(path) | Instructions::Database(path)) = instructions;
            drop_client(&format!("unable to read: {}", path.display()), &why)
        })
    }

    /// The action, if the client's address has no more connections than it may have. Otherwise, the
    /// client gets the message, and is denied.
    fn within_limit(&self, incoming: &Incoming, client: &Client, instruction: &Instruction) -> Action {
        // Instructions can change the limit only where connections are counted.
        let general = self.options.per_source.as_ref();
        let limit = match &instruction.per_source {
            Some(own) if general.is_some() => own.as_ref(),
            _ => general,
        };
        let Some(limit) = limit else { return instruction.action.clone() };
        let (most, now) = (limit.most, client.connections);
        let (pid, ip) = (std::process::id(), client.remote.ip());
        let is_above = now > most;
        if is_above {
            client::dismiss(incoming, &limit.message);
        }
        self.log(format_args!("concurrency {pid} {ip} {now}/{most}"));
        if is_above { Action::Deny } else { instruction.action.clone() }
    }

    /// The variables of ipsvd, and the addresses with ports as busybox has them.
    fn variables(&self, client: &Client) -> Vec<(OsString, Option<OsString>)> {
        if !self.options.sets_variables {
            return VARIABLES.iter().map(|name| (OsString::from(name), None)).collect();
        }
        let text = |value: SocketAddr| Some(OsString::from(value.to_string()));
        let count = self.options.per_source.as_ref().map(|_| client.connections.to_string().into());
        [
            ("TCPLOCALHOST", client.local_name.clone().filter(|name| !name.is_empty())),
            ("TCPREMOTEHOST", client.host.clone().map(Into::into)),
            ("TCPREMOTEINFO", None),
            ("TCPCONCURRENCY", count),
            ("TCPLOCALADDR", text(client.local)),
            ("TCPREMOTEADDR", text(client.remote)),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
    }

    fn log_decision(&self, action: &Action, client: &Client, instruction: &Instruction) {
        let word = match action {
            Action::Deny => "deny",
            Action::Start => "start",
            Action::Execute(_) => "exec",
        };
        let name = client.local_name.as_ref().map(|name| shown(name.as_bytes())).unwrap_or_default();
        let host = shown(client.host.as_deref().unwrap_or_default().as_bytes());
        let rule = match &self.options.instructions {
            None => String::new(),
            Some(_) if instruction.matched.is_empty() => " ".into(),
            Some(Instructions::Folder(path) | Instructions::Database(path)) => {
                format!(" {}/{}", path.display(), instruction.matched)
            }
        };
        let text = match &instruction.text {
            text if self.options.verbosity > 1 && !text.is_empty() => format!(": {text}"),
            _ => String::new(),
        };
        let pid = std::process::id();
        let (local, remote) = (client.local.ip(), client.remote.ip());
        let port = client.remote.port();
        self.log(format_args!("{word} {pid} {name}:{local} :{host}:{remote}:{port}{rule}{text}"));
    }

    /// Writes a line on standard output, as tcpsvd does.
    fn log(&self, line: fmt::Arguments) {
        if self.options.verbosity > 0 {
            write_line(io::stdout(), &format!("tcpsvd: info: {line}"));
        }
    }
}

/// Logs why a client is dropped.
fn drop_client(what: &str, why: &io::Error) -> u8 {
    write_line(io::stderr(), &format!("tcpsvd: drop: {what}: {}", tine::cli::reason(why)));
    DROPPED
}
