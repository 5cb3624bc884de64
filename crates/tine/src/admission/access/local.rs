//! Rules about clients of Unix sockets: by the user and the groups of the process that connected.

use std::os::fd::BorrowedFd;

use rustix::net::sockopt;

use crate::error::Error;
use crate::system::users::Identity;

/// The user or group that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LocalSubject {
    User(u32),
    Group(u32),
}

/// The rules, each with whether it allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalRules(Vec<(LocalSubject, bool)>);

/// The user and groups of a client.
struct LocalClient {
    uid: u32,
    groups: Vec<u32>,
}

impl LocalRules {
    /// Adds a rule about `uid:USER` or `gid:GROUP`, by name or number.
    ///
    /// # Errors
    /// The text is neither, there is no such user or group, or another rule contradicts it.
    pub(super) fn add(&mut self, text: &str, allows: bool) -> Result<(), Error> {
        let subject = parse(text)?;
        if self.0.contains(&(subject, !allows)) {
            return Err(Error::usage(
                format_args!("'{text}' is both allowed and denied"),
                "remove one of them",
            ));
        }
        self.0.push((subject, allows));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the client of a Unix socket is denied: also one whose user the kernel does not tell.
    #[cold]
    pub(super) fn deny(&self, socket: BorrowedFd) -> bool {
        let client = sockopt::socket_peercred(socket).ok().map(|own| {
            let mut groups = tine_sys::socket::peer_groups(socket).unwrap_or_default();
            groups.push(own.gid.as_raw());
            LocalClient { uid: own.uid.as_raw(), groups }
        });
        !client.is_some_and(|client| self.allows(&client))
    }

    /// A rule about the user outweighs those about groups, and a group that is denied one that is
    /// allowed. Without a rule, clients are allowed unless others are allowed explicitly.
    fn allows(&self, client: &LocalClient) -> bool {
        let user = self.0.iter().find(|(subject, _)| *subject == LocalSubject::User(client.uid));
        if let Some((_, allows)) = user {
            return *allows;
        }
        let mut of_groups = self.0.iter().filter(
            |(subject, _)| matches!(subject, LocalSubject::Group(gid) if client.groups.contains(gid)),
        );
        match of_groups.next() {
            Some((_, first)) => *first && of_groups.all(|(_, allows)| *allows),
            None => !self.0.iter().any(|(_, allows)| *allows),
        }
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
            (&[][..], 1, &[1][..], true),
            (&[("uid:1", true)], 1, &[1], true),
            (&[("uid:1", true)], 2, &[1], false),
            (&[("uid:1", false)], 1, &[1], false),
            (&[("uid:1", false)], 2, &[1], true),
            (&[("gid:5", true)], 2, &[1, 5], true),
            (&[("gid:5", true)], 2, &[1], false),
            (&[("gid:5", true), ("uid:2", false)], 2, &[5], false),
            (&[("gid:5", false), ("uid:2", true)], 2, &[5], true),
            (&[("gid:5", true), ("gid:6", false)], 2, &[5, 6], false),
            (&[("gid:6", false), ("gid:5", true)], 2, &[5, 6], false),
            (&[("uid:root", true)], 0, &[0], true),
            (&[("gid:root", true)], 7, &[0], true),
        ] {
            let client = LocalClient { uid, groups: groups.to_vec() };
            assert_eq!(rules(texts).allows(&client), expected, "{texts:?} {uid} {groups:?}");
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
