//! Access rules: allowed and denied blocks of addresses and host names, of which the most specific
//! decides, and times of the day.
//!
//! [`AccessRules`] collects rules, [`Access`] is their checked form, `decide.rs` decides, and
//! `LiveRules` keeps them in shared memory, which the supervisor rewrites while forkers read.

pub(crate) mod bans;
pub(crate) mod compiled;
mod decide;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod local;
mod machines;
pub(crate) mod names;
pub(crate) mod prefix;
mod seqlock;
mod table;
mod tcprules;
pub(crate) mod watch;
mod window;
mod words;

use std::net::IpAddr;
use std::path::Path;

use crate::error::Error;
use crate::net::peer::Credentials;
use compiled::CompiledRules;
use decide::{RuleContext, RuleVerdict};
use list::{List, Rule, RuleInput, RuleSource};
use local::{ClientGroups, LocalRules};
use machines::MachineRules;
pub use window::Moment;
use window::Window;

/// Access rules, being collected.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    inputs: Vec<RuleInput>,
    /// The access times, each with its text.
    windows: Vec<(Window, String)>,
    list: List,
    /// About clients of Unix sockets.
    local: LocalRules,
    /// About clients of vsock sockets.
    machines: MachineRules,
}

/// Access rules, ready to decide about addresses.
#[derive(Clone, Debug)]
pub struct Access {
    rules: Vec<Rule>,
    windows: String,
    compiled: CompiledRules,
}

/// The decision about an address, or about a client of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision<'a> {
    /// Whether the client is allowed.
    pub allowed: bool,
    /// The rule that decides, or the access times if they do, as written; `None` if none applies.
    pub rule: Option<&'a str>,
    /// Whether the client is denied because of the time: no client is allowed now.
    pub outside_access_times: bool,
}

impl AccessRules {
    /// No rule: every client is allowed.
    #[must_use]
    pub fn new() -> AccessRules {
        AccessRules::default()
    }

    /// Whether there is no rule and no access time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let are_local = !self.local.is_empty() || !self.machines.is_empty();
        self.inputs.is_empty() && self.windows.is_empty() && !are_local
    }

    /// Permits rules by host name among the rules added from now on. For servers whose program
    /// looks up its client's name ([`Program::reverse_dns`](crate::Program::reverse_dns)).
    #[must_use]
    pub fn reverse_dns(mut self, enabled: bool) -> AccessRules {
        self.list.permits_names = enabled;
        self
    }

    /// Allows a block of addresses (`192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`, `any`) or host
    /// names (`=host.example.com`, `=.example.com`). Clients that no rule allows are then denied.
    ///
    /// # Errors
    /// The text is neither, the block is denied already, or host names are not permitted.
    pub fn allow(self, block: &str) -> Result<AccessRules, Error> {
        self.add(RuleInput::Allow(block.to_owned()))
    }

    /// Denies a block, except for smaller blocks in it that are allowed.
    ///
    /// # Errors
    /// As for [`AccessRules::allow`].
    pub fn deny(self, block: &str) -> Result<AccessRules, Error> {
        self.add(RuleInput::Deny(block.to_owned()))
    }

    /// Allows a client of a Unix socket by its user (`uid:1000`, `uid:NAME`) or one of its groups
    /// (`gid:100`, `gid:NAME`), or those of a vsock socket by the context identifier of their
    /// machine (`vsock:2`). Clients of the same kind of socket that no such rule allows are then
    /// denied; other clients are not affected. A rule about the user outweighs those about groups.
    ///
    /// About a client of a vsock socket without such a rule, the rules for every client decide: a
    /// rule about `any`, or that clients are denied because some are allowed explicitly.
    ///
    /// # Errors
    /// There is no such user or group, or the rule contradicts another one.
    pub fn allow_local(self, client: &str) -> Result<AccessRules, Error> {
        self.add_local(client, true)
    }

    /// Denies a client of a Unix socket by its user or one of its groups, or those of a vsock
    /// socket by their machine.
    ///
    /// # Errors
    /// As for [`AccessRules::allow_local`].
    pub fn deny_local(self, client: &str) -> Result<AccessRules, Error> {
        self.add_local(client, false)
    }

    fn add_local(mut self, client: &str, allows: bool) -> Result<AccessRules, Error> {
        match MachineRules::are_meant(client) {
            true => self.machines.add(client, allows)?,
            false => self.local.add(client, allows)?,
        }
        Ok(self)
    }

    /// Adds the rules of a file in the format of `tcprules`: `ADDRESS:allow` or `ADDRESS:deny` a
    /// line. An address is a single address, a block, a prefix that ends in a dot, a range, or
    /// empty for every client; after it, `,NAME="VALUE"` sets a variable in the environment of a
    /// program. A server reads the file again when it has changed.
    ///
    /// # Errors
    /// The file cannot be read, or has a line that is not such a rule.
    pub fn file(self, path: &Path) -> Result<AccessRules, Error> {
        self.add(RuleInput::File(path.to_owned()))
    }

    /// Adds the rules of a text in the same format; errors name it `name`.
    ///
    /// # Errors
    /// A line is not such a rule.
    pub fn text(self, text: &str, name: &str) -> Result<AccessRules, Error> {
        self.add(RuleInput::Text(text.to_owned(), name.to_owned()))
    }

    /// Restricts all clients to times of the day, in local time: `08:00-17:00`,
    /// `Mon-Fri 08:00-17:00`. With several, clients are allowed in any of them.
    ///
    /// # Errors
    /// The text is not a time range.
    pub fn times(mut self, window: &str) -> Result<AccessRules, Error> {
        self.windows.push((window.parse()?, window.to_owned()));
        Ok(self)
    }

    fn add(mut self, input: RuleInput) -> Result<AccessRules, Error> {
        self.list.add_input(&input)?;
        self.inputs.push(input);
        Ok(self)
    }

    /// Compiles the rules.
    #[must_use]
    pub fn build(self) -> Access {
        let names = self.list.permits_names;
        let source = RuleSource { inputs: self.inputs, permits_names: names };
        let (windows, texts): (Vec<Window>, Vec<String>) = self.windows.into_iter().unzip();
        let context = RuleContext {
            windows: windows.into(),
            sets_variables: source.has_files() || !self.list.variables.is_empty(),
            names,
            local: self.local.into(),
            machines: self.machines.into(),
        };
        let compiled = CompiledRules { words: self.list.to_words().into(), context, source };
        Access { rules: self.list.rules, windows: texts.join(", "), compiled }
    }
}

impl Access {
    /// Decides about an address, and its host name if that is known, at a moment. An IPv4-mapped
    /// IPv6 address counts as the IPv4 address.
    pub(crate) fn decide(&self, address: IpAddr, name: Option<&str>, moment: Moment) -> Decision<'_> {
        let CompiledRules { words, context, .. } = &self.compiled;
        let words = &words[..];
        let (number, allowed) = match decide::by_address(words, context, address, Some(moment)) {
            RuleVerdict::OutsideAccessTimes => {
                let rule = Some(&*self.windows);
                return Decision { allowed: false, rule, outside_access_times: true };
            }
            RuleVerdict::Rule(number, allowed) => (Some(number), allowed),
            RuleVerdict::Default(allowed) => (None, allowed),
            RuleVerdict::NeedsName => decide::by_name(words, context, address, name),
        };
        let rule = number.and_then(|number| self.rules.get(number as usize));
        let rule = rule.map(|rule| rule.text.as_str());
        Decision { allowed, rule, outside_access_times: false }
    }

    /// Decides about a client of a Unix socket at a moment, by its user and groups.
    pub(crate) fn decide_local(
        &self,
        client: Credentials,
        groups: ClientGroups,
        moment: Moment,
    ) -> Decision<'_> {
        let RuleContext { windows, local, .. } = &self.compiled.context;
        if decide::is_outside(windows, Some(moment)) {
            return Decision { allowed: false, rule: Some(&self.windows), outside_access_times: true };
        }
        let (allowed, rule) = local.decide(client, groups);
        Decision { allowed, rule, outside_access_times: false }
    }

    /// The rules without their texts.
    pub(crate) fn compiled(self) -> CompiledRules {
        self.compiled
    }
}

#[cfg(test)]
mod tests {
    use super::live::LiveRules;
    use super::*;
    use crate::error::ErrorKind;
    use crate::net::peer::Peer;

    fn decide(access: &Access, address: &str) -> (bool, Option<String>) {
        let noon = "Mon 12:00".parse().expect("a time");
        let decision = access.decide(address.parse().expect(address), None, noon);
        (decision.allowed, decision.rule.map(str::to_owned))
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let rules = AccessRules::new().deny("10.0.0.0/8").and_then(|rules| rules.allow("10.1.0.0/16"));
        let access = rules.and_then(|rules| rules.deny("10.1.2.3")).map(AccessRules::build).expect("rules");
        for (address, allowed, rule) in [
            ("10.9.9.9", false, Some("deny 10.0.0.0/8")),
            ("10.1.9.9", true, Some("allow 10.1.0.0/16")),
            ("::ffff:10.1.9.9", true, Some("allow 10.1.0.0/16")),
            ("10.1.2.3", false, Some("deny 10.1.2.3")),
            // Some are allowed explicitly, so others are not.
            ("192.0.2.1", false, None),
        ] {
            assert_eq!(decide(&access, address), (allowed, rule.map(str::to_owned)), "{address}");
        }
    }

    #[test]
    fn clients_are_allowed_by_default_unless_some_are_allowed_explicitly() {
        let access = AccessRules::new().deny("10.0.0.0/8").map(AccessRules::build).expect("rules");
        assert_eq!(decide(&access, "192.0.2.1"), (true, None));
        assert_eq!(decide(&access, "2001:db8::1"), (true, None));
    }

    #[test]
    fn clients_of_vsock_sockets_have_rules_of_their_own_and_those_for_every_client() {
        let denied = |allow: &[&str], deny: &[&str], cid| {
            let add = |rules: AccessRules, text: &str, allows| match text.starts_with("vsock:") {
                true => rules.add_local(text, allows),
                false if allows => rules.allow(text),
                false => rules.deny(text),
            };
            let rules = allow.iter().try_fold(AccessRules::new(), |rules, text| add(rules, text, true));
            let rules =
                rules.and_then(|rules| deny.iter().try_fold(rules, |rules, text| add(rules, text, false)));
            let live = LiveRules::new(&rules.expect("rules").build().compiled).expect("memory");
            live.denial(Peer::Vsock { cid, port: 7 }, ClientGroups::Known(&[])).is_some()
        };
        for (allow, deny, cid, expected) in [
            (&[][..], &["192.0.2.0/24", "::/1"][..], 3, false),
            (&[], &["any"], 3, true),
            (&[], &["::/0"], 3, true),
            (&["any"], &["192.0.2.1"], 3, false),
            (&["192.0.2.1"], &[], 3, true),
            (&["192.0.2.1", "vsock:3"], &[], 3, false),
            (&["vsock:3"], &[], 3, false),
            (&["vsock:3"], &[], 4, true),
            (&["vsock:3"], &["any"], 3, false),
            (&["any"], &["vsock:3"], 3, true),
            (&["any"], &["vsock:3"], 4, false),
        ] {
            assert_eq!(denied(allow, deny, cid), expected, "{allow:?} {deny:?} {cid}");
        }
        let rules = AccessRules::new().allow_local("vsock:3").expect("a machine");
        assert!(!rules.is_empty());
        let live = LiveRules::new(&rules.build().compiled).expect("memory");
        assert_eq!(
            live.denial(Peer::Tcp(([192, 0, 2, 1], 7).into()), ClientGroups::Known(&[])),
            None,
            "not affected"
        );
        let never =
            AccessRules::new().times("Mon 00:00-00:01").and_then(|rules| rules.times("Mon 00:01-00:02"));
        let never = never.map(AccessRules::build).expect("times");
        let context = &never.compiled.context;
        let noon = Some("Mon 12:00".parse().expect("a time"));
        assert_eq!(decide::by_machine(&[0; 8][..], context, 3, noon), RuleVerdict::OutsideAccessTimes);
    }

    #[test]
    fn contradictions_are_found() {
        let rules = || AccessRules::new().deny("10.0.0.0/8").expect("a block");
        let error = rules().allow("10.0.0.0/8").expect_err("both").to_string();
        assert!(error.contains("'deny 10.0.0.0/8' and 'allow 10.0.0.0/8'"), "{error}");
        rules().deny("10.0.0.0/8").expect("twice the same is no contradiction");
    }

    #[test]
    fn host_names_outweigh_less_specific_rules() {
        let rules =
            "=host.example:allow,which=/host/\n=.example:deny\n10.0.0.1:deny\n10.:allow\n=:allow\n:deny\n";
        let all = AccessRules::new().reverse_dns(true).text(rules, "r").map(AccessRules::build);
        let access = all.expect("rules");
        let live = LiveRules::new(&access.compiled).expect("memory");
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
            // The forker decides by address, the connection's process by name.
            let peer = Peer::Tcp((address, 7).into());
            let pending = live.pending_name_rules(peer);
            let none = ClientGroups::Known(&[]);
            let served =
                live.denial(peer, none).is_none() && pending.is_none_or(|pending| pending.decide(name).0);
            assert_eq!(served, allowed, "{address} {name:?}");
        }
        let denied = AccessRules::new().text("=host.example:allow", "r").expect_err("not permitted");
        assert_eq!(denied.kind(), ErrorKind::HostNameRule, "{denied}");
    }
}
