//! The observer: metrics, health and an API over HTTP.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use tine::cli::{ObserverSetup, resolve};
use tine::{Address, Identity};
use tine_observe::ObserverSettings;

use crate::config::Position;
use crate::error::Error;

/// Above the options of the observer, which concern the server as a whole.
pub const HEADING: &str = "Observer";

/// The lengths of a token, in bytes.
const TOKEN: std::ops::RangeInclusive<usize> = 16..=256;

/// The user of the observer of a server that root has started, where the name is not known
/// (`nobody` in all distributions).
pub(super) const NOBODY: u32 = 65_534;

/// The options of the observer.
#[derive(ClapArgs, Clone, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct ObserveOptions {
    /// Address of the observer, a process that serves metrics (/metrics), health (/healthz,
    /// /readyz) and an API (/api/v1) over HTTP: HOST:PORT, [IPV6]:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub observe: Option<String>,

    /// File with the token that clients of the observer send (Authorization: Bearer TOKEN);
    /// required unless ADDRESS is on loopback or unix:PATH
    #[arg(long, value_name = "FILE", requires = "observe")]
    pub observe_token: Option<PathBuf>,

    /// Lets clients of the observer kill connections, pause and resume services, and ban and unban
    /// address blocks, over the API and the dashboard; requires --observe-token
    #[arg(long)]
    pub observe_control: bool,

    /// User of the observer, never root [default: nobody, if root starts the server]
    #[arg(long, value_name = "USER", requires = "observe")]
    pub observe_user: Option<String>,
}

/// An agent of HAProxy, which the observer is, too.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a> {
    /// Its address.
    pub address: &'a str,
    /// The service that it tells about, in a server with several.
    pub service: Option<&'a str>,
    /// Where that service begins in the configuration.
    pub position: Option<&'a Position>,
}

impl ObserveOptions {
    /// Validates the options, without binding an address.
    ///
    /// # Errors
    /// The address may not be used without a token, or the token or the user is not one.
    pub fn check(&self) -> Result<(), Error> {
        self.check_control()?;
        let Some(address) = &self.observe else { return Ok(()) };
        self.token()?;
        self.user()?;
        self.check_address(address)
    }

    /// The observer of a server with this name, if there is to be one. Its addresses are bound:
    /// its own, and those of the agents.
    ///
    /// # Errors
    /// As [`ObserveOptions::check`]; or an address cannot be bound.
    pub fn observation(&self, name: &str, agents: &[Agent]) -> Result<Option<ObserverSetup>, Error> {
        self.check()?;
        if self.observe.is_none() && agents.is_empty() {
            return Ok(None);
        }
        let mut observation = ObserverSetup::new();
        if let Some(address) = &self.observe {
            let is_public = !is_on_this_machine(&address.parse()?)?;
            observation = observation.bind(address)?.public(is_public).control(self.observe_control);
        }
        for Agent { address, service, position } in agents {
            let within = |error: Error| match position {
                Some(position) => error.within(position),
                None => error,
            };
            let bound = observation.bind_agent(address, *service);
            observation = bound.map_err(|error| within(error.into()))?;
        }
        let settings = ObserverSettings {
            name: name.to_owned(),
            token: self.token()?,
            control: self.observe_control,
            agents: observation.agents().to_vec(),
        };
        let observation = observation.settings(settings.to_text());
        Ok(Some(match self.user()? {
            Some(user) => observation.user(user),
            None => observation,
        }))
    }

    /// Who steers must know a token, on loopback and Unix sockets, too: other users of the machine
    /// reach these, and a browser carries requests of any page there.
    fn check_control(&self) -> Result<(), Error> {
        match (self.observe_control, &self.observe, &self.observe_token) {
            (true, None, _) => Err(Error::usage(
                "--observe-control is given, and there is no observer",
                "give its address, too: --observe 127.0.0.1:PORT, with --observe-token FILE",
            )),
            (true, Some(_), None) => Err(Error::usage(
                "--observe-control needs a token: whoever knows it may end connections",
                "write one (openssl rand -hex 32 >FILE), and give --observe-token FILE",
            )),
            _ => Ok(()),
        }
    }

    fn check_address(&self, address: &str) -> Result<(), Error> {
        if self.observe_token.is_some() || is_on_this_machine(&address.parse()?)? {
            return Ok(());
        }
        Err(Error::usage(
            format_args!("--observe {address} can be reached from other machines, without a token"),
            "write 127.0.0.1:PORT, [::1]:PORT or unix:PATH, or give --observe-token FILE",
        ))
    }

    fn token(&self) -> Result<Option<String>, Error> {
        self.observe_token.as_deref().map(read_token).transpose()
    }

    fn user(&self) -> Result<Option<Identity>, Error> {
        let user = match &self.observe_user {
            Some(name) => Identity::of_user(name)?,
            None if rustix::process::geteuid().is_root() => Identity::of_user("nobody")
                .unwrap_or_else(|_| Identity::from_ids(Some(NOBODY), NOBODY, Vec::new())),
            None => return Ok(None),
        };
        match user.uid {
            Some(0) => Err(Error::usage("the observer does not run as root", "name another user")),
            _ => Ok(Some(user)),
        }
    }
}

/// Whether no other machine can reach an address.
fn is_on_this_machine(address: &Address) -> Result<bool, Error> {
    Ok(match address {
        Address::Tcp { host, port } => resolve(host, *port)?.iter().all(|address| address.ip().is_loopback()),
        Address::Unix(_) | Address::Abstract(_) => true,
        _ => {
            return Err(Error::usage(
                "the observer listens on TCP or Unix sockets only",
                "write HOST:PORT, [IPV6]:PORT or unix:PATH",
            ));
        }
    })
}

fn read_token(path: &Path) -> Result<String, Error> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|why| {
        let next = tine::cli::next_move::of_file(&why);
        Error::system(format_args!("cannot read the token in {shown}"), &why, next)
    })?;
    let token = text.trim();
    match TOKEN.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(Error::usage(
            format_args!("{shown} has no token"),
            "write 16 to 256 letters, digits and signs into it, without spaces: openssl rand -hex 32",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str, token: Option<&Path>) -> ObserveOptions {
        ObserveOptions {
            observe: Some(address.to_owned()),
            observe_token: token.map(Path::to_owned),
            ..ObserveOptions::default()
        }
    }

    #[test]
    fn other_machines_need_a_token() {
        let file = std::env::temp_dir().join(format!("tine-token-{}", std::process::id()));
        std::fs::write(&file, "0123456789abcdef\n").expect("our file");
        for (address, without, with) in [
            ("127.0.0.1:0", true, true),
            ("[::1]:0", true, true),
            ("unix:/tmp/x", true, true),
            ("unix:@x", true, true),
            ("0.0.0.0:0", false, true),
            ("9100", false, true),
            ("192.0.2.1:1", false, true),
            ("vsock:1", false, true),
        ] {
            let checked = options(address, None).check();
            assert_eq!(checked.is_ok(), without, "{address}: {checked:?}");
            let checked = options(address, Some(&file)).check();
            assert_eq!(checked.is_ok(), with, "{address}: {checked:?}");
        }
        std::fs::remove_file(file).expect("our file");
    }

    #[test]
    fn who_steers_needs_a_token_everywhere() {
        let file = std::env::temp_dir().join(format!("tine-steer-{}", std::process::id()));
        std::fs::write(&file, "0123456789abcdef\n").expect("our file");
        for address in ["127.0.0.1:0", "[::1]:0", "unix:/tmp/x", "0.0.0.0:0"] {
            let without = ObserveOptions { observe_control: true, ..options(address, None) };
            let error = without.check().expect_err(address);
            assert!(
                error.exit_code() == 100 && error.to_string().contains("--observe-token FILE"),
                "{error}"
            );
            let with = ObserveOptions { observe_control: true, ..options(address, Some(&file)) };
            assert!(with.check().is_ok(), "{address}");
        }
        let alone = ObserveOptions { observe_control: true, ..ObserveOptions::default() };
        assert!(alone.check().is_err_and(|error| error.to_string().contains("--observe 127")));
        std::fs::remove_file(file).expect("our file");
    }

    #[test]
    fn a_token_is_long_and_of_one_word() {
        let file = std::env::temp_dir().join(format!("tine-short-{}", std::process::id()));
        for (text, is_token) in [
            ("0123456789abcdef", true),
            (" 0123456789abcdef\n", true),
            ("0123456789abcde", false),
            ("0123456789 abcdef", false),
            ("", false),
            ("0123456789abcdé", false),
            (&"x".repeat(257), false),
        ] {
            std::fs::write(&file, text).expect("our file");
            assert_eq!(read_token(&file).is_ok(), is_token, "{text}");
        }
        std::fs::remove_file(&file).expect("our file");
        assert_eq!(read_token(&file).map_err(|error| error.exit_code()), Err(111));
    }
}
