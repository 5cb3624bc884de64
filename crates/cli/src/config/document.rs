//! The shape of the file: sections, the keys that may stand in each, the files that it includes.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use tine::cli::reason;

use crate::error::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Place;
use super::keys::{Keys, SERVER_WIDE, nearest};
use super::value::{Entry, Source, in_order};

/// The keys of a service that are no options.
const ADDRESSES: &str = "listen";
const PROGRAM: &str = "program";

const INCLUDE: &str = "include";
const DEFAULTS: &str = "defaults";
const SERVICES: &str = "services";

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Options of the server as a whole.
    pub(super) server: Vec<Entry>,
    /// Options of every service that does not have them itself.
    pub(super) defaults: Vec<Entry>,
    pub(super) services: Vec<Section>,
    include: Option<Entry>,
    defaults_at: Option<Place>,
}

/// What a file says of one service.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) options: Vec<Entry>,
    addresses: Option<Entry>,
    program: Option<Entry>,
}

impl Document {
    pub(super) fn parse(text: &str, file: &Path, keys: &Keys) -> Result<Document, Error> {
        let source = Source { file: Rc::from(file), text };
        let table = DeTable::parse(text).map_err(|error| {
            let place = source.place(&error.span().unwrap_or_default());
            place.fault(error.message(), "write it as TOML has it (https://toml.io)")
        })?;
        let mut document = Document::default();
        for (key, value) in in_order(table.get_ref()) {
            let place = source.place(&key.span());
            match key.get_ref().as_ref() {
                INCLUDE => document.include = Some(source.entry(key, value)?),
                DEFAULTS => {
                    document.defaults = section(&source, None, &place, value, keys)?.options;
                    document.defaults_at = Some(place);
                }
                SERVICES => {
                    for (name, value) in in_order(table_of(value, &place, SERVICES)?) {
                        let place = source.place(&name.span());
                        document.services.push(section(&source, Some(name.get_ref()), &place, value, keys)?);
                    }
                }
                name if SERVER_WIDE.contains(&name) => document.server.push(source.entry(key, value)?),
                name => return Err(unknown_on_top(name, &place, keys)),
            }
        }
        Ok(document)
    }

    /// The files of the directories that this one names, in the order of their names.
    pub(super) fn included(&self, file: &Path) -> Result<Vec<PathBuf>, Error> {
        let Some(entry) = &self.include else { return Ok(Vec::new()) };
        let directories = entry.value.words().ok_or_else(|| {
            entry.place.fault("include names directories", "write include = \"tine.d\", or a list of them")
        })?;
        let mut files = Vec::new();
        for directory in directories {
            let directory = file.parent().unwrap_or(Path::new("")).join(directory);
            let listed = std::fs::read_dir(&directory).map_err(|why| {
                let what = format!("cannot read the directory {}: {}", directory.display(), reason(&why));
                entry.place.fault(what, "create it, or name another one")
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
        let other = entries.map(|entry| (entry.key.as_str(), &entry.place));
        let other = other.chain(self.defaults_at.as_ref().map(|place| (DEFAULTS, place)));
        match other.min_by_key(|(_, place)| place.line) {
            None => Ok(self.services),
            Some((key, place)) => Err(place.fault(
                format_args!("{key} cannot stand in a file that is included"),
                "move it to the file that includes this one",
            )),
        }
    }
}

impl Section {
    /// Where it listens.
    pub(super) fn addresses(&self) -> Result<Vec<String>, Error> {
        let Some(entry) = &self.addresses else { return Ok(Vec::new()) };
        let fault =
            |what: &str| entry.place.fault(what, "write listen = 9999, or listen = [\"127.0.0.1:9999\"]");
        let addresses = entry.value.words().ok_or_else(|| fault("listen takes addresses"))?;
        if addresses.iter().any(|address| address.starts_with('-')) {
            return Err(fault("an address begins with a dash"));
        }
        Ok(addresses)
    }

    /// The words of its program; none if it has none.
    pub(super) fn program(&self) -> Result<Vec<String>, Error> {
        let Some(entry) = &self.program else { return Ok(Vec::new()) };
        let words = match entry.value {
            super::value::Value::List(_) => entry.value.words().filter(|words| !words.is_empty()),
            _ => None,
        };
        words.ok_or_else(|| {
            entry.place.fault(
                "program takes a list of words; no shell divides them",
                "write program = [\"NAME\", \"ARGUMENT\"]",
            )
        })
    }
}

/// A section: of the service of this name, or the defaults.
fn section(
    source: &Source,
    service: Option<&str>,
    place: &Place,
    value: &Spanned<DeValue>,
    keys: &Keys,
) -> Result<Section, Error> {
    let (name, is_service) = (service.unwrap_or(DEFAULTS), service.is_some());
    if !is_fit(name) {
        return Err(place.fault(
            format_args!("{name:?} cannot be the name of a service"),
            "use letters, digits, dots, dashes and underscores, 64 at most",
        ));
    }
    let mut section = Section {
        name: name.to_owned(),
        place: place.clone(),
        options: Vec::new(),
        addresses: None,
        program: None,
    };
    for (key, value) in in_order(table_of(value, place, name)?) {
        let entry = source.entry(key, value)?;
        match entry.key.as_str() {
            ADDRESSES if is_service => section.addresses = Some(entry),
            PROGRAM if is_service => section.program = Some(entry),
            key if keys.all(false).any(|known| known.name == key) => section.options.push(entry),
            _ => return Err(unknown(&entry, is_service, keys)),
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
    place: &Place,
    name: &str,
) -> Result<&'t DeTable<'i>, Error> {
    let next = if name == DEFAULTS {
        "write [defaults] on a line of its own"
    } else {
        "write [services.NAME] on a line of its own"
    };
    value.get_ref().as_table().ok_or_else(|| place.fault(format_args!("{name} is a section"), next))
}

fn unknown_on_top(name: &str, place: &Place, keys: &Keys) -> Error {
    let what = format!("there is no key {name} outside of the sections");
    if name == ADDRESSES || name == PROGRAM || keys.all(false).any(|key| key.name == name) {
        return place.fault(what, "move it into a section: [services.NAME], or [defaults] for all of them");
    }
    let known = SERVER_WIDE.into_iter().chain([INCLUDE, DEFAULTS, SERVICES]);
    place.fault(
        what,
        nearest(name, known)
            .map_or("see docs/tine.toml for all there are".into(), |name| format!("is {name} meant?")),
    )
}

fn unknown(entry: &Entry, is_service: bool, keys: &Keys) -> Error {
    let name = entry.key.as_str();
    let what = format!("there is no key {name} here");
    if name == ADDRESSES || name == PROGRAM {
        return entry.place.fault(what, "it belongs to a service: move it to [services.NAME]");
    }
    if SERVER_WIDE.contains(&name) {
        return entry.place.fault(what, "it concerns the whole server: move it to the top of the file");
    }
    let own = if is_service { &[ADDRESSES, PROGRAM][..] } else { &[] };
    let known = keys.all(false).map(|key| key.name.as_str()).chain(own.iter().copied());
    let next = nearest(name, known)
        .map_or("see docs/tine.toml for all there are".into(), |name| format!("is {name} meant?"));
    entry.place.fault(what, next)
}
