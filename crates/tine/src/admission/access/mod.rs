//! Who may come: blocks of addresses and names of hosts that are allowed or denied, of which the most specific decides, and
//! times of the day.

mod list;
mod names;
pub(crate) mod prefix;
mod published;
mod table;
mod tcprules;
pub(crate) mod watch;
mod window;

use std::net::IpAddr;
use std::path::Path;

use crate::error::Error;
use crate::net::peer::Peer;
use crate::processes::rejector::Reason;
pub(crate) use list::Source;
use list::{List, Rule, Written};
pub(crate) use names::PendingNameRules;
use published::{SeqLocked, Snapshot};
use table::Found;
pub use window::Moment;
use window::Window;

/// Bits of an address.
const WHOLE: u8 = 128;

/// Who may come, being written down.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    written: Vec<Written>,
    windows: Vec<(Window, String)>,
    list: List,
}

/// Who may come, and why.
#[derive(Clone, Debug)]
pub struct Access {
    rules: Vec<Rule>,
    windows: String,
    gate: Gate,
    source: Source,
}

/// Who may come: what a forker needs of it. Forkers copy none of the texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    table: SeqLocked,
    /// Outside of these, nobody may; none stands for all day.
    windows: &'static [Window],
    /// Rules may set variables.
    sets_variables: bool,
    /// Rules may be about names, which are looked up.
    asks_names: bool,
}

/// What is decided about an address, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// By the rule of this number, which allows or denies.
    Rule(u32, bool),
    /// No rule is about it.
    Otherwise(bool),
    /// Its name may outweigh what is known: to be decided in the process of its connection.
    Open,
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
            Verdict::Rule(_, true) | Verdict::Otherwise(true) | Verdict::Open => None,
            Verdict::Rule(_, false) | Verdict::Otherwise(false) => Some(Reason::Denied),
            Verdict::NotNow => Some(Reason::Time),
        }
    }

    /// Where a client stands whose name is to be looked up; `None` for one without an address.
    pub(crate) fn pending_name_rules(&self, peer: Peer) -> Option<PendingNameRules> {
        let Peer::Tcp(address) = peer else { return None };
        Some(self.table.read(|edition| self.standing_in(edition, address.ip())))
    }

    /// Whether names are asked for.
    pub(crate) fn asks_names(&self) -> bool {
        self.asks_names
    }

    /// Whether a rule allows a client.
    pub(crate) fn admits(&self, peer: Peer) -> bool {
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
    pub(crate) fn exclude_from_fork(&self) -> std::io::Result<()> {
        self.table.region().exclude_from_fork()
    }

    /// Takes it away from this process.
    pub(crate) fn unmap(&self) -> std::io::Result<()> {
        self.table.region().unmap()
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
            found if self.is_open(edition, found) => Verdict::Open,
            Some(found) => Verdict::Rule(found.answer.rule, found.answer.allows),
            None => Verdict::Otherwise(table::otherwise(edition)),
        })
    }

    /// Whether the name of a client can outweigh what is known of its address: not where a rule is about that alone.
    fn is_open(&self, edition: Snapshot, found: Option<Found>) -> bool {
        self.asks_names && table::has_names(edition) && found.is_none_or(|found| found.length < WHOLE)
    }

    /// The rule, and whether it may come, of a client whose name decides.
    fn decide_by_name(&self, address: IpAddr, name: Option<&str>) -> (Option<u32>, bool) {
        self.table.read(|edition| {
            let pending_name_rules = self.standing_in(edition, address);
            match pending_name_rules.rule_for(name) {
                Some(rule) => (Some(rule.rule), rule.allows),
                None => {
                    (table::find(edition, address).map(|found| found.answer.rule), pending_name_rules.allows)
                }
            }
        })
    }

    /// Also of one whose name decides nothing: since the door was asked, another edition may have come into force.
    fn standing_in(&self, edition: Snapshot, address: IpAddr) -> PendingNameRules {
        let found = table::find(edition, address);
        let is_open = self.is_open(edition, found);
        PendingNameRules {
            allows: found.map_or_else(|| table::otherwise(edition), |found| found.answer.allows),
            in_a_block: found.is_some_and(|found| found.length > 0),
            names: if is_open { table::names(edition) } else { Vec::new() },
        }
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

    /// Has names of clients looked up, so that rules that are added from now on may be about them. For servers whose program does
    /// that ([`Program::reverse_dns`](crate::Program::reverse_dns)).
    #[must_use]
    pub fn reverse_dns(mut self, asked: bool) -> AccessRules {
        self.list.asks_names = asked;
        self
    }

    /// These may come: `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`, `any`; or by name, `=host.example.com`,
    /// `=.example.com`. Everyone whom no rule allows may then not.
    ///
    /// # Errors
    /// It is neither, or is denied, or is a name where names are not looked up.
    pub fn allow(self, block: &str) -> Result<AccessRules, Error> {
        self.add(Written::Allow(block.to_owned()))
    }

    /// These may not come, but for those in them that are allowed more specifically.
    ///
    /// # Errors
    /// As for [`AccessRules::allow`].
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
        let asks_names = self.list.asks_names;
        let source = Source { written: self.written, asks_names };
        let grows = source.files().next().is_some();
        let table = SeqLocked::new(&self.list.to_words(), grows).map_err(|why| no_room(&why))?;
        let (windows, texts): (Vec<Window>, Vec<String>) = self.windows.into_iter().unzip();
        let gate = Gate {
            table,
            // For as long as the process that asks it.
            windows: windows.leak(),
            sets_variables: grows || !self.list.variables.is_empty(),
            asks_names,
        };
        Ok(Access { rules: self.list.rules, windows: texts.join(", "), gate, source })
    }
}

fn no_room(why: &std::io::Error) -> Error {
    Error::system("no room for the rules", why, "write fewer rules, or free memory")
}

impl Access {
    /// Decides about an address, and the name of its host if that is known, at a time. An IPv4 address within IPv6 is what it
    /// stands for.
    #[must_use]
    pub fn decide(&self, address: IpAddr, name: Option<&str>, moment: Moment) -> Decision<'_> {
        let rule = |number: u32| self.rules.get(number as usize).map(|rule| rule.text.as_str());
        let (number, allowed) = match self.gate.decide(address, Some(moment)) {
            Verdict::NotNow => {
                return Decision { allowed: false, rule: Some(&self.windows), is_the_time: true };
            }
            Verdict::Rule(number, allowed) => (Some(number), allowed),
            Verdict::Otherwise(allowed) => (None, allowed),
            Verdict::Open => self.gate.decide_by_name(address, name),
        };
        Decision { allowed, rule: number.and_then(rule), is_the_time: false }
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
        let noon = "Mon 12:00".parse().expect("a time");
        let decision = access.decide(address.parse().expect(address), None, noon);
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

    #[test]
    fn names_outweigh_what_is_less_specific() {
        let rules =
            "=host.example:allow,which=/host/\n=.example:deny\n10.0.0.1:deny\n10.:allow\n=:allow\n:deny\n";
        let all = AccessRules::new().reverse_dns(true).text(rules, "r").and_then(AccessRules::build);
        let access = all.expect("rules");
        let noon: Moment = "Mon 12:00".parse().expect("a time");
        for (address, name, allowed, line) in [
            ("10.0.0.1", Some("host.example"), false, 3),
            ("10.0.0.2", Some("host.example"), true, 1),
            ("10.0.0.2", Some("other.example"), true, 4),
            ("192.0.2.1", Some("other.example"), false, 2),
            ("192.0.2.1", Some("other.net"), true, 5),
            ("192.0.2.1", None, false, 6),
        ] {
            let address: IpAddr = address.parse().expect(address);
            let decision = access.decide(address, name, noon);
            let rule = decision.rule.expect("a rule");
            assert!(
                decision.allowed == allowed && rule.starts_with(&format!("r:{line}: ")),
                "{rule} {name:?}"
            );
            // What the forker asks, and then the connection's own process.
            let peer = Peer::Tcp((address, 7).into());
            let served = access.gate.admits(peer)
                && access
                    .gate
                    .pending_name_rules(peer)
                    .is_none_or(|pending_name_rules| pending_name_rules.decide(name).0);
            assert_eq!(served, allowed, "{address} {name:?}");
        }
        let refused = AccessRules::new().text("=host.example:allow", "r").expect_err("not asked for");
        assert!(refused.to_string().contains("--reverse-dns"), "{refused}");
    }
}
