//! Rules about clients of Unix sockets: by the user and the groups of the process that connected.

use std::os::fd::BorrowedFd;

use crate::error::Error;
use crate::net::peer::Credentials;
use crate::system::users::Identity;

/// The user or group that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LocalSubject {
    User(u32),
    Group(u32),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LocalRule {
    subject: LocalSubject,
    allows: bool,
    /// The rule as written, for explanations.
    text: String,
}

impl LocalRule {
    fn is_about_group(&self) -> bool {
        matches!(self.subject, LocalSubject::Group(_))
    }
}

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalRules(Vec<LocalRule>);

/// Where the supplementary groups of a client are to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientGroups<'a> {
    /// The kernel tells them: this is the socket. It is asked only where a rule is about a group.
    OfSocket(BorrowedFd<'a>),
    /// These.
    Known(&'a [u32]),
}

impl ClientGroups<'_> {
    fn to_vec(self) -> Vec<u32> {
        match self {
            ClientGroups::OfSocket(socket) => tine_sys::socket::peer_groups(socket).unwrap_or_default(),
            ClientGroups::Known(groups) => groups.to_vec(),
        }
    }
}

impl LocalRules {
    /// Adds a rule about `uid:USER` or `gid:GROUP`, by name or number.
    ///
    /// # Errors
    /// The text is neither, there is no such user or group, or another rule contradicts it.
    pub(super) fn add(&mut self, text: &str, allows: bool) -> Result<(), Error> {
        let subject = parse(text)?;
        if self.0.iter().any(|rule| rule.subject == subject && rule.allows != allows) {
            return Err(Error::usage(
                format_args!("'{text}' is both allowed and denied"),
                "remove one of them",
            ));
        }
        let word = if allows { "allow" } else { "deny" };
        self.0.push(LocalRule { subject, allows, text: format!("{word} {text}") });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether rules are about groups.
    pub(super) fn name_groups(&self) -> bool {
        self.0.iter().any(LocalRule::is_about_group)
    }

    /// Whether a client is denied: also one whose user is not known.
    #[cold]
    pub(super) fn deny(&self, client: Option<Credentials>, groups: ClientGroups) -> bool {
        !client.is_some_and(|client| self.decide(client, groups).0)
    }

    /// Whether a client is allowed, and the rule that decides, as written.
    ///
    /// A rule about the user outweighs those about groups, and a group that is denied one that is
    /// allowed. Without a rule, clients are allowed unless others are allowed explicitly.
    pub(super) fn decide(&self, client: Credentials, groups: ClientGroups) -> (bool, Option<&str>) {
        if let Some(rule) = self.of_user(client.uid) {
            return (rule.allows, Some(&rule.text));
        }
        let mut groups = if self.name_groups() { groups.to_vec() } else { Vec::new() };
        groups.push(client.gid);
        let applies =
            |rule: &&LocalRule| matches!(rule.subject, LocalSubject::Group(gid) if groups.contains(&gid));
        match self.0.iter().filter(applies).min_by_key(|rule| rule.allows) {
            Some(rule) => (rule.allows, Some(&rule.text)),
            None => (!self.0.iter().any(|rule| rule.allows), None),
        }
    }

    /// Whether a rule allows this user, whatever its groups are.
    pub(super) fn allow_user(&self, uid: u32) -> bool {
        self.of_user(uid).is_some_and(|rule| rule.allows)
    }

    fn of_user(&self, uid: u32) -> Option<&LocalRule> {
        self.0.iter().find(|rule| rule.subject == LocalSubject::User(uid))
    }
}

fn parse(text: &str) -> Result<LocalSubject, Error> {
    let number = |text: &str| text.parse::<u32>().ok();
    match (text.strip_prefix("uid:"), text.strip_prefix("gid:")) {
        (Some(user), _) => {
            let uid = number(user)
                .map_or_else(|| Identity::of_user(user).map(|user| user.uid), |uid| Ok(Some(uid)));
            // A user always has an id.
            Ok(LocalSubject::User(uid?.unwrap_or(u32::MAX)))
        }
        (_, Some(group)) => {
            let gid = number(group).map_or_else(|| Identity::of_group(group).map(|group| group.gid), Ok);
            Ok(LocalSubject::Group(gid?))
        }
        _ => Err(Error::usage(format_args!("invalid local client '{text}'"), "write uid:USER or gid:GROUP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[(&str, bool)]) -> LocalRules {
        let mut rules = LocalRules::default();
        texts.iter().for_each(|(text, allows)| rules.add(text, *allows).expect(text));
        rules
    }

    #[test]
    fn users_outweigh_groups_and_denied_groups_the_others() {
        for (texts, uid, groups, expected) in [
            (&[][..], 1, &[1][..], (true, "")),
            (&[("uid:1", true)], 1, &[1], (true, "allow uid:1")),
            (&[("uid:1", true)], 2, &[1], (false, "")),
            (&[("uid:1", false)], 1, &[1], (false, "deny uid:1")),
            (&[("uid:1", false)], 2, &[1], (true, "")),
            (&[("gid:5", true)], 2, &[1, 5], (true, "allow gid:5")),
            (&[("gid:5", true)], 2, &[1], (false, "")),
            (&[("gid:5", true), ("uid:2", false)], 2, &[5], (false, "deny uid:2")),
            (&[("gid:5", false), ("uid:2", true)], 2, &[5], (true, "allow uid:2")),
            (&[("gid:5", true), ("gid:6", false)], 2, &[5, 6], (false, "deny gid:6")),
            (&[("gid:6", false), ("gid:5", true)], 2, &[5, 6], (false, "deny gid:6")),
            (&[("uid:root", true)], 0, &[0], (true, "allow uid:root")),
            (&[("gid:root", true)], 7, &[0], (true, "allow gid:root")),
        ] {
            let client = Credentials { uid, gid: 99, pid: None };
            let rules = rules(texts);
            let (allowed, rule) = rules.decide(client, ClientGroups::Known(groups));
            assert_eq!((allowed, rule.unwrap_or_default()), expected, "{texts:?} {uid} {groups:?}");
            let primary = Credentials { gid: groups[0], ..client };
            let others = ClientGroups::Known(&groups[1..]);
            assert_eq!(rules.decide(primary, others).0, allowed, "{texts:?} {uid} {groups:?}");
        }
    }

    #[test]
    fn invalid_rules_are_refused() {
        for text in ["uid:", "gid:no-such-group", "uid:no-such-user", "192.0.2.1", "pid:1"] {
            LocalRules::default().add(text, true).expect_err(text);
        }
        rules(&[("uid:1", true)]).add("uid:1", false).expect_err("a contradiction");
        rules(&[("uid:1", true)]).add("uid:1", true).expect("twice the same is none");
    }
}
