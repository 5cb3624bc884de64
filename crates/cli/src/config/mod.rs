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
        let Serve { log, readiness, control, observe, .. } = server;
        let server = ServerConfig { log, readiness, control, observe };
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
        if program.is_empty()
            && let Some(entry) = section.options.iter().find(|entry| keys.needs_program(&entry.key))
        {
            return Err(entry.position.fault(
                format_args!("`{}` applies only to services with a `program`", entry.key),
                "add program = [\"NAME\", \"ARGUMENT\"], or remove this line",
            ));
        }
        let fits = |entry: &&Entry| match program.is_empty() {
            true => !keys.needs_program(&entry.key),
            false => entry.key != "service",
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
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../../docs/tine.toml");

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("tine.toml"))
    }

    fn without_places(config: &Config) -> String {
        config.to_string().lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_has_every_key() {
        let keys = Keys::new();
        for key in keys.all() {
            let is_there = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{} =", key.name));
            assert!(EXAMPLE.lines().any(is_there), "docs/tine.toml has no line for {}", key.name);
        }
        parse(EXAMPLE).expect("the example can be read");
    }

    #[test]
    fn what_is_printed_means_the_same() {
        let once = parse(EXAMPLE).expect("the example can be read");
        let twice = parse(&once.to_string()).expect("what was printed can be read");
        assert_eq!(without_places(&once), without_places(&twice));
        assert!(once.to_string().contains("limit-nofile = \"64:128\"\n"));
    }

    #[test]
    fn defaults_are_where_they_fit_and_give_way() {
        let config = parse(
            "[defaults]\nbacklog = 7\ntitles = true\nstderr = 'null'\nservice = 'time'\nenv = { A = '1', B = '1' }\n\
             [services.a]\nlisten = 1\nbacklog = 8\ntitles = false\n\
             [services.b]\nlisten = 2\nprogram = ['cat', '-u']\nenv = { B = '2' }\numask = 0o022",
        )
        .expect("it makes sense");
        let [a, b] = config.services.as_slice() else { panic!("two services") };
        assert_eq!((a.name.as_str(), a.args.sockets.backlog, a.args.processes.titles), ("a", 8, false));
        assert_eq!(a.args.service.name, "time");
        assert_eq!((b.args.sockets.backlog, b.args.processes.titles), (7, true));
        assert_eq!(b.args.program.stderr, tine::Stderr::Null);
        assert_eq!(b.args.program.umask, Some(0o22));
        let env: Vec<_> =
            b.args.program.env.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        assert_eq!(env, [("A", Some("1")), ("B", Some("1")), ("B", Some("2"))]);
    }

    #[test]
    fn a_service_has_the_level_of_its_section_the_defaults_or_the_server() {
        let text = "verbose = true\n[defaults]\nquiet = true\n[services.a]\nlisten = 1\n\
                    [services.b]\nlisten = 2\nverbose = true\n[services.c]\nlisten = 3\nquiet = false";
        let config = parse(text).expect("it makes sense");
        let levels = |config: &Config| -> Vec<LogLevel> {
            config.services.iter().map(|service| service.level(&config.server.log)).collect()
        };
        let expected = [LogLevel::Quiet, LogLevel::Verbose, LogLevel::Normal];
        assert_eq!(levels(&config), expected);
        let printed = parse(&config.to_string()).expect("what was printed can be read");
        assert_eq!(levels(&printed), expected);
        let own = parse("quiet = true\n[services.a]\nlisten = 1").expect("it makes sense");
        assert_eq!(levels(&own), [LogLevel::Quiet]);
    }

    #[test]
    fn faults_say_where_and_what() {
        for (text, line, words) in [
            ("", 0, "there is no service"),
            ("x", 1, "TOML"),
            ("[services.a]\nlisten = 1\nlisten = 2", 3, "duplicate"),
            ("\nlogg = 'text'", 2, "did you mean `log`?"),
            ("colour = 1", 1, "see `tine serve --help`"),
            ("spares = 1", 1, "move it into a section"),
            ("services = 1", 1, "[services.NAME]"),
            ("defaults = 1", 1, "[defaults]"),
            ("services.a = 1", 1, "[services.NAME]"),
            ("include = true", 1, "include names directories"),
            ("include = 'no such directory'", 1, "no such file or directory"),
            ("log = 'xml'\n[services.a]\nlisten = 1", 1, "invalid value 'xml' for 'log'"),
            ("verbose = true\nquiet = true\n[services.a]\nlisten = 1", 1, "cannot be used with"),
            ("[services.a]\nlisten = 1\nverbose = true\nquiet = true", 4, "cannot both be true"),
            ("[services.a]\nlisten = 1\nquiet = 1", 3, "quiet is true or false"),
            ("[services.a]\nlisten = 1\nlog-file = 'x'", 3, "top of the file"),
            ("log-file = 'x'\nlog-target = 'syslog'\n[services.a]\nlisten = 1", 1, "cannot be used with"),
            ("[services.'a b']\nlisten = 1", 1, "invalid name of a service"),
            ("[services.a]", 1, "has no address"),
            ("[services.a]\nlisten = 70000", 1, "port"),
            ("[services.a]\nlisten = '-1'", 2, "dash"),
            ("[services.a]\nlisten = [[1]]", 2, "takes addresses"),
            (
                "[services.a]\nlisten = 1\n[services.b]\nlisten = ['[::]:1']",
                3,
                "served by a already, at tine.toml:1",
            ),
            ("[services.a]\nlisten = ['127.0.0.1:1', '127.0.0.1:1']", 1, "served by a already"),
            ("[services.a]\nlisten = '1-3'\n[services.b]\nlisten = '127.0.0.1:2'", 3, "already as [::]:2"),
            (
                "[services.a]\nlisten = '0.0.0.0:1'\n[services.b]\nlisten = 1\nbind-ipv6-only = 'both'",
                3,
                "set bind-ipv6-only to ipv6-only",
            ),
            ("[services.a]\nlisten = 1\nsocket-mode = 9", 3, "octal"),
            ("[services.a]\nlisten = 1\nmax-conections = 5", 3, "did you mean `max-connections`?"),
            ("[services.a]\nlisten = 1\nmax-connections = 0", 3, "invalid value '0' for 'max-connections'"),
            ("[services.a]\nlisten = 1\nmax-connections = [1]", 3, "takes one value"),
            ("[services.a]\nlisten = 1\nmax-connections = 1979-05-27", 3, "takes one value"),
            ("[services.a]\nlisten = 1\nidle-timeout = 5", 3, "10s"),
            ("[services.a]\nlisten = 1\ntitles = 1", 3, "true or false"),
            ("[services.a]\nlisten = 1\nlog = 'json'", 3, "top of the file"),
            ("[services.a]\nlisten = 1\nlogg = 'json'", 3, "did you mean `log`? then move it to the top"),
            ("[services.a]\nlisten = 1\nincldue = 'x'", 3, "did you mean `include`? then move it to the top"),
            ("max-conections = 1", 1, "did you mean `max-connections`? then move it into a section"),
            ("[defaults]\nlistne = 1", 2, "did you mean `listen`? then move it to [services.NAME]"),
            ("[services.a]\nlisten = 1\nconfig = 'x'", 3, "no key config"),
            ("[services.a]\nlisten = 1\nhelp = true", 3, "no key help"),
            ("[services.a]\nlisten = 1\nstderr = 'log'", 3, "applies only to services with a `program`"),
            ("[services.a]\nlisten = 1\nprogram = 'cat -u'", 3, "list of words"),
            ("[services.a]\nlisten = 1\nprogram = []", 3, "list of words"),
            ("[services.a]\nlisten = 1\nprogram = [\"a\\u0000b\"]", 3, "zero byte"),
            ("[services.a]\nlisten = 1\nservice = 'echo'\nprogram = ['cat']", 3, "cannot be used with"),
            (
                "[services.a]\nlisten = 1\nprogram = ['cat']\npty = true\nline-buffered = true",
                4,
                "cannot be used with",
            ),
            ("[services.a]\nlisten = 1\nprogram = ['cat']\nenv = 5.5\nlimit-as = '1X'", 5, "'1X' is no size"),
            ("[defaults]\nlisten = 1", 2, "move it to [services.NAME]"),
            ("[defaults]\nlog = 'json'", 2, "top of the file"),
            ("[defaults]\nbaklog = 1", 2, "did you mean `backlog`?"),
        ] {
            let error = parse(text).expect_err(text);
            let said = error.to_string();
            let place = if line == 0 { "tine.toml: ".into() } else { format!("tine.toml:{line}: ") };
            assert!(said.starts_with(&place) && said.contains(words), "{text:?}: {said}");
            assert_eq!((error.exit_code(), said.lines().count()), (100, 1), "{said}");
        }
    }
}
