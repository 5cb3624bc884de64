//! A configuration as it was understood: an equivalent one, with the values of all keys in effect.

use std::fmt::{self, Display};

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml_writer::ToTomlValue;

use super::keys::{Key, Keys, Scope, Takes};
use super::{Config, ServiceConfig, as_key};

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = Keys::new();
        for key in keys.all().filter(|key| matches!(key.scope, Scope::Server | Scope::Anywhere)) {
            print(f, key, &self.server_wide)?;
        }
        for service in &self.services {
            write!(f, "\n# {}\n{}", service.position, Named(service, &keys))?;
        }
        Ok(())
    }
}

struct Named<'a>(&'a ServiceConfig, &'a Keys);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(service, keys) = self;
        writeln!(f, "[services.{}]", text_key(&service.name))?;
        writeln!(f, "listen = {}", list(service.args.addresses.iter().map(String::as_str)))?;
        let program: Vec<_> =
            service.args.program.program.iter().map(|word| word.to_string_lossy()).collect();
        if !program.is_empty() {
            writeln!(f, "program = {}", list(program.iter().map(AsRef::as_ref)))?;
        }
        let fits = |key: &&Key| match key.scope {
            Scope::Server => false,
            Scope::Service => program.is_empty() || key.name != "service",
            Scope::Anywhere => true,
            Scope::Program | Scope::Warm => !program.is_empty(),
        };
        keys.all().filter(fits).try_for_each(|key| print(f, key, &service.matches))
    }
}

/// The line of a key that is set or has a default.
fn print(f: &mut fmt::Formatter<'_>, key: &Key, matches: &ArgMatches) -> fmt::Result {
    let id = matches.ids().find(|id| as_key(id.as_str()) == key.name);
    let Some(id) = id.filter(|id| matches.value_source(id.as_str()).is_some()) else { return Ok(()) };
    let raw: Vec<String> = matches
        .get_raw(id.as_str())
        .into_iter()
        .flatten()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    match (key.takes, raw.as_slice()) {
        (Takes::Bool, _) => {
            let set = matches.value_source(id.as_str()) != Some(ValueSource::DefaultValue);
            writeln!(f, "{} = {set}", key.name)
        }
        (Takes::One, [one, ..]) => writeln!(f, "{} = {}", key.name, scalar(one)),
        (Takes::Many, many) => writeln!(f, "{} = {}", key.name, list(many.iter().map(String::as_str))),
        (Takes::One, []) => Ok(()),
    }
}

/// A number if it is written in the same way in TOML, else a text.
pub fn scalar(word: &str) -> String {
    match word.parse::<i64>() {
        Ok(number) if number.to_string() == word => word.to_owned(),
        _ => text(word),
    }
}

/// Words as a TOML list.
pub fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(text).collect();
    format!("[{}]", words.join(", "))
}

/// A word as a TOML text.
pub fn text(word: &str) -> String {
    word.to_toml_value()
}

/// A name as a TOML key: a dot would divide it, so such a name is quoted.
pub fn text_key(name: &str) -> String {
    if name.contains('.') { text(name) } else { name.to_owned() }
}
