//! A service on its way into a configuration.

use std::fmt;

use super::{Place, comment};
use crate::config::print::{list, scalar, text, text_key};

/// What is known of it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) listen: Vec<String>,
    pub(super) what: What,
    pub(super) keys: Vec<(&'static str, Value)>,
    /// What has no equivalent.
    pub(super) notes: Vec<String>,
}

/// What its clients get.
#[derive(Debug)]
pub(super) enum What {
    BuiltIn(&'static str),
    Program(Vec<String>),
}

#[derive(Debug)]
pub(super) enum Value {
    Yes,
    One(String),
    Many(Vec<String>),
}

/// The services that are built in.
pub(super) const BUILT_IN: [&str; 5] = ["echo", "discard", "chargen", "daytime", "time"];

impl Service {
    pub(super) fn new(name: &str, place: Place, what: What) -> Service {
        Service { name: fit(name), place, listen: Vec::new(), what, keys: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.keys.push((key, Value::One(value.into())));
    }

    pub(super) fn set_list(&mut self, key: &'static str, values: Vec<String>) {
        if !values.is_empty() {
            self.keys.push((key, Value::Many(values)));
        }
    }

    pub(super) fn set_yes(&mut self, key: &'static str) {
        self.keys.push((key, Value::Yes));
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// A name that can be a service's: letters, digits, `-`, `_`, `.`.
fn fit(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().take(60).map(|c| if fits(c) { c } else { '-' }).collect();
    if name.is_empty() { "service".into() } else { name }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comment(f, &self.place.to_string())?;
        self.notes.iter().try_for_each(|note| comment(f, &format!("  has no equivalent: {note}")))?;
        writeln!(f, "[services.{}]", text_key(&self.name))?;
        writeln!(f, "listen = {}", list(self.listen.iter().map(String::as_str)))?;
        match &self.what {
            What::BuiltIn(name) => writeln!(f, "service = {}", text(name))?,
            What::Program(words) => writeln!(f, "program = {}", list(words.iter().map(String::as_str)))?,
        }
        for (key, value) in &self.keys {
            match value {
                Value::Yes => writeln!(f, "{key} = true")?,
                Value::One(word) => writeln!(f, "{key} = {}", scalar(word))?,
                Value::Many(words) => writeln!(f, "{key} = {}", list(words.iter().map(String::as_str)))?,
            }
        }
        Ok(())
    }
}
