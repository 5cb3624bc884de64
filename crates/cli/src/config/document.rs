//! The structure of the file: sections, the keys of each, and included files.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use tine::cli::reason;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Keys, Scope, nearest};
use super::position::Position;
use super::value::{Entry, TomlSource, TomlValue, in_order};
use crate::error::Error;

/// The keys of a service that are not options.
const ADDRESSES: &str = "listen";
const PROGRAM: &str = "program";

const INCLUDE: &str = "include";
const DEFAULTS: &str = "defaults";
const SERVICES: &str = "services";

/// A file.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Options of the server as a whole.
    pub(super) server: Vec<Entry>,
    /// Options of every service that does not have them itself.
    pub(super) defaults: Vec<Entry>,
    pub(super) services: Vec<Section>,
    include: Option<Entry>,
    defaults_at: Option<Position>,
}

/// The section of one service.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) position: Position,
    pub(super) options: Vec<Entry>,
    addresses: Option<Entry>,
    program: Option<Entry>,
}

impl Document {
    pub(super) fn parse(text: &str, file: &Path, keys: &Keys) -> Result<Document, Error> {
        let source = TomlSource { file: Rc::from(file), text };
        let table = DeTable::parse(text).map_err(|error| {
            let position = source.position(&error.span().unwrap_or_default());
            position.fault(error.message(), "write it as TOML (https://toml.io)")
        })?;
        let mut document = Document::default();
        for (key, value) in in_order(table.get_ref()) {
            let position = source.position(&key.span());
            match key.get_ref().as_ref() {
                INCLUDE => document.include = Some(source.entry(key, value)?),
                DEFAULTS => {
                    document.defaults = section(&source, None, &position, value, keys)?.options;
                    document.defaults_at = Some(position);
                }
                SERVICES => {
                    for (name, value) in in_order(table_of(value, &position, SERVICES)?) {
                        let position = source.position(&name.span());
                        document.services.push(section(
                            &source,
                            Some(name.get_ref()),
                            &position,
                            value,
                            keys,
                        )?);
                    }
                }
                name if keys.is_server_wide(name) => document.server.push(source.entry(key, value)?),
                name => return Err(unknown(name, &position, None, keys)),
            }
        }
        Ok(document)
    }

    /// The files of the directories that this one names, in the order of their names.
    pub(super) fn included(&self, file: &Path) -> Result<Vec<PathBuf>, Error> {
        let Some(entry) = &self.include else { return Ok(Vec::new()) };
        let directories = entry.value.words().ok_or_else(|| {
            entry.position.fault("include names directories", "write include = \"tine.d\", or a list of them")
        })?;
        let mut files = Vec::new();
        for directory in directories {
            let directory = file.parent().unwrap_or(Path::new("")).join(directory);
            let listed = std::fs::read_dir(&directory).map_err(|why| {
                let what = format!("cannot read the directory {}: {}", directory.display(), reason(&why));
                entry.position.fault(what, "create it, or name another one")
            })?;
            let mut here: Vec<PathBuf> = listed.flatten().map(|file| file.path()).collect();
            here.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
            here.sort();
            files.extend(here);
        }
        Ok(files)
    }

    /// The services of an included file, which can have nothing else.
    pub(super) fn only_services(self) -> Result<Vec<Section>, Error> {
        let entries = self.server.iter().chain(&self.include);
        let other = entries.map(|entry| (entry.key.as_str(), &entry.position));
        let other = other.chain(self.defaults_at.as_ref().map(|position| (DEFAULTS, position)));
        match other.min_by_key(|(_, position)| position.line) {
            None => Ok(self.services),
            Some((key, position)) => Err(position.fault(
                format_args!("{key} is not possible in an included file"),
                "move it to the file that includes this one",
            )),
        }
    }
}

impl Section {
    /// The addresses of the service.
    pub(super) fn addresses(&self) -> Result<Vec<String>, Error> {
        let Some(entry) = &self.addresses else { return Ok(Vec::new()) };
        let fault =
            |what: &str| entry.position.fault(what, "write listen = 9999, or listen = [\"127.0.0.1:9999\"]");
        let addresses = entry.value.words().ok_or_else(|| fault("listen takes addresses"))?;
        if addresses.iter().any(|address| address.starts_with('-')) {
            return Err(fault("an address begins with a dash"));
        }
        Ok(addresses)
    }

    /// The words of its program; none without one.
    pub(super) fn program(&self) -> Result<Vec<String>, Error> {
        let Some(entry) = &self.program else { return Ok(Vec::new()) };
        let words = match entry.value {
            TomlValue::List(_) => entry.value.words().filter(|words| !words.is_empty()),
            _ => None,
        };
        words.ok_or_else(|| {
            entry.position.fault(
                "program takes a list of words, because no shell is involved",
                "write program = [\"NAME\", \"ARGUMENT\"]",
            )
        })
    }
}

/// A section: of the service of this name, or the defaults.
fn section(
    source: &TomlSource,
    service: Option<&str>,
    position: &Position,
    value: &Spanned<DeValue>,
    keys: &Keys,
) -> Result<Section, Error> {
    let (name, is_service) = (service.unwrap_or(DEFAULTS), service.is_some());
    if !is_fit(name) {
        return Err(position.fault(
            format_args!("invalid name of a service: {name:?}"),
            "use letters, digits, dots, dashes and underscores, 64 at most",
        ));
    }
    let mut section = Section {
        name: name.to_owned(),
        position: position.clone(),
        options: Vec::new(),
        addresses: None,
        program: None,
    };
    for (key, value) in in_order(table_of(value, position, name)?) {
        let entry = source.entry(key, value)?;
        match entry.key.as_str() {
            ADDRESSES if is_service => section.addresses = Some(entry),
            PROGRAM if is_service => section.program = Some(entry),
            key if keys.is_of_services(key) => section.options.push(entry),
            name => return Err(unknown(name, &entry.position, Some(is_service), keys)),
        }
    }
    Ok(section)
}

fn is_fit(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= 64 && name.bytes().all(fits)
}

fn table_of<'t, 'i>(
    value: &'t Spanned<DeValue<'i>>,
    position: &Position,
    name: &str,
) -> Result<&'t DeTable<'i>, Error> {
    let next = if name == DEFAULTS {
        "write [defaults] on a line of its own"
    } else {
        "write [services.NAME] on a line of its own"
    };
    value.get_ref().as_table().ok_or_else(|| position.fault(format_args!("{name} is a section"), next))
}

/// An unknown key: at the top of the file, in the section of a service (`Some(true)`) or in the
/// defaults (`Some(false)`). The next move is to move it, where it belongs elsewhere, or a similar
/// key, wherever that belongs.
fn unknown(name: &str, position: &Position, section: Option<bool>, keys: &Keys) -> Error {
    let here = match section {
        None => "outside of the sections",
        Some(_) => "here",
    };
    let what = format!("there is no key {name} {here}");
    let all = all_keys(keys);
    if let Some((_, home)) = all.iter().find(|(known, _)| *known == name) {
        return position.fault(what, home.advice());
    }
    let next = match nearest(name, all.iter().map(|(known, _)| *known)) {
        None => "see `tine serve --help`: a key is an option without its dashes".to_owned(),
        Some(similar) => {
            let home = all.iter().find(|(known, _)| *known == similar).map(|(_, home)| *home);
            match home.filter(|home| !home.is_in(section)) {
                None => format!("did you mean `{similar}`?"),
                Some(home) => format!("did you mean `{similar}`? then {}", home.advice()),
            }
        }
    };
    position.fault(what, next)
}

/// The part of a file that a key belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Top,
    Service,
    ServiceOrDefaults,
}

impl Home {
    fn is_in(self, section: Option<bool>) -> bool {
        match self {
            Home::Top => section.is_none(),
            Home::Service => section == Some(true),
            Home::ServiceOrDefaults => section.is_some(),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Home::Top => "move it to the top of the file: it concerns the whole server",
            Home::Service => "move it to [services.NAME]: it belongs to one service",
            Home::ServiceOrDefaults => {
                "move it into a section: [services.NAME], or [defaults] for all of them"
            }
        }
    }
}

fn all_keys(keys: &Keys) -> Vec<(&str, Home)> {
    let own = [
        (ADDRESSES, Home::Service),
        (PROGRAM, Home::Service),
        (INCLUDE, Home::Top),
        (DEFAULTS, Home::Top),
        (SERVICES, Home::Top),
    ];
    let home = |scope| if scope == Scope::Server { Home::Top } else { Home::ServiceOrDefaults };
    let options = keys.all().map(|key| (key.name.as_str(), home(key.scope)));
    own.into_iter().chain(options).collect()
}
