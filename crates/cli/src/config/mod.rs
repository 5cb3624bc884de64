//! `tine.toml`: several services in a file, or in a file and directories of others.
//!
//! A key is an option of `tine serve` of the same name, read by the same code: each service is
//! translated into the words of a command line. So the file has every option, with the same
//! meaning.

mod document;
mod keys;
mod level;
pub mod overlap;
mod position;
pub mod print;
mod typed;
mod value;

use std::path::Path;

use clap::{ArgMatches, Args as _, FromArgMatches};
use tine::LogLevel;
use tine::cli::next_move;

use crate::args::control::ControlOptions;
use crate::args::fleet::FleetOptions;
use crate::args::logging::LogOptions;
use crate::args::observe::ObserveOptions;
use crate::args::readiness::ReadinessOptions;
use crate::args::{Serve, said};
use crate::error::Error;
use document::{Document, Section};
use keys::Keys;
use level::LevelKeys;
use overlap::Claim;
pub use position::Position;
use value::Entry;

/// A configuration, every value of which is valid by itself. Whether users, programs and addresses
/// exist is found when it is checked or served.
#[derive(Debug)]
pub struct Config {
    /// The options that concern the server as a whole.
    pub server: ServerConfig,
    /// The services, in the order of the file, then of the included files.
    pub services: Vec<ServiceConfig>,
    /// The text of the file, and of those that it includes.
    pub text: String,
    server_wide: ArgMatches,
}

/// The options that concern the server as a whole.
#[derive(Debug)]
pub struct ServerConfig {
    /// The log.
    pub log: LogOptions,
    /// Readiness.
    pub readiness: ReadinessOptions,
    /// The control socket.
    pub control: ControlOptions,
    /// The observer.
    pub observe: ObserveOptions,
    /// The fleet.
    pub fleet: FleetOptions,
}

/// A service.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Its name, which is in each line of its log.
    pub name: String,
    /// Its beginning.
    pub position: Position,
    /// Its options.
    pub args: Serve,
    matches: ArgMatches,
    /// The keys about its log of the defaults, and its own.
    levels: [LevelKeys; 2],
}

impl Config {
    /// Reads a file and the files that it includes.
    ///
    /// # Errors
    /// A file cannot be read, or has a fault.
    pub fn read(file: &Path) -> Result<Config, Error> {
        let text = read(file)?;
        Config::parse(&text, file)
    }

    /// Reads the text of a file, and the files that it includes.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, file: &Path) -> Result<Config, Error> {
        let keys = Keys::new();
        let mut document = Document::parse(text, file, &keys)?;
        let mut texts = text.to_owned();
        for included in document.included(file)? {
            let text = read(&included)?;
            let more = Document::parse(&text, &included, &keys)?;
            texts.push_str(&text);
            document.services.extend(more.only_services()?);
        }
        let (server_wide, server) = serve(&document.server, &[], &[], &keys, None)?;
        let Serve { log, readiness, control, observe, fleet, .. } = server;
        let server = ServerConfig { log, readiness, control, observe, fleet };
        let mut services: Vec<ServiceConfig> = Vec::new();
        for section in &document.services {
            let service = ServiceConfig::from(section, &document, &keys, server.log.level())?;
            if let Some(other) = services.iter().find(|other| other.name == service.name) {
                return Err(section.position.fault(
                    format_args!("there is a service {} already, at {}", section.name, other.position),
                    "give one of them another name",
                ));
            }
            services.push(service);
        }
        same_address(&services)?;
        if services.is_empty() {
            return Err(Error::usage(
                format_args!("{}: there is no service", file.display()),
                "add one, as [services.echo] with the line listen = 9999",
            ));
        }
        Ok(Config { server, services, text: texts, server_wide })
    }
}

/// The key of an option, by the option's id.
fn as_key(id: &str) -> String {
    id.replace('_', "-")
}

fn read(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|why| {
        let what = format_args!("cannot read {}", file.display()).to_string();
        match why.kind() {
            std::io::ErrorKind::NotFound => {
                Error::usage(format!("{what}: no such file"), next_move::of_file(&why))
            }
            std::io::ErrorKind::InvalidData => {
                Error::usage(format!("{what}: it is not UTF-8"), "convert it: TOML is UTF-8")
            }
            _ => Error::system(what, &why, next_move::of_file(&why)),
        }
    })
}

impl ServiceConfig {
    /// Which events this service logs, in a server with these options.
    #[must_use]
    pub fn level(&self, log: &LogOptions) -> LogLevel {
        self.levels.iter().fold(log.level(), |outer, keys| keys.within(outer))
    }

    fn from(
        section: &Section,
        document: &Document,
        keys: &Keys,
        outer: LogLevel,
    ) -> Result<ServiceConfig, Error> {
        let (listen, program) = (section.addresses()?, section.program()?);
        if listen.is_empty() {
            return Err(section.position.fault(
                format_args!("service {} has no address", section.name),
                "add one, as listen = 9999 or listen = [\"127.0.0.1:9999\", \"unix:/run/it\"]",
            ));
        }
        let is_there =
            |key: &str| section.options.iter().chain(&document.defaults).any(|entry| entry.key == key);
        let lacks = |entry: &Entry| keys.other_of(&entry.key).filter(|other| !is_there(other));
        for entry in &section.options {
            if program.is_empty() && keys.needs_program(&entry.key) {
                return Err(entry.position.fault(
                    format_args!("`{}` applies only to services with a `program`", entry.key),
                    "add program = [\"NAME\", \"ARGUMENT\"], or remove this line",
                ));
            }
            if let Some(other) = lacks(entry) {
                return Err(entry.position.fault(
                    format_args!("`{}` applies only to services with `{other}`", entry.key),
                    format_args!("add {other} = \"yes\", or remove this line"),
                ));
            }
        }
        let fits = |entry: &&Entry| match program.is_empty() {
            true => !keys.needs_program(&entry.key),
            false => entry.key != "service" && lacks(entry).is_none(),
        };
        // A key of the service replaces the default, except that variables are added.
        let own = |key: &str| key != "env" && section.options.iter().any(|entry| entry.key == key);
        let defaults = document.defaults.iter().filter(|entry| !own(&entry.key)).filter(fits);
        let options = defaults.chain(&section.options).filter(|entry| !level::is_level(entry));
        let levels = [LevelKeys::of(&document.defaults)?, LevelKeys::of(&section.options)?];
        let level = levels.iter().fold(outer, |outer, keys| keys.within(outer));
        let options: Vec<Entry> = options.cloned().chain(level::entry(level, &section.position)).collect();
        let (matches, args) = serve(&options, &listen, &program, keys, Some(&section.position))?;
        Ok(ServiceConfig {
            name: section.name.clone(),
            position: section.position.clone(),
            args,
            matches,
            levels,
        })
    }
}

/// Parses entries as the words of a command line.
fn serve(
    entries: &[Entry],
    addresses: &[String],
    program: &[String],
    keys: &Keys,
    position: Option<&Position>,
) -> Result<(ArgMatches, Serve), Error> {
    let mut words = Vec::new();
    for entry in entries {
        words.extend(keys.words(entry)?);
    }
    words.extend_from_slice(addresses);
    if !program.is_empty() {
        words.push("--".to_owned());
        words.extend_from_slice(program);
    }
    let command = Serve::augment_args(clap::Command::new("serve").no_binary_name(true));
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| Serve::from_arg_matches(&matches).map(|serve| (matches, serve)));
    parsed.map_err(|error| {
        let entry = entries.iter().rev().find(|entry| keys::is_blamed(&error, &entry.key));
        let what = keys::without_dashes(&said(&error));
        match entry.map(|entry| &entry.position).or(position) {
            Some(position) => position.fault(what, "see `tine serve --help`"),
            None => Error::usage(what, "see `tine serve --help`"),
        }
    })
}

/// Refuses two addresses that cannot be listened on together, before the second bind fails.
fn same_address(services: &[ServiceConfig]) -> Result<(), Error> {
    let mut seen: Vec<(Claim, &ServiceConfig)> = Vec::new();
    for service in services {
        let claims = Claim::of(&service.args).map_err(|error| error.within(&service.position))?;
        let fault = claims.iter().enumerate().find_map(|(number, claim)| {
            let before = seen.iter().map(|(other, service)| (other, *service));
            let own = claims[..number].iter().map(|other| (other, service));
            clash(claim, service, before.chain(own))
        });
        fault.map_or(Ok(()), Err)?;
        seen.extend(claims.into_iter().map(|claim| (claim, service)));
    }
    Ok(())
}

/// The fault of an address that excludes one of the others.
pub fn clash<'c>(
    claim: &Claim,
    service: &ServiceConfig,
    others: impl Iterator<Item = (&'c Claim, &'c ServiceConfig)>,
) -> Option<Error> {
    let (excluded, other) = others.into_iter().find(|(other, _)| claim.excludes(other))?;
    let beside = match excluded.address() == claim.address() {
        true => String::new(),
        false => format!(" as {}", excluded.address()),
    };
    Some(service.position.fault(
        format_args!(
            "{} is served by {} already{beside}, at {}",
            claim.address(),
            other.name,
            other.position
        ),
        overlap::next_move(claim, excluded),
    ))
}

#[cfg(test)]
mod tests;
