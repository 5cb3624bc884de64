//! `s6-tcpserver-access` of s6-networking: checks and describes a client, then executes the rest of
//! its command line. It runs in the process of the connection, after s6-tcpserver.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use tine::cli::{host_name, leads_to};

use super::rules::{Allowed, Rules, Verdict};
use super::{Failure, client, fatal, ident, ucspi, usage};
use crate::exit;

const NAME: &str = "s6-tcpserver-access";

const USAGE: &str = "[ -v verbosity ] [ -W | -w ] [ -D | -d ] [ -H ] [ -h ] [ -R | -r ] [ -P | -p ] [ -l localname ] \
[ -B banner ] [ -t timeout ] [ -i rulesdir | -x rulesfile ] prog...";

/// The exit code for a client that is denied.
const DENIED: u8 = 1;

/// The exit code after the timeout.
const TIMED_OUT: i32 = 99;

/// Where `-t` does not end a lookup before.
const LONGEST_LOOKUP: Duration = Duration::from_secs(3600);

/// The options and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AccessOptions {
    /// `-v`
    verbosity: u32,
    /// `-w`, `-W`: a failed lookup denies the client.
    is_strict: bool,
    /// `-D`, `-d`
    no_delay: bool,
    /// Without `-H`.
    asks_names: bool,
    /// `-r`, `-R`
    asks_ident: bool,
    /// `-p`, `-P`
    is_paranoid: bool,
    /// `-l`
    local_name: Option<OsString>,
    /// `-B`
    banner: Vec<u8>,
    /// `-t`
    timeout: Option<Duration>,
    rules: Option<Rules>,
    program: Vec<OsString>,
}

impl Default for AccessOptions {
    fn default() -> AccessOptions {
        AccessOptions {
            verbosity: 1,
            is_strict: false,
            no_delay: false,
            asks_names: true,
            asks_ident: false,
            is_paranoid: false,
            local_name: None,
            banner: Vec::new(),
            timeout: None,
            rules: None,
            program: Vec::new(),
        }
    }
}

impl AccessOptions {
    fn parse(words: &mut dyn Iterator<Item = OsString>) -> Result<AccessOptions, ()> {
        let mut options = AccessOptions::default();
        let mut words = words.peekable();
        ucspi::read(&mut words, b"vlBtix", |letter, value| {
            match (letter, value) {
                (b'v', value) => options.verbosity = ucspi::number(value.as_ref())?,
                (b't', value) => {
                    let time = Duration::from_millis(ucspi::number(value.as_ref())?.into());
                    options.timeout = Some(time).filter(|time| !time.is_zero());
                }
                (b'l', value) => options.local_name = value,
                (b'B', Some(value)) => options.banner = value.into_vec(),
                (b'i', Some(value)) => options.rules = Some(Rules::Folder(value.into())),
                (b'x', Some(value)) => options.rules = Some(Rules::Database(value.into())),
                (b'W', _) => options.is_strict = false,
                (b'w', _) => options.is_strict = true,
                (b'D', _) => options.no_delay = true,
                (b'd', _) => options.no_delay = false,
                (b'H', _) => options.asks_names = false,
                // Lookups follow the configuration of the system, /etc/hosts included.
                (b'h', _) => {}
                (b'R', _) => options.asks_ident = false,
                (b'r', _) => options.asks_ident = true,
                (b'P', _) => options.is_paranoid = false,
                (b'p', _) => options.is_paranoid = true,
                _ => return Err(()),
            }
            Ok(())
        })?;
        options.program = words.collect();
        if options.program.first().is_none_or(|program| program.is_empty()) { Err(()) } else { Ok(options) }
    }
}

/// The client, from the variables of the server.
struct Client {
    /// `PROTO`, in front of the other names.
    proto: String,
    remote: SocketAddr,
    local: SocketAddr,
}

/// Checks the client, and executes the program. Returns only if it does not.
pub(in crate::peers) fn main(words: &mut dyn Iterator<Item = OsString>) -> Result<(), Failure> {
    let options = AccessOptions::parse(words).map_err(|()| usage(NAME, USAGE))?;
    let client = Client::from_environment(|name| std::env::var(name).ok())?;
    if options.no_delay
        && let Err(why) = rustix::net::sockopt::set_tcp_nodelay(rustix::stdio::stdout(), true)
        && options.verbosity > 0
    {
        client::write_line(io::stderr(), &format!("{NAME}: warning: unable to set TCP_NODELAY: {why}"));
    }
    if let Some(time) = options.timeout {
        std::thread::spawn(move || {
            std::thread::sleep(time);
            std::process::exit(TIMED_OUT);
        });
    }
    let mut out = io::stdout();
    out.write_all(&options.banner).and_then(|()| out.flush()).map_err(|why| {
        fatal(NAME, exit::SYSTEM, format!("unable to write banner: {}", tine::cli::reason(&why)))
    })?;
    let Some((allowed, mut variables)) = decide(&options, &client)? else {
        if options.verbosity >= 2 {
            log(&client, "deny");
        }
        return Err(Failure { code: DENIED, line: None });
    };
    if options.verbosity >= 1 {
        log(&client, "allow");
    }
    variables.extend(allowed.variables);
    let words = match allowed.exec {
        Some(script) => vec!["execlineb".into(), "-c".into(), script],
        None => options.program,
    };
    Err(execute(&words, variables))
}

impl Client {
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Client, Failure> {
        let get =
            |name: String| variable(&name).ok_or_else(|| fatal(NAME, exit::USAGE, format!("{name} not set")));
        let proto = get("PROTO".into())?;
        let end = |which: &str| {
            let (ip, port) = (format!("{proto}{which}IP"), format!("{proto}{which}PORT"));
            let invalid = |name: &str| fatal(NAME, exit::USAGE, format!("invalid {name}"));
            let address: IpAddr = get(ip.clone())?.parse().map_err(|_| invalid(&ip))?;
            let number: u16 = get(port.clone())?.parse().map_err(|_| invalid(&port))?;
            Ok(SocketAddr::new(address.to_canonical(), number))
        };
        let (local, remote) = (end("LOCAL")?, end("REMOTE")?);
        Ok(Client { proto, remote, local })
    }
}

/// Variables to be set, or to be removed.
type Variables = Vec<(OsString, Option<OsString>)>;

/// Decides about the client: `None` if it is denied.
fn decide(options: &AccessOptions, client: &Client) -> Result<Option<(Allowed, Variables)>, Failure> {
    let ip = client.remote.ip();
    let unreadable = |why: io::Error| {
        let why = tine::cli::reason(&why);
        fatal(NAME, exit::SYSTEM, format!("unable to check ruleset for {ip}: {why}"))
    };
    let mut verdict = match &options.rules {
        None => Verdict::Allow(Allowed::default()),
        Some(rules) => rules.of_address(ip).map_err(unreadable)?,
    };
    if verdict == Verdict::Deny || verdict == Verdict::Unknown && !options.asks_names {
        return Ok(None);
    }
    let info = options.asks_ident.then(|| ident::ask(client.remote, client.local, LONGEST_LOOKUP));
    let host = options.asks_names.then(|| host_name(ip));
    if options.is_strict && (info == Some(None) || host == Some(None)) {
        return Ok(None);
    }
    let host = host.flatten();
    if let (Some(host), true) = (&host, options.is_paranoid)
        && !leads_to(host, ip)
    {
        return Ok(None);
    }
    if let (Verdict::Unknown, Some(host), Some(rules)) = (&verdict, &host, &options.rules) {
        verdict = rules.of_name(host).map_err(unreadable)?;
    }
    let Verdict::Allow(allowed) = verdict else { return Ok(None) };
    let local_name = options.local_name.clone().or_else(|| {
        let found = options.asks_names.then(|| host_name(client.local.ip())).flatten();
        found.map(Into::into)
    });
    let name = |rest: &str| OsString::from(format!("{}{rest}", client.proto));
    let variables = vec![
        (name("REMOTEHOST"), host.map(Into::into)),
        (name("REMOTEINFO"), info.flatten().map(OsString::from_vec)),
        (name("LOCALHOST"), local_name),
    ];
    Ok(Some((allowed, variables)))
}

fn log(client: &Client, word: &str) {
    let (pid, ip) = (std::process::id(), client.remote.ip());
    client::write_line(io::stderr(), &format!("{NAME}: info: {word} pid {pid} ip {ip}"));
}

/// Executes the program in this process. Returns why not.
fn execute(words: &[OsString], variables: Variables) -> Failure {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    for (name, value) in variables {
        match value {
            Some(value) if !value.as_bytes().contains(&0) => command.env(name, value),
            _ => command.env_remove(name),
        };
    }
    let why = command.exec();
    let (program, why) = (words[0].display(), tine::cli::reason(&why));
    fatal(NAME, exit::SYSTEM, format!("unable to exec {program}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let parse = |line: &str| AccessOptions::parse(&mut line.split_whitespace().map(OsString::from));
        let base = || AccessOptions { program: vec!["cat".into()], ..AccessOptions::default() };
        for (line, meant) in [
            ("cat", base()),
            ("-v2 -HD -l0 cat", {
                AccessOptions {
                    verbosity: 2,
                    asks_names: false,
                    no_delay: true,
                    local_name: Some("0".into()),
                    ..base()
                }
            }),
            (
                "-v 0 -w -rp -B hi -t 5000 -i rules -- cat",
                AccessOptions {
                    verbosity: 0,
                    is_strict: true,
                    asks_ident: true,
                    is_paranoid: true,
                    banner: b"hi".to_vec(),
                    timeout: Some(Duration::from_secs(5)),
                    rules: Some(Rules::Folder("rules".into())),
                    ..base()
                },
            ),
            ("-wWrRpPDdh -t0 cat", base()),
            (
                "-x rules.cdb cat",
                AccessOptions { rules: Some(Rules::Database("rules.cdb".into())), ..base() },
            ),
        ] {
            assert_eq!(parse(line), Ok(meant), "{line}");
        }
        for line in ["", "-v x cat", "-z cat", "-l", "-t x cat"] {
            assert_eq!(parse(line), Err(()), "{line}");
        }
    }

    #[test]
    fn the_client_is_in_the_environment() {
        let of = |ip: &'static str| {
            Client::from_environment(move |name| match name {
                "PROTO" => Some("SSL".into()),
                "SSLLOCALIP" => Some("::1".into()),
                "SSLREMOTEIP" => Some(ip.into()),
                "SSLLOCALPORT" | "SSLREMOTEPORT" => Some("7".into()),
                _ => None,
            })
        };
        let client = of("::ffff:192.0.2.1").expect("complete");
        assert_eq!(
            (client.remote.to_string(), client.local.to_string()),
            ("192.0.2.1:7".into(), "[::1]:7".into())
        );
        let line = of("host").err().and_then(|failure| failure.line);
        assert_eq!(line.as_deref(), Some("s6-tcpserver-access: fatal: invalid SSLREMOTEIP"));
        let line = Client::from_environment(|_| None).err().and_then(|failure| failure.line);
        assert_eq!(line.as_deref(), Some("s6-tcpserver-access: fatal: PROTO not set"));
    }
}
