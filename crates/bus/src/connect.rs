//! The connection to the bus: a NATS server, or a cluster of them.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use nkeys::{KeyPair, KeyPairType};
use rustls_native_certs::load_certs_from_paths;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::Sender;

use crate::events::Happening;

/// Time between two questions whether the server is there. After three without an answer, the
/// connection is lost: before three ticks have passed, so that a lost connection is not taken for
/// a lost coordinator.
const PING: Duration = Duration::from_millis(500);
/// Time in which a connection has to be made, and time between two attempts. A server of a cluster
/// that is cut off does not answer: the next one is tried after this time.
const CONNECT: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(250);

/// Where the bus is, and who this process is there.
#[derive(Clone, Debug, Default)]
pub struct Bus {
    /// Addresses of its servers, separated by commas: `nats://HOST`, `nats://TOKEN@HOST:4222`,
    /// `tls://USER:PASSWORD@HOST`.
    pub url: String,
    /// A JWT and the seed of an nkey.
    pub credentials: Option<Secret>,
    /// The seed of an nkey.
    pub nkey: Option<Secret>,
    /// File with the certificates of authorities that the server's certificate may be of, in place
    /// of those of the system. Also requires TLS.
    pub ca: Option<PathBuf>,
}

/// What a bus is to know of a process.
#[derive(Clone)]
pub enum Secret {
    /// It is in a file.
    File(PathBuf),
    /// This is it.
    Text(String),
}

impl Secret {
    /// Returns it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn text(&self) -> Result<String, BusError> {
        match self {
            Secret::File(file) => read(file),
            Secret::Text(text) => Ok(text.clone()),
        }
    }

    /// Returns its file, if it is in one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Secret::File(file) => Some(file),
            Secret::Text(_) => None,
        }
    }

    /// What messages call it.
    fn name(&self) -> String {
        match self {
            Secret::File(file) => file.display().to_string(),
            Secret::Text(_) => "the credentials for the bus".to_owned(),
        }
    }
}

/// Without the text.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct BusError {
    /// What failed, and why.
    pub what: String,
    /// The next move.
    pub next: &'static str,
    /// Whether trying again may help.
    pub is_temporary: bool,
}

impl Bus {
    /// Returns the addresses without users, passwords and tokens, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        let without_user = |url: &str| match url.split_once("://") {
            Some((scheme, rest)) => {
                format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
            }
            None => url.rsplit_once('@').map_or(url, |(_, host)| host).to_owned(),
        };
        self.url.split(',').map(without_user).collect::<Vec<_>>().join(",")
    }

    /// Connects. Tells `happenings` when the connection is lost, and when it is there again.
    ///
    /// # Errors
    /// A file cannot be read, the address is none, or no server lets this process in.
    pub(crate) async fn connect(
        &self,
        name: &str,
        happenings: Sender<Happening>,
    ) -> Result<Client, BusError> {
        let (servers, options) = self.options()?;
        let options = timed(options).name(name).event_callback(move |event| {
            let happenings = happenings.clone();
            async move {
                let happening = match event {
                    Event::Connected => Happening::Bus(true),
                    Event::Disconnected => Happening::Bus(false),
                    Event::ServerError(why) => Happening::BusError(why.to_string()),
                    Event::ClientError(why) => Happening::BusError(why.to_string()),
                    _ => return,
                };
                // Nobody listens any more when the process ends.
                let _ = happenings.send(happening).await;
            }
        });
        options.connect(servers).await.map_err(|why| BusError {
            what: format!("cannot connect to the bus {}: {why}", self.shown()),
            next: "check the address, the credentials (--bus-credentials, --bus-nkey), and that a NATS \
                   server runs there",
            is_temporary: true,
        })
    }

    /// Returns the servers, and the options that say who this process is.
    ///
    /// # Errors
    /// A file cannot be read, or the address is none.
    pub(crate) fn options(&self) -> Result<(Vec<ServerAddr>, ConnectOptions), BusError> {
        let invalid = |why: &dyn Display| BusError {
            what: format!("bad address of a bus '{}': {why}", self.shown()),
            next: "write nats://HOST, nats://TOKEN@HOST:PORT or tls://USER:PASSWORD@HOST",
            is_temporary: false,
        };
        let servers: Vec<ServerAddr> = self
            .url
            .split(',')
            .map(|url| url.parse().map_err(|why: io::Error| invalid(&why)))
            .collect::<Result<_, _>>()?;
        if servers.iter().any(|server| server.host().is_empty() || server.is_websocket()) {
            return Err(invalid(&"it has no host, or is of a WebSocket"));
        }
        let mut options = ConnectOptions::new();
        let user = servers.iter().find_map(|server| Some((server.username()?, server.password())));
        options = match user {
            Some((user, Some(password))) => options.user_and_password(user.into(), password.into()),
            Some((token, None)) => options.token(token.into()),
            None => options,
        };
        if let Some(seed) = &self.nkey {
            options = options.nkey(user_seed(seed)?);
        }
        if let Some(credentials) = &self.credentials {
            let next = "give a file that nsc has made";
            let unusable = |why| cannot_use(&credentials.name(), &why, next);
            options = options.credentials(&credentials.text()?).map_err(unusable)?;
        }
        if let Some(file) = &self.ca {
            check_certificates(file)?;
            options = options.add_root_certificates(file.clone()).require_tls(true);
        }
        Ok((servers, options))
    }
}

impl BusError {
    /// The system refuses what is needed.
    pub(crate) fn of_system(why: &io::Error) -> BusError {
        BusError {
            what: format!("cannot use the bus: {}", tine_sys::reason(why)),
            next: "allow more open files and processes",
            is_temporary: true,
        }
    }

    /// The bus refuses what is needed.
    pub(crate) fn of_bus(why: &dyn Display) -> BusError {
        BusError {
            what: format!("cannot use the bus: {why}"),
            next: "check what its server permits this user",
            is_temporary: true,
        }
    }
}

/// The times of each connection to a bus.
pub(crate) fn timed(options: ConnectOptions) -> ConnectOptions {
    options
        .ping_interval(PING)
        .connection_timeout(CONNECT)
        .reconnect_delay_callback(|_| RETRY)
        .ignore_discovered_servers()
}

/// Makes the runtime of a process, which then must not fork.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn runtime() -> Result<Runtime, BusError> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|why| BusError::of_system(&why))
}

fn read(file: &Path) -> Result<String, BusError> {
    let name = file.display();
    std::fs::read_to_string(file).map_err(|why| cannot_use(&name, &why, "check the path"))
}

/// The seed of the nkey of a user. The library would try it with each connection, and report an
/// error of that.
fn user_seed(secret: &Secret) -> Result<String, BusError> {
    let text = secret.text()?;
    let seed = text.trim();
    let is_of_user = |pair: KeyPair| matches!(pair.key_pair_type(), KeyPairType::User);
    if KeyPair::from_seed(seed).is_ok_and(is_of_user) {
        return Ok(seed.to_owned());
    }
    let next = "give a file with nothing but the seed, which begins with SU (nk -gen user)";
    Err(useless(&secret.name(), &"it has no seed of the nkey of a user", next))
}

/// Checks that a file has certificates of authorities. The library would read it when it connects,
/// and report an error of the connection.
fn check_certificates(file: &Path) -> Result<(), BusError> {
    read(file)?;
    let found = load_certs_from_paths(Some(file), None);
    if found.errors.is_empty() && !found.certs.is_empty() {
        return Ok(());
    }
    let next = "give a file with certificates as PEM";
    Err(useless(&file.display(), &"it has no certificates, or a broken one", next))
}

fn cannot_use(name: &dyn Display, why: &io::Error, next: &'static str) -> BusError {
    useless(name, &tine_sys::reason(why), next)
}

fn useless(name: &dyn Display, why: &dyn Display, next: &'static str) -> BusError {
    BusError { what: format!("cannot use {name}: {why}"), next, is_temporary: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(url: &str) -> Bus {
        Bus { url: url.into(), ..Bus::default() }
    }

    #[test]
    fn messages_have_no_passwords() {
        for (url, shown) in [
            ("nats://a.example", "nats://a.example"),
            ("nats://secret@a.example:1", "nats://a.example:1"),
            ("tls://u:p@[::1]:1,nats://t@b", "tls://[::1]:1,nats://b"),
            ("u:p@host", "host"),
        ] {
            assert_eq!(bus(url).shown(), shown);
        }
    }

    #[test]
    fn an_address_is_of_a_nats_server() {
        for url in ["nats://a", "a.example:1", "tls://[::1]:1", "nats://a,nats://b:2"] {
            bus(url).options().expect(url);
        }
        for url in ["", "http://a", "ws://a", "nats://", "nats://a:x"] {
            assert!(!bus(url).options().expect_err(url).is_temporary);
        }
        let nkey = Some(Secret::File("/nonexistent/file".into()));
        let missing = Bus { nkey, ..bus("nats://a") };
        assert!(missing.options().expect_err("no file").what.contains("/nonexistent/file"));
    }

    #[test]
    fn an_nkey_is_of_a_user() {
        let with = |seed: String| Bus { nkey: Some(Secret::Text(seed)), ..bus("nats://a") };
        let [user, account] =
            [KeyPair::new_user(), KeyPair::new_account()].map(|pair| pair.seed().expect("a seed"));
        with(format!("{user}\n")).options().expect("the seed of a user");
        for seed in
            [account, user.to_lowercase(), user[1..].to_owned(), format!("{user} {user}"), String::new()]
        {
            let why = with(seed.clone()).options().expect_err(&seed);
            assert!(!why.is_temporary && (seed.is_empty() || !why.what.contains(&seed)), "{}", why.what);
        }
    }
}
