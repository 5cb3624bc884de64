//! `tine.toml`: many services in one file, or in one and a directory of others.
//!
//! A key is an option of `tine serve` under the same name, and is read by the same code: each service is
//! turned into the words of a command line. So no option can be missing here, or mean something else.

mod document;
mod keys;
pub mod print;
mod value;

use std::path::Path;
use std::rc::Rc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, FromArgMatches};
use tine::Address;

use crate::error::Error;

use crate::args::{Serve, said};
use document::{Document, Section};
use keys::{Keys, SERVER_WIDE};
use value::Entry;

/// A configuration, every value of which is well formed. Whether users, programs and addresses exist is seen
/// when it is checked or served.
#[derive(Debug)]
pub struct Config {
    /// The options that concern the server as a whole.
    pub server: Serve,
    /// In the order of the file, then of the files included.
    pub services: Vec<Service>,
    wide: ArgMatches,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// Its name, which stands in the log.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// What would be typed for it alone.
    pub args: Serve,
    matches: ArgMatches,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: Rc<Path>,
    line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Place {
    /// What is wrong here, and the next move.
    fn fault(&self, what: impl std::fmt::Display, next: impl std::fmt::Display) -> Error {
        Error::usage(format_args!("{self}: {what}"), next)
    }
}

impl Config {
    /// Reads a file, and those that it includes.
    ///
    /// # Errors
    /// They cannot be read, or something in them makes no sense: file, line, reason, next move.
    pub fn read(file: &Path) -> Result<Config, Error> {
        let text = read(file)?;
        Config::parse(&text, file)
    }

    /// Reads the text of a file; only what it includes is looked for.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, file: &Path) -> Result<Config, Error> {
        let keys = Keys::new();
        let mut document = Document::parse(text, file, &keys)?;
        for included in document.included(file)? {
            let more = Document::parse(&read(&included)?, &included, &keys)?;
            document.services.extend(more.only_services()?);
        }
        let (wide, server) = serve(&document.server, &[], &[], &keys, None)?;
        let mut services: Vec<Service> = Vec::new();
        for section in &document.services {
            let service = Service::from(section, &document, &keys)?;
            if let Some(other) = services.iter().find(|other| other.name == service.name) {
                return Err(section.place.fault(
                    format_args!("there is a service {} already, at {}", section.name, other.place),
                    "give one of them another name",
                ));
            }
            services.push(service);
        }
        same_address(&services)?;
        if services.is_empty() {
            return Err(Error::usage(
                format_args!("{}: no service is described", file.display()),
                "add one, as [services.echo] with the line listen = 9999",
            ));
        }
        Ok(Config { server, services, wide })
    }

    /// The same, with what was typed about the server as a whole in place of what the file says.
    ///
    /// # Errors
    /// Something else was typed, which the file is to say.
    pub fn with_typed(mut self, args: Serve, typed: &ArgMatches) -> Result<Config, Error> {
        let is_typed = |id: &str| typed.value_source(id) == Some(ValueSource::CommandLine);
        let given: Vec<String> =
            typed.ids().map(clap::Id::as_str).filter(|id| is_typed(id)).map(as_key).collect();
        if let Some(other) = given.iter().find(|key| *key != "config" && !SERVER_WIDE.contains(&key.as_str()))
        {
            return Err(Error::usage(
                format_args!("{other} was typed beside --config"),
                "write it into the file; beside it, only the options of the log and of readiness can be given",
            ));
        }
        let is_given = |keys: &[&str]| given.iter().any(|key| keys.contains(&key.as_str()));
        if is_given(&["log"]) {
            self.server.log = args.log;
        }
        if is_given(&["verbose", "quiet"]) {
            (self.server.verbose, self.server.quiet) = (args.verbose, args.quiet);
        }
        self.server.print_ports |= args.print_ports;
        self.server.ready_fd = args.ready_fd.or(self.server.ready_fd);
        Ok(self)
    }
}

/// The name of an option by its id.
fn as_key(id: &str) -> String {
    id.replace('_', "-")
}

fn read(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|why| {
        let what = format_args!("cannot read {}", file.display()).to_string();
        match why.kind() {
            std::io::ErrorKind::NotFound => {
                Error::usage(format!("{what}: there is no such file"), "name one that exists")
            }
            std::io::ErrorKind::InvalidData => {
                Error::usage(format!("{what}: it is not UTF-8"), "TOML is UTF-8")
            }
            _ => Error::system(what, &why, "make it a readable file"),
        }
    })
}

impl Service {
    fn from(section: &Section, document: &Document, keys: &Keys) -> Result<Service, Error> {
        let (listen, program) = (section.addresses()?, section.program()?);
        if listen.is_empty() {
            return Err(section.place.fault(
                format_args!("service {} has no address", section.name),
                "add one, as listen = 9999 or listen = [\"127.0.0.1:9999\", \"unix:/run/it\"]",
            ));
        }
        if program.is_empty()
            && let Some(entry) = section.options.iter().find(|entry| keys.is_about_a_program(&entry.key))
        {
            return Err(entry.place.fault(
                format_args!("{} is about a program, and service {} has none", entry.key, section.name),
                "add program = [\"NAME\", \"ARGUMENT\"], or take this line away",
            ));
        }
        let fits = |entry: &&Entry| match program.is_empty() {
            true => !keys.is_about_a_program(&entry.key),
            false => entry.key != "service",
        };
        // What the service says itself takes the place of a default, but that variables are added.
        let own = |key: &str| key != "env" && section.options.iter().any(|entry| entry.key == key);
        let defaults = document.defaults.iter().filter(|entry| !own(&entry.key)).filter(fits);
        let options: Vec<Entry> = defaults.chain(&section.options).cloned().collect();
        let (matches, args) = serve(&options, &listen, &program, keys, Some(&section.place))?;
        Ok(Service { name: section.name.clone(), place: section.place.clone(), args, matches })
    }
}

/// What these entries would be as a command line, read as one.
fn serve(
    entries: &[Entry],
    addresses: &[String],
    program: &[String],
    keys: &Keys,
    place: Option<&Place>,
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
        match entry.map(|entry| &entry.place).or(place) {
            Some(place) => place.fault(what, "see `tine serve --help`"),
            None => Error::usage(what, "see `tine serve --help`"),
        }
    })
}

/// Refuses two services at one address, which would be found out late.
fn same_address(services: &[Service]) -> Result<(), Error> {
    let mut seen: Vec<(Address, &Service)> = Vec::new();
    for service in services {
        for text in &service.args.addresses {
            let address =
                text.parse::<Address>().map_err(|error| Error::from(error).within(&service.place))?;
            let chosen_later = matches!(address, Address::Tcp { port: 0, .. });
            if let Some((_, other)) = seen.iter().find(|(other, _)| *other == address && !chosen_later) {
                return Err(service.place.fault(
                    format_args!("{address} is served by {} already, at {}", other.name, other.place),
                    "give one of them another address",
                ));
            }
            seen.push((address, service));
        }
    }
    Ok(())
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
        for key in keys.all(true).chain(keys.all(false)) {
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
        assert_eq!((a.name.as_str(), a.args.backlog, a.args.titles), ("a", 8, false));
        assert_eq!(a.args.service, crate::args::Service::Time);
        assert_eq!((b.args.backlog, b.args.titles), (7, true));
        assert_eq!(b.args.program.stderr, crate::args::program::Stderr::Null);
        assert_eq!(b.args.program.umask, Some(0o22));
        let env: Vec<_> =
            b.args.program.env.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        assert_eq!(env, [("A", Some("1")), ("B", Some("1")), ("B", Some("2"))]);
    }

    #[test]
    fn faults_say_where_and_what() {
        for (text, line, words) in [
            ("", 0, "no service is described"),
            ("x", 1, "TOML"),
            ("[services.a]\nlisten = 1\nlisten = 2", 3, "duplicate"),
            ("\nlogg = 'text'", 2, "is log meant?"),
            ("colour = 1", 1, "docs/tine.toml"),
            ("spares = 1", 1, "move it into a section"),
            ("services = 1", 1, "[services.NAME]"),
            ("defaults = 1", 1, "[defaults]"),
            ("services.a = 1", 1, "[services.NAME]"),
            ("include = true", 1, "include names directories"),
            ("include = 'no such directory'", 1, "no such file or directory"),
            ("log = 'xml'\n[services.a]\nlisten = 1", 1, "invalid value 'xml' for 'log'"),
            ("verbose = true\nquiet = true\n[services.a]\nlisten = 1", 1, "cannot be used with"),
            ("[services.'a b']\nlisten = 1", 1, "name of a service"),
            ("[services.a]", 1, "has no address"),
            ("[services.a]\nlisten = 70000", 1, "port"),
            ("[services.a]\nlisten = '-1'", 2, "dash"),
            ("[services.a]\nlisten = [[1]]", 2, "takes addresses"),
            (
                "[services.a]\nlisten = 1\n[services.b]\nlisten = ['[::]:1']",
                3,
                "served by a already, at tine.toml:1",
            ),
            ("[services.a]\nlisten = 1\nmax-conections = 5", 3, "is max-connections meant?"),
            ("[services.a]\nlisten = 1\nmax-connections = 0", 3, "invalid value '0' for 'max-connections'"),
            ("[services.a]\nlisten = 1\nmax-connections = [1]", 3, "takes one value"),
            ("[services.a]\nlisten = 1\nmax-connections = 1979-05-27", 3, "takes one value"),
            ("[services.a]\nlisten = 1\nidle-timeout = 5", 3, "10s"),
            ("[services.a]\nlisten = 1\ntitles = 1", 3, "true or false"),
            ("[services.a]\nlisten = 1\nlog = 'json'", 3, "top of the file"),
            ("[services.a]\nlisten = 1\nconfig = 'x'", 3, "no key config"),
            ("[services.a]\nlisten = 1\nhelp = true", 3, "no key help"),
            ("[services.a]\nlisten = 1\nstderr = 'log'", 3, "is about a program"),
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
            ("[defaults]\nbaklog = 1", 2, "is backlog meant?"),
        ] {
            let error = parse(text).expect_err(text);
            let said = error.to_string();
            let place = if line == 0 { "tine.toml: ".into() } else { format!("tine.toml:{line}: ") };
            assert!(said.starts_with(&place) && said.contains(words), "{text:?}: {said}");
            assert_eq!((error.exit_code(), said.lines().count()), (100, 1), "{said}");
        }
    }
}
