//! A service of another super-server, as a section of a configuration.

use std::fmt;

use super::comment;
use crate::config::Position;
use crate::config::print::{list, scalar, text, text_key};

/// The service.
#[derive(Debug)]
pub(super) struct ImportedService {
    pub(super) name: String,
    pub(super) position: Position,
    pub(super) listen: Vec<String>,
    /// Addresses that no other service of the file gets, either.
    pub(super) also_claims: Vec<String>,
    pub(super) served_by: ServedBy,
    pub(super) keys: Vec<(&'static str, ImportedValue)>,
    /// What has no equivalent, for comments.
    pub(super) notes: Vec<String>,
}

/// What serves its clients.
#[derive(Debug)]
pub(super) enum ServedBy {
    BuiltIn(&'static str),
    Program(Vec<String>),
}

#[derive(Debug)]
pub(super) enum ImportedValue {
    Yes,
    One(String),
    Many(Vec<String>),
}

impl ImportedService {
    pub(super) fn new(name: &str, position: Position, served_by: ServedBy) -> ImportedService {
        ImportedService {
            name: fit(name),
            position,
            listen: Vec::new(),
            also_claims: Vec::new(),
            served_by,
            keys: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.keys.push((key, ImportedValue::One(value.into())));
    }

    pub(super) fn set_list(&mut self, key: &'static str, values: Vec<String>) {
        if !values.is_empty() {
            self.keys.push((key, ImportedValue::Many(values)));
        }
    }

    pub(super) fn set_yes(&mut self, key: &'static str) {
        self.keys.push((key, ImportedValue::Yes));
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// A valid name of a service: letters, digits, `-`, `_`, `.`.
fn fit(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().take(60).map(|c| if fits(c) { c } else { '-' }).collect();
    if name.is_empty() { "service".into() } else { name }
}

impl fmt::Display for ImportedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comment(f, &self.position.to_string())?;
        self.notes.iter().try_for_each(|note| comment(f, &format!("  has no equivalent: {note}")))?;
        writeln!(f, "[services.{}]", text_key(&self.name))?;
        writeln!(f, "listen = {}", list(self.listen.iter().map(String::as_str)))?;
        match &self.served_by {
            ServedBy::BuiltIn(name) => writeln!(f, "service = {}", text(name))?,
            ServedBy::Program(words) => writeln!(f, "program = {}", list(words.iter().map(String::as_str)))?,
        }
        for (key, value) in &self.keys {
            match value {
                ImportedValue::Yes => writeln!(f, "{key} = true")?,
                ImportedValue::One(word) => writeln!(f, "{key} = {}", scalar(word))?,
                ImportedValue::Many(words) => {
                    writeln!(f, "{key} = {}", list(words.iter().map(String::as_str)))?
                }
            }
        }
        Ok(())
    }
}
