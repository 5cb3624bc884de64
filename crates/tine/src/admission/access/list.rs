//! The list of access rules: reads them from options and files, checks them, and encodes them as a
//! table.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::names::{self, Pattern};
use super::prefix::Prefix;
use super::table::{self, Answer};
use super::tcprules::{self, RuleSubject};
use crate::error::{Error, ErrorKind, next_move, reason};

/// One rule, or the rules of a file or text, as the operator gave them.
#[derive(Clone, Debug)]
pub(super) enum RuleInput {
    Allow(String),
    Deny(String),
    File(PathBuf),
    /// Lines in the format of a file, and the name that errors use for them.
    Text(String, String),
}

/// The inputs from which the rules are read again when a file has changed.
#[derive(Clone, Debug)]
pub(crate) struct RuleSource {
    pub(super) inputs: Vec<RuleInput>,
    pub(super) permits_names: bool,
}

/// The checked rules of all inputs.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) rules: Vec<Rule>,
    blocks: Vec<(Prefix, Answer)>,
    /// The variables of each rule that sets some, as `NAME=VALUE` and a zero byte each.
    pub(super) variables: Vec<Vec<u8>>,
    /// The rules by host name, encoded by [`names`].
    names: Vec<u8>,
    /// The number of the rule for each block and host name, to find contradictions.
    by_subject: HashMap<SubjectKey, u32>,
    /// Whether clients that no rule applies to are denied, because an input allows clients
    /// explicitly.
    denies_by_default: bool,
    /// Whether host names are looked up, so that rules by host name are permitted.
    pub(super) permits_names: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The text of the rule, after the position if it is in a file.
    pub(super) text: String,
    allows: bool,
}

/// The block or host name that a rule applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum SubjectKey {
    Block(u128, u8),
    Name(Pattern),
}

impl RuleSource {
    /// Whether any rule comes from a file.
    pub(crate) fn has_files(&self) -> bool {
        self.files().next().is_some()
    }

    /// The files among the inputs.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().filter_map(|input| match input {
            RuleInput::File(path) => Some(path.as_path()),
            RuleInput::Allow(_) | RuleInput::Deny(_) | RuleInput::Text(..) => None,
        })
    }

    /// Reads the files and checks all rules.
    pub(super) fn read(&self) -> Result<List, Error> {
        let mut list = List { permits_names: self.permits_names, ..List::default() };
        self.inputs.iter().try_for_each(|input| list.add_input(input))?;
        Ok(list)
    }
}

impl List {
    pub(super) fn add_input(&mut self, input: &RuleInput) -> Result<(), Error> {
        match input {
            RuleInput::Allow(text) => {
                self.denies_by_default = true;
                self.add(parse_subject(text)?, true, b"", format!("allow {text}"))
            }
            RuleInput::Deny(text) => self.add(parse_subject(text)?, false, b"", format!("deny {text}")),
            RuleInput::File(path) => self.add_file(path),
            RuleInput::Text(text, name) => self.add_text(text, name),
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|why| {
            let what = format!("cannot read rules from {}: {}", path.display(), reason(&why));
            Error::usage(what, next_move::of_file(&why))
        })?;
        self.add_text(&text, &path.display().to_string())
    }

    fn add_text(&mut self, text: &str, name: &str) -> Result<(), Error> {
        for (number, line) in text.lines().enumerate() {
            let position = format!("{name}:{}", number + 1);
            if let Some(rule) = tcprules::parse(line).map_err(|error| error.within(&position))? {
                let text = format!("{position}: {}", line.trim_end());
                self.add(rule.subject, rule.allows, &rule.variables, text)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        subject: RuleSubject,
        allows: bool,
        variables: &[u8],
        text: String,
    ) -> Result<(), Error> {
        let number = self.rules.len() as u32;
        match subject {
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
        let text_number = if variables.is_empty() { 0 } else { self.variables.len() as u32 };
        for block in blocks {
            let (first, length) = block.to_parts();
            self.enter_subject(SubjectKey::Block(first, length), &block, number, allows, text)?;
            self.blocks.push((block, Answer { rule: number, allows, text: text_number }));
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
        if !self.permits_names {
            return Err(Error::new(
                ErrorKind::HostNameRule,
                format_args!("'{text}' applies to a host name, but host names are not looked up"),
                "enable `AccessRules::reverse_dns`, or use an address",
            ));
        }
        self.enter_subject(SubjectKey::Name(pattern.clone()), &pattern, number, allows, text)?;
        names::push(&mut self.names, &pattern, number, allows, variables);
        match self.names.len() <= table::MAX_TEXT {
            true => Ok(()),
            false => Err(Error::usage("too many rules by host name", "remove some of them")),
        }
    }

    /// Enters the subject of a rule. Rejects a subject that another rule decides the other way; a
    /// repeated rule is accepted.
    fn enter_subject(
        &mut self,
        key: SubjectKey,
        subject: &dyn std::fmt::Display,
        number: u32,
        allows: bool,
        text: &str,
    ) -> Result<(), Error> {
        let other = self.by_subject.insert(key, number).and_then(|other| self.rules.get(other as usize));
        match other.filter(|other| other.allows != allows) {
            None => Ok(()),
            Some(other) => {
                let what = format!("{subject} is both allowed and denied, by '{}' and '{text}'", other.text);
                Err(Error::usage(what, "remove one of the two rules"))
            }
        }
    }

    /// Encodes the rules as the words of a table.
    pub(super) fn to_words(&self) -> Vec<u64> {
        table::words(self.blocks.clone(), &self.variables, &self.names, !self.denies_by_default)
    }
}

/// Parses the subject of a rule: `192.0.2.0/24`, or `=.example.com`.
fn parse_subject(text: &str) -> Result<RuleSubject, Error> {
    let Some(name) = text.strip_prefix('=') else { return Ok(RuleSubject::Blocks(vec![text.parse()?])) };
    let pattern = Pattern::new(name).ok_or_else(|| {
        Error::usage(format_args!("invalid host name '{text}'"), "write =host.example.com or =.example.com")
    })?;
    Ok(RuleSubject::Name(pattern))
}
