//! Who may come: blocks of addresses that are allowed or denied, of which the most specific decides.

mod prefix;
mod table;
mod tcprules;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use crate::error::{Error, reason};
use crate::peer::Peer;
use prefix::Prefix;
use table::Table;

/// Who may come, being written down.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    rules: Vec<Rule>,
    blocks: Vec<(Prefix, u32)>,
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
    gate: Gate,
}

/// Who may come: what a forker needs of it. Forkers copy none of the texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// The number of the rule that decides, and in the lowest bit whether it allows.
    table: Table,
    /// What holds where no rule does.
    otherwise: bool,
}

impl Gate {
    /// Whether a client may be served. Those of Unix sockets have no address; files have permissions.
    #[inline]
    pub(crate) fn lets_in(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.decide(address.ip()).0,
            Peer::Unix => true,
        }
    }

    /// Leaves the table out of processes forked from here: a mapping more makes each fork slower, and connections have no
    /// use for it.
    pub(crate) fn keep_from_children(&self) -> std::io::Result<()> {
        self.table.region().map_or(Ok(()), |region| region.keep_from_children())
    }

    fn decide(&self, address: IpAddr) -> (bool, Option<u32>) {
        match self.table.find(address) {
            Some(found) => (found & 1 == 1, Some(found >> 1)),
            None => (self.otherwise, None),
        }
    }
}

/// What is decided about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it may come.
    pub allowed: bool,
    /// The rule that decides, as it was written; `None` where there is none for it.
    pub rule: Option<&'a str>,
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
        self.rules.is_empty()
    }

    /// These addresses may come: `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`, `any`. Everyone whom no rule
    /// allows may then not.
    ///
    /// # Errors
    /// It is no block of addresses, or one that is denied.
    pub fn allow(mut self, block: &str) -> Result<AccessRules, Error> {
        self.names_guests = true;
        self.add(vec![block.parse()?], true, format!("allow {block}"))
    }

    /// These addresses may not come, but for those in them that are allowed more specifically.
    ///
    /// # Errors
    /// It is no block of addresses, or one that is allowed.
    pub fn deny(self, block: &str) -> Result<AccessRules, Error> {
        self.add(vec![block.parse()?], false, format!("deny {block}"))
    }

    /// The rules of a file in the form of `tcprules`: `ADDRESS:allow` or `ADDRESS:deny` a line, with addresses, blocks,
    /// prefixes that end in a dot, ranges, and nothing for everyone.
    ///
    /// # Errors
    /// It cannot be read, or has a line that is no such rule.
    pub fn file(mut self, path: &Path) -> Result<AccessRules, Error> {
        let text = std::fs::read_to_string(path).map_err(|why| {
            let what = format!("cannot read rules from {}: {}", path.display(), reason(&why));
            Error::usage(what, "check the path and its permissions")
        })?;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            if let Some((blocks, allows)) = tcprules::parse(line).map_err(|error| error.within(&place))? {
                self = self.add(blocks, allows, format!("{place}: {}", line.trim_end()))?;
            }
        }
        Ok(self)
    }

    fn add(mut self, blocks: Vec<Prefix>, allows: bool, text: String) -> Result<AccessRules, Error> {
        let number = self.rules.len() as u32;
        for block in blocks {
            let other = self.by_block.insert(block.to_parts(), number);
            let other = other.and_then(|other| self.rules.get(other as usize));
            if let Some(other) = other.filter(|other| other.allows != allows) {
                let what = format!("{block} is both allowed and denied, by '{}' and '{text}'", other.text);
                return Err(Error::usage(what, "leave one of them out"));
            }
            self.blocks.push((block, number << 1 | u32::from(allows)));
        }
        self.rules.push(Rule { text, allows });
        Ok(self)
    }

    /// The rules, ready to decide.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn build(self) -> Result<Access, Error> {
        let next = "write fewer rules, or free memory";
        let table =
            Table::new(self.blocks).map_err(|why| Error::system("no room for the rules", &why, next))?;
        Ok(Access { rules: self.rules, gate: Gate { table, otherwise: !self.names_guests } })
    }
}

impl Access {
    /// Decides about an address. An IPv4 address within IPv6 is what it stands for.
    #[must_use]
    pub fn decide(&self, address: IpAddr) -> Decision<'_> {
        let (allowed, number) = self.gate.decide(address);
        let rule = number.and_then(|number| self.rules.get(number as usize));
        Decision { allowed, rule: rule.map(|rule| rule.text.as_str()) }
    }

    /// What decides at run time: the same.
    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(access: &Access, address: &str) -> (bool, Option<String>) {
        let decision = access.decide(address.parse().expect(address));
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
