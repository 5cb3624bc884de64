//! Names of users, groups and services, looked up as the system is configured to.
//!
//! A static binary must not load the C library's lookup modules: they are made for the dynamic
//! library of the same build, and crash another. So `getent`, which is dynamic, is asked; where it is
//! missing (a minimal container), the plain files answer.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use tine_sys::identity::Ids;

use crate::error::Error;

/// Who a server runs as once its listeners are bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id, if a user was named.
    pub uid: Option<u32>,
    /// Group id: the group that was named, else the user's primary one.
    pub gid: u32,
    /// Supplementary groups: the user's, or none where only a group was named.
    pub groups: Vec<u32>,
}

impl Identity {
    /// The identity of a user, a group, or both, by name or number; `None` if neither is given.
    ///
    /// # Errors
    /// [`Error`], exit code 100, if there is no such user or group.
    pub fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, Error> {
        let gid = group.map(look_up_group).transpose()?;
        let Some(name) = user else {
            return Ok(gid.map(|gid| Identity { uid: None, gid, groups: Vec::new() }));
        };
        let user = look_up_user(name)?;
        let mut groups = groups_of(&user.name);
        groups.insert(gid.unwrap_or(user.gid));
        Ok(Some(Identity {
            uid: Some(user.uid),
            gid: gid.unwrap_or(user.gid),
            groups: groups.into_iter().collect(),
        }))
    }

    /// The same with these groups beside its own: names or numbers with commas between, or `none`.
    ///
    /// # Errors
    /// [`Error`], exit code 100, if there is no such group.
    pub fn with_groups(self, groups: &str) -> Result<Identity, Error> {
        let names = groups.split(',').map(str::trim).filter(|name| !name.is_empty());
        let groups = match groups {
            "none" => Vec::new(),
            _ => names.map(look_up_group).collect::<Result<_, _>>()?,
        };
        Ok(Identity { groups, ..self })
    }

    pub(crate) fn to_ids(&self) -> Ids<'_> {
        Ids { uid: self.uid, gid: self.gid, groups: &self.groups }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

fn look_up_user(name: &str) -> Result<User, Error> {
    records("passwd", Some(name), "/etc/passwd")
        .lines()
        .filter_map(user_record)
        .find(|user| user.name == name || user.uid.to_string() == name)
        .ok_or_else(|| {
            Error::usage(format_args!("there is no user '{name}'"), "name one that `getent passwd` lists")
        })
}

fn look_up_group(name: &str) -> Result<u32, Error> {
    records("group", Some(name), "/etc/group")
        .lines()
        .filter_map(group_record)
        .find(|(group, gid, _)| *group == name || gid.to_string() == name)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| {
            Error::usage(format_args!("there is no group '{name}'"), "name one that `getent group` lists")
        })
}

fn groups_of(user: &str) -> BTreeSet<u32> {
    records("group", None, "/etc/group")
        .lines()
        .filter_map(group_record)
        .filter(|(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

/// A line of passwd(5).
fn user_record(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User { name, uid, gid })
}

/// A line of group(5): name, id, members.
fn group_record(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next()?))
}

fn records(database: &str, key: Option<&str>, file: &str) -> String {
    getent(database, key).unwrap_or_else(|| std::fs::read_to_string(file).unwrap_or_default())
}

/// What `getent` says; nothing if it knows no such entry, `None` if it is not there to ask.
pub(crate) fn getent(database: &str, key: Option<&str>) -> Option<String> {
    let output = Command::new("getent")
        .arg(database)
        .arg("--")
        .args(key)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The port of a TCP service by its name (services(5)).
#[must_use]
pub fn service_port(name: &str) -> Option<u16> {
    let records = match getent("services", Some(&format!("{name}/tcp"))) {
        Some(records) => records,
        None => std::fs::read_to_string("/etc/services").unwrap_or_default(),
    };
    records.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (known, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        let is_meant = known == name || words.any(|alias| alias == name);
        port.parse().ok().filter(|_| is_meant)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_user_database() {
        let root = User { name: "root".into(), uid: 0, gid: 0 };
        assert_eq!(user_record("root:x:0:0:root:/root:/bin/bash"), Some(root));
        for line in ["", "root", "root:x", "root:x:zero:0", "root:x:0:"] {
            assert_eq!(user_record(line), None, "{line}");
        }
        assert_eq!(group_record("adm:x:4:syslog,ubuntu"), Some(("adm", 4, "syslog,ubuntu")));
        assert_eq!(group_record("adm:x:4"), None);
    }

    #[test]
    fn identities() {
        let root = Identity::look_up(Some("root"), None).expect("known").expect("given");
        assert_eq!((root.uid, root.gid), (Some(0), 0));
        assert!(root.groups.contains(&0));
        let group = Identity::look_up(None, Some("0")).expect("known").expect("given");
        assert_eq!(group, Identity { uid: None, gid: 0, groups: vec![] });
        assert_eq!(Identity::look_up(None, None).expect("nothing to look up"), None);
        for (user, group) in [(Some("no-such-user"), None), (None, Some("no-such-group"))] {
            let error = Identity::look_up(user, group).expect_err("unknown");
            assert_eq!(error.exit_code(), 100);
        }
    }
}
