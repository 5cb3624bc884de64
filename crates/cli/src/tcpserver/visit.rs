//! What is done for a client in its own process, before the program is executed: it is greeted and looked up, and the rules
//! decide.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use tine::cli::{host_name, leads_to};
use tine::{Incoming, Peer, Prepared};

use super::options::{TcpserverOptions, Verbosity};
use super::{ident, rules};

/// The exit code of the process of a client that the rules deny.
const DENIED: u8 = 100;

/// That of one that is dropped because something is wrong here.
const DROPPED: u8 = 111;

/// How clients are received.
pub struct Visits {
    options: TcpserverOptions,
}

/// What has been found out about a client.
struct Visitor {
    ip: String,
    port: u16,
    host: Option<String>,
    info: Option<Vec<u8>>,
}

impl Visits {
    /// As these options say; `None` where nothing is to be done.
    pub fn new(options: &TcpserverOptions) -> Option<Visits> {
        let is_plain = options.verbosity < Verbosity::Verbose
            && options.banner.is_empty()
            && options.rules.is_none()
            && options.local_name.is_some()
            && !options.asks_names
            && !options.asks_ident;
        (!is_plain).then(|| Visits { options: options.clone() })
    }

    /// Receives a client: greets it, looks it up, and decides.
    pub fn receive(&self, incoming: &Incoming) -> Prepared {
        self.try_receive(incoming).unwrap_or_else(Prepared::exit)
    }

    /// The variables for the program, or the exit code of a client that is denied or dropped.
    fn try_receive(&self, incoming: &Incoming) -> Result<Prepared, u8> {
        let Peer::Tcp(remote) = incoming.peer else { return Ok(Prepared::new()) };
        self.tell(format_args!("pid {} from {}", std::process::id(), remote.ip()));
        greet(incoming, &self.options.banner).map_err(|why| self.drop("unable to print banner", &why))?;
        let local = incoming
            .local
            .ok_or_else(|| self.drop("unable to get local address", &io::ErrorKind::NotConnected.into()))?;
        let local_name = match &self.options.local_name {
            Some(name) => Some(name.as_bytes().to_vec()),
            None => host_name(local.ip()).map(String::into_bytes),
        };
        let visitor = self.look_up(remote, local);
        let mut variables = vec![
            ("TCPLOCALHOST", local_name.clone()),
            ("TCPREMOTEHOST", visitor.host.clone().map(String::into_bytes)),
            ("TCPREMOTEINFO", visitor.info.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (OsString::from(name), value.map(OsString::from_vec)))
        .collect::<Vec<_>>();
        let rule = self.decide(&visitor)?;
        for variable in &rule.variables {
            let (name, value) =
                variable.split_at(variable.iter().position(|byte| *byte == b'=').unwrap_or(0));
            let (name, value) = (name.to_vec(), value.get(1..).unwrap_or_default().to_vec());
            variables.retain(|(other, _)| other.as_bytes() != name);
            variables.push((OsString::from_vec(name), Some(OsString::from_vec(value))));
        }
        self.tell_decision(&rule, local_name.as_deref().unwrap_or_default(), local, &visitor);
        if rule.denies {
            return Err(DENIED);
        }
        Ok(variables.into_iter().fold(Prepared::new(), |prepared, (name, value)| match value {
            Some(value) => prepared.env(name, value),
            None => prepared.env_remove(name),
        }))
    }

    fn look_up(&self, remote: SocketAddr, local: SocketAddr) -> Visitor {
        let host = Some(remote.ip()).filter(|_| self.options.asks_names).and_then(host_name);
        let host = host.filter(|host| !self.options.is_paranoid || leads_to(host, remote.ip()));
        let time = Duration::from_secs(self.options.timeout);
        let info = self.options.asks_ident.then(|| ident::ask(remote, local, time)).flatten();
        Visitor { ip: remote.ip().to_string(), port: remote.port(), host, info }
    }

    fn decide(&self, visitor: &Visitor) -> Result<rules::Rule, u8> {
        let Some(file) = &self.options.rules else { return Ok(rules::Rule::default()) };
        let found =
            rules::look_up(Path::new(file), &visitor.ip, visitor.host.as_deref(), visitor.info.as_deref());
        found.or_else(|why| match why.kind() {
            io::ErrorKind::NotFound if self.options.rules_may_lack => Ok(rules::Rule::default()),
            _ => Err(self.drop(&format!("unable to read {}", file.to_string_lossy()), &why)),
        })
    }

    fn tell_decision(&self, rule: &rules::Rule, local_name: &[u8], local: SocketAddr, visitor: &Visitor) {
        let word = if rule.denies { "deny" } else { "ok" };
        self.tell(format_args!(
            "{word} {} {}:{}:{} {}:{}:{}:{}",
            std::process::id(),
            shown(local_name),
            shown(local.ip().to_string().as_bytes()),
            local.port(),
            shown(visitor.host.as_deref().unwrap_or_default().as_bytes()),
            shown(visitor.ip.as_bytes()),
            shown(visitor.info.as_deref().unwrap_or_default()),
            visitor.port,
        ));
    }

    fn tell(&self, line: std::fmt::Arguments) {
        if self.options.verbosity == Verbosity::Verbose {
            say(&line.to_string());
        }
    }

    /// Says why a client is dropped.
    fn drop(&self, what: &str, why: &io::Error) -> u8 {
        if self.options.verbosity > Verbosity::Quiet {
            say(&format!("warning: dropping connection, {what}: {}", tine::cli::reason(why)));
        }
        DROPPED
    }
}

/// A line on standard error, in one write, so that lines of several processes do not mix.
fn say(line: &str) {
    use io::Write;
    // Nobody to tell it to is no reason to serve nobody.
    let _ = io::stderr().write_all(format!("tcpserver: {line}\n").as_bytes());
}

fn greet(incoming: &Incoming, mut banner: &[u8]) -> io::Result<()> {
    while !banner.is_empty() {
        let sent = rustix::net::send(incoming, banner, rustix::net::SendFlags::NOSIGNAL)?;
        banner = &banner[sent..];
    }
    Ok(())
}

/// As lines of the log show it, which other programs take apart: at most a hundred characters, none of them special.
fn shown(text: &[u8]) -> String {
    const LONGEST: usize = 100;
    let is_plain = |byte: u8| (33..=126).contains(&byte) && byte != b'%' && byte != b':';
    let start = text.iter().take(LONGEST).map(|byte| if is_plain(*byte) { *byte as char } else { '?' });
    let more = if text.len() > LONGEST { "..." } else { "" };
    start.chain(more.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_shows_cannot_be_taken_for_something_else() {
        assert_eq!(shown(b"joe"), "joe");
        assert_eq!(shown(b"a b:c%d\n\xff"), "a?b?c?d??");
        let long = shown(&[b'x'; 200]);
        assert_eq!((long.len(), &long[98..]), (103, "xx..."));
    }
}
