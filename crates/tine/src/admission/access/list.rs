//! The rules as they were asked for, put together: what is read again when a file has changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::names::{self, Pattern};
use super::prefix::Prefix;
use super::table::{self, Answer};
use super::tcprules::{self, RuleSubject};
use crate::error::{Error, ErrorKind, reason};

/// A rule, or many, as they were asked for.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Allow(String),
    Deny(String),
    File(PathBuf),
    /// Lines as of a file, and what they are called.
    Text(String, String),
}

/// What the rules are read from again when a file has changed.
#[derive(Clone, Debug)]
pub(crate) struct RuleSource {
    pub(super) written: Vec<Written>,
    pub(super) asks_names: bool,
}

/// The rules, put together.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) rules: Vec<Rule>,
    blocks: Vec<(Prefix, Answer)>,
    /// What rules set in the environment of programs, `NAME=VALUE` and a zero byte each.
    pub(super) variables: Vec<Vec<u8>>,
    /// Rules about names, as [`names`] has them.
    names: Vec<u8>,
    /// The rule of each block and each name, to find contradictions.
    by_whom: HashMap<Whom, u32>,
    /// Somebody is allowed by name, so that who is not is denied.
    names_guests: bool,
    /// Names of hosts are looked up, so that rules may be about them.
    pub(super) asks_names: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// As it was written, and where.
    pub(super) text: String,
    allows: bool,
}

/// Whom one rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whom {
    Block(u128, u8),
    Name(Pattern),
}

impl RuleSource {
    /// Whether any rule comes from a file.
    pub(crate) fn has_files(&self) -> bool {
        self.files().next().is_some()
    }

    /// The files that rules are in.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.written.iter().filter_map(|written| match written {
            Written::File(path) => Some(path.as_path()),
            Written::Allow(_) | Written::Deny(_) | Written::Text(..) => None,
        })
    }

    pub(super) fn read(&self) -> Result<List, Error> {
        let mut list = List { asks_names: self.asks_names, ..List::default() };
        self.written.iter().try_for_each(|written| list.add_written(written))?;
        Ok(list)
    }
}

impl List {
    pub(super) fn add_written(&mut self, written: &Written) -> Result<(), Error> {
        match written {
            Written::Allow(whom) => {
                self.names_guests = true;
                self.add(who(whom)?, true, b"", format!("allow {whom}"))
            }
            Written::Deny(whom) => self.add(who(whom)?, false, b"", format!("deny {whom}")),
            Written::File(path) => self.add_file(path),
            Written::Text(text, name) => self.add_text(text, name),
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|why| {
            let what = format!("cannot read rules from {}: {}", path.display(), reason(&why));
            Error::usage(what, "check the path and its permissions")
        })?;
        self.add_text(&text, &path.display().to_string())
    }

    fn add_text(&mut self, text: &str, name: &str) -> Result<(), Error> {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            if let Some(rule) = tcprules::parse(line).map_err(|error| error.within(&place))? {
                let text = format!("{place}: {}", line.trim_end());
                self.add(rule.who, rule.allows, &rule.variables, text)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, who: RuleSubject, allows: bool, variables: &[u8], text: String) -> Result<(), Error> {
        let number = self.rules.len() as u32;
        match who {
            RuleSubject::Blocks(blocks) => self.add_blocks(blocks, number, allows, variables, &text)?,
            RuleSubject::Name(pattern) => self.add_name(pattern, number, allows, variables, &text)?,
        }
        self.rules.push(Rule { text, allows });
        Ok(())
    }

    fn add_blocks(
        &mut self,
        blocks: Vec<Prefix>,
        number: u32,
        allows: bool,
        variables: &[u8],
        text: &str,
    ) -> Result<(), Error> {
        if !variables.is_empty() {
            self.variables.push(variables.to_owned());
        }
        let place = if variables.is_empty() { 0 } else { self.variables.len() as u32 };
        for block in blocks {
            let (first, length) = block.to_parts();
            self.claim(Whom::Block(first, length), &block, number, allows, text)?;
            self.blocks.push((block, Answer { rule: number, allows, text: place }));
        }
        Ok(())
    }

    fn add_name(
        &mut self,
        pattern: Pattern,
        number: u32,
        allows: bool,
        variables: &[u8],
        text: &str,
    ) -> Result<(), Error> {
        if !self.asks_names {
            return Err(Error::new(
                ErrorKind::HostNameRule,
                format_args!("'{text}' is about a host name, and host names are not looked up"),
                "have them looked up (`AccessRules::reverse_dns`), or write an address",
            ));
        }
        self.claim(Whom::Name(pattern.clone()), &pattern, number, allows, text)?;
        names::push(&mut self.names, &pattern, number, allows, variables);
        match self.names.len() <= table::LONGEST {
            true => Ok(()),
            false => Err(Error::usage("there are too many rules about names", "write fewer")),
        }
    }

    /// Notes a rule's subject. The same twice is no mistake, but for both at once.
    fn claim(
        &mut self,
        whom: Whom,
        shown: &dyn std::fmt::Display,
        number: u32,
        allows: bool,
        text: &str,
    ) -> Result<(), Error> {
        let other = self.by_whom.insert(whom, number).and_then(|other| self.rules.get(other as usize));
        match other.filter(|other| other.allows != allows) {
            None => Ok(()),
            Some(other) => {
                let what = format!("{shown} is both allowed and denied, by '{}' and '{text}'", other.text);
                Err(Error::usage(what, "leave one of them out"))
            }
        }
    }

    pub(super) fn to_words(&self) -> Vec<u64> {
        table::words(self.blocks.clone(), &self.variables, &self.names, !self.names_guests)
    }
}

/// `192.0.2.0/24`, or `=.example.com`.
fn who(text: &str) -> Result<RuleSubject, Error> {
    let Some(name) = text.strip_prefix('=') else { return Ok(RuleSubject::Blocks(vec![text.parse()?])) };
    let pattern = Pattern::new(name).ok_or_else(|| {
        Error::usage(format_args!("'{text}' is no name"), "write =host.example.com or =.example.com")
    })?;
    Ok(RuleSubject::Name(pattern))
}
