//! Who may come: blocks of addresses that are allowed or denied, of which the most specific decides, and times of the day.

mod prefix;
mod published;
mod table;
mod tcprules;
mod window;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::{Error, reason};
use crate::peer::Peer;
use crate::refuser::Reason;
use prefix::Prefix;
use published::Published;
use table::Answer;
pub use window::Moment;
use window::Window;

/// Who may come, being written down.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    written: Vec<Written>,
    windows: Vec<(Window, String)>,
    list: List,
}

/// A rule, or many, as they were asked for: what is read again when a file has changed.
#[derive(Clone, Debug)]
enum Written {
    Allow(String),
    Deny(String),
    File(PathBuf),
    /// Lines as of a file, and what they are called.
    Text(String, String),
}

/// The rules, put together.
#[derive(Clone, Debug, Default)]
struct List {
    rules: Vec<Rule>,
    blocks: Vec<(Prefix, Answer)>,
    /// What rules set in the environment of programs, `NAME=VALUE` and a zero byte each.
    variables: Vec<Vec<u8>>,
    /// The rule of each block, to find contradictions.
    by_block: HashMap<(u128, u8), u32>,
    /// Somebody is allowed by name, so that who is not is denied.
    names_guests: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    /// As it was written, and where.
    text: String,
    allows: bool,
}

/// Who may come, and why.
#[derive(Clone, Debug)]
pub struct Access {
    rules: Vec<Rule>,
    windows: String,
    gate: Gate,
    source: Source,
}

/// What the rules are read from again when a file has changed.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    written: Vec<Written>,
}

/// Who may come: what a forker needs of it. Forkers copy none of the texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    table: Published,
    /// Outside of these, nobody may; none stands for all day.
    windows: &'static [Window],
    /// Rules may set variables.
    sets_variables: bool,
}

/// What is decided about an address, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// By the rule of this number, which allows or denies.
    Rule(u32, bool),
    /// No rule is about it.
    Otherwise(bool),
    /// It is not the time.
    NotNow,
}

impl Gate {
    /// Why a client may not be served, if so. Those of Unix sockets have no address; files have permissions.
    #[inline]
    pub(crate) fn objection(&self, peer: Peer) -> Option<Reason> {
        let Peer::Tcp(address) = peer else { return None };
        // Not asked for the time where that does not matter.
        let moment = (!self.windows.is_empty()).then(Moment::now);
        match self.decide(address.ip(), moment) {
            Verdict::Rule(_, true) | Verdict::Otherwise(true) => None,
            Verdict::Rule(_, false) | Verdict::Otherwise(false) => Some(Reason::Denied),
            Verdict::NotNow => Some(Reason::Time),
        }
    }

    /// Whether a rule allows a client.
    pub(crate) fn lets_in(&self, peer: Peer) -> bool {
        self.objection(peer).is_none()
    }

    /// The variables that the rule for a client sets, `NAME=VALUE` and a zero byte each.
    pub(crate) fn variables(&self, peer: Peer) -> Vec<u8> {
        let Peer::Tcp(address) = peer else { return Vec::new() };
        if !self.sets_variables {
            return Vec::new();
        }
        self.table.read(|edition| match table::find(edition, address.ip()).map(|found| found.answer.text) {
            Some(place @ 1..) => table::text(edition, place),
            _ => Vec::new(),
        })
    }

    /// Leaves the table out of processes forked from here: a mapping more makes each fork slower, and connections have no
    /// use for it.
    pub(crate) fn keep_from_children(&self) -> std::io::Result<()> {
        self.table.region().keep_from_children()
    }

    /// Takes it away from this process.
    pub(crate) fn withdraw(&self) -> std::io::Result<()> {
        self.table.region().withdraw()
    }

    /// Puts the rules in force that the files have now.
    ///
    /// # Errors
    /// A file cannot be read, or has a line that is no rule: the old rules stay in force.
    pub(crate) fn read_again(&self, source: &Source) -> Result<usize, Error> {
        let list = source.read()?;
        self.table.publish(&list.to_words()).map_err(|why| no_room(&why))?;
        Ok(list.rules.len())
    }

    fn decide(&self, address: IpAddr, moment: Option<Moment>) -> Verdict {
        if let Some(moment) = moment.filter(|_| !self.windows.is_empty())
            && !self.windows.iter().any(|window| window.contains(moment))
        {
            return Verdict::NotNow;
        }
        self.table.read(|edition| match table::find(edition, address) {
            Some(found) => Verdict::Rule(found.answer.rule, found.answer.allows),
            None => Verdict::Otherwise(table::otherwise(edition)),
        })
    }
}

impl Source {
    /// The files that rules are in.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.written.iter().filter_map(|written| match written {
            Written::File(path) => Some(path.as_path()),
            Written::Allow(_) | Written::Deny(_) | Written::Text(..) => None,
        })
    }

    fn read(&self) -> Result<List, Error> {
        let mut list = List::default();
        self.written.iter().try_for_each(|written| list.add_written(written))?;
        Ok(list)
    }
}

/// What is decided about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it may come.
    pub allowed: bool,
    /// The rule that decides, or the times of the day that do, as it was written; `None` where there is none for it.
    pub rule: Option<&'a str>,
    /// Whether it is not the time.
    pub is_the_time: bool,
}

impl AccessRules {
    /// No rule: everybody may come.
    #[must_use]
    pub fn new() -> AccessRules {
        AccessRules::default()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.windows.is_empty()
    }

    /// These addresses may come: `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`, `any`. Everyone whom no rule
    /// allows may then not.
    ///
    /// # Errors
    /// It is no block of addresses, or one that is denied.
    pub fn allow(self, block: &str) -> Result<AccessRules, Error> {
        self.add(Written::Allow(block.to_owned()))
    }

    /// These addresses may not come, but for those in them that are allowed more specifically.
    ///
    /// # Errors
    /// It is no block of addresses, or one that is allowed.
    pub fn deny(self, block: &str) -> Result<AccessRules, Error> {
        self.add(Written::Deny(block.to_owned()))
    }

    /// The rules of a file in the form of `tcprules`: `ADDRESS:allow` or `ADDRESS:deny` a line, with addresses, blocks,
    /// prefixes that end in a dot, ranges, and nothing for everyone; after it, `,NAME="VALUE"` for the environment of a
    /// program. A server reads it again when it has changed.
    ///
    /// # Errors
    /// It cannot be read, or has a line that is no such rule.
    pub fn file(self, path: &Path) -> Result<AccessRules, Error> {
        self.add(Written::File(path.to_owned()))
    }

    /// The same of a text; `name` stands in what is said of its lines.
    ///
    /// # Errors
    /// A line is no such rule.
    pub fn text(self, text: &str, name: &str) -> Result<AccessRules, Error> {
        self.add(Written::Text(text.to_owned(), name.to_owned()))
    }

    /// Whoever may come may come at these times of the day only, in local time: `08:00-17:00`, `Mon-Fri 08:00-17:00`. With
    /// several, in any of them.
    ///
    /// # Errors
    /// It is no span of time.
    pub fn times(mut self, window: &str) -> Result<AccessRules, Error> {
        self.windows.push((window.parse()?, window.to_owned()));
        Ok(self)
    }

    fn add(mut self, written: Written) -> Result<AccessRules, Error> {
        self.list.add_written(&written)?;
        self.written.push(written);
        Ok(self)
    }

    /// The rules, ready to decide.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn build(self) -> Result<Access, Error> {
        let source = Source { written: self.written };
        let grows = source.files().next().is_some();
        let table = Published::new(&self.list.to_words(), grows).map_err(|why| no_room(&why))?;
        let (windows, texts): (Vec<Window>, Vec<String>) = self.windows.into_iter().unzip();
        let gate = Gate {
            table,
            // For as long as the process that asks it.
            windows: windows.leak(),
            sets_variables: grows || !self.list.variables.is_empty(),
        };
        Ok(Access { rules: self.list.rules, windows: texts.join(", "), gate, source })
    }
}

fn no_room(why: &std::io::Error) -> Error {
    Error::system("no room for the rules", why, "write fewer rules, or free memory")
}

impl List {
    fn add_written(&mut self, written: &Written) -> Result<(), Error> {
        match written {
            Written::Allow(block) => {
                self.names_guests = true;
                self.add(vec![block.parse()?], true, b"", format!("allow {block}"))
            }
            Written::Deny(block) => self.add(vec![block.parse()?], false, b"", format!("deny {block}")),
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
                self.add(rule.blocks, rule.allows, &rule.variables, text)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        blocks: Vec<Prefix>,
        allows: bool,
        variables: &[u8],
        text: String,
    ) -> Result<(), Error> {
        let number = self.rules.len() as u32;
        if !variables.is_empty() {
            self.variables.push(variables.to_owned());
        }
        let place = if variables.is_empty() { 0 } else { self.variables.len() as u32 };
        for block in blocks {
            let other = self.by_block.insert(block.to_parts(), number);
            let other = other.and_then(|other| self.rules.get(other as usize));
            if let Some(other) = other.filter(|other| other.allows != allows) {
                let what = format!("{block} is both allowed and denied, by '{}' and '{text}'", other.text);
                return Err(Error::usage(what, "leave one of them out"));
            }
            self.blocks.push((block, Answer { rule: number, allows, text: place }));
        }
        self.rules.push(Rule { text, allows });
        Ok(())
    }

    fn to_words(&self) -> Vec<u64> {
        table::words(self.blocks.clone(), &self.variables, !self.names_guests)
    }
}

impl Access {
    /// Decides about an address at a time. An IPv4 address within IPv6 is what it stands for.
    #[must_use]
    pub fn decide(&self, address: IpAddr, moment: Moment) -> Decision<'_> {
        let rule = |number: u32| self.rules.get(number as usize).map(|rule| rule.text.as_str());
        match self.gate.decide(address, Some(moment)) {
            Verdict::Rule(number, allowed) => Decision { allowed, rule: rule(number), is_the_time: false },
            Verdict::Otherwise(allowed) => Decision { allowed, rule: None, is_the_time: false },
            Verdict::NotNow => Decision { allowed: false, rule: Some(&self.windows), is_the_time: true },
        }
    }

    /// What decides at run time: the same.
    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    /// What it is read from again, if that is a file.
    pub(crate) fn source(&self) -> Option<Source> {
        self.source.files().next().map(|_| self.source.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(access: &Access, address: &str) -> (bool, Option<String>) {
        let decision = access.decide(address.parse().expect(address), "Mon 12:00".parse().expect("a time"));
        (decision.allowed, decision.rule.map(str::to_owned))
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let rules = AccessRules::new().deny("10.0.0.0/8").and_then(|rules| rules.allow("10.1.0.0/16"));
        let access =
            rules.and_then(|rules| rules.deny("10.1.2.3")).and_then(AccessRules::build).expect("rules");
        for (address, allowed, rule) in [
            ("10.9.9.9", false, Some("deny 10.0.0.0/8")),
            ("10.1.9.9", true, Some("allow 10.1.0.0/16")),
            ("::ffff:10.1.9.9", true, Some("allow 10.1.0.0/16")),
            ("10.1.2.3", false, Some("deny 10.1.2.3")),
            // Some are allowed by name, so others are not.
            ("192.0.2.1", false, None),
        ] {
            assert_eq!(decide(&access, address), (allowed, rule.map(str::to_owned)), "{address}");
        }
    }

    #[test]
    fn who_is_not_denied_may_come_where_nobody_is_allowed_by_name() {
        let access = AccessRules::new().deny("10.0.0.0/8").and_then(AccessRules::build).expect("rules");
        assert_eq!(decide(&access, "192.0.2.1"), (true, None));
        assert_eq!(decide(&access, "2001:db8::1"), (true, None));
    }

    #[test]
    fn contradictions_are_found() {
        let rules = || AccessRules::new().deny("10.0.0.0/8").expect("a block");
        let said = rules().allow("10.0.0.0/8").expect_err("both").to_string();
        assert!(said.contains("'deny 10.0.0.0/8' and 'allow 10.0.0.0/8'"), "{said}");
        rules().deny("10.0.0.0/8").expect("twice the same is no contradiction");
    }
}
