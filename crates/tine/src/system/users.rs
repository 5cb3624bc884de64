//! Names of users, groups and services, through the name service switch of the system
//! (nsswitch.conf(5)).
//!
//! A static binary must not load the lookup modules of the C library: they fit the dynamic library
//! of the same build only, and crash in another. So the dynamic program `getent` does the lookups;
//! where it is missing (a minimal container), the plain files are read instead.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use tine_sys::identity::Ids;

use crate::error::Error;

/// The user and groups that forkers and connections have once the listeners are bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// The user id; `None` keeps that of the server.
    pub uid: Option<u32>,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// These ids.
    #[must_use]
    pub fn from_ids(uid: Option<u32>, gid: u32, groups: Vec<u32>) -> Identity {
        Identity { uid, gid, groups }
    }

    /// A user, by name or number, with the user's groups.
    ///
    /// # Errors
    /// There is no such user.
    pub fn of_user(user: &str) -> Result<Identity, Error> {
        let user = look_up_user(user)?;
        let mut groups = groups_of(&user.name);
        groups.insert(user.gid);
        Ok(Identity { uid: Some(user.uid), gid: user.gid, groups: groups.into_iter().collect() })
    }

    /// The server's user with a group, by name or number, and no supplementary groups.
    ///
    /// # Errors
    /// There is no such group.
    pub fn of_group(group: &str) -> Result<Identity, Error> {
        Ok(Identity { uid: None, gid: look_up_group(group)?, groups: Vec::new() })
    }

    /// A user with this group in place of the user's primary group. The supplementary groups are
    /// those that the user is a member of, and this group.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn of_user_and_group(user: &str, group: &str) -> Result<Identity, Error> {
        let (user, gid) = (look_up_user(user)?, look_up_group(group)?);
        let mut groups = groups_of(&user.name);
        groups.insert(gid);
        Ok(Identity { uid: Some(user.uid), gid, groups: groups.into_iter().collect() })
    }

    /// Sets the supplementary groups: names or numbers separated by commas, or `none`.
    ///
    /// # Errors
    /// There is no such group.
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
struct UserRecord {
    name: String,
    uid: u32,
    gid: u32,
}

fn look_up_user(name: &str) -> Result<UserRecord, Error> {
    records("passwd", Some(name), "/etc/passwd")
        .lines()
        .filter_map(user_record)
        .find(|user| user.name == name || user.uid.to_string() == name)
        .ok_or_else(|| {
            Error::usage(
                format_args!("there is no user '{name}'"),
                "choose a user that `getent passwd` lists",
            )
        })
}

fn look_up_group(name: &str) -> Result<u32, Error> {
    records("group", Some(name), "/etc/group")
        .lines()
        .filter_map(group_record)
        .find(|(group, gid, _)| *group == name || gid.to_string() == name)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| {
            Error::usage(
                format_args!("there is no group '{name}'"),
                "choose a group that `getent group` lists",
            )
        })
}

/// The groups that list a user as a member.
fn groups_of(user: &str) -> BTreeSet<u32> {
    records("group", None, "/etc/group")
        .lines()
        .filter_map(group_record)
        .filter(|(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

/// A line of passwd(5).
fn user_record(line: &str) -> Option<UserRecord> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(UserRecord { name, uid, gid })
}

/// A line of group(5): name, id, members.
fn group_record(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next()?))
}

/// The records of a database, or the plain file where `getent` is missing.
fn records(database: &str, key: Option<&str>, file: &str) -> String {
    getent(database, key).unwrap_or_else(|| std::fs::read_to_string(file).unwrap_or_default())
}

/// The records that `getent` prints: none for an unknown key; `None` if `getent` cannot be
/// executed.
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
        let mut fields = line.split('#').next()?.split_whitespace();
        let (known, port) = (fields.next()?, fields.next()?.strip_suffix("/tcp")?);
        let matches = known == name || fields.any(|alias| alias == name);
        port.parse().ok().filter(|_| matches)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_group_records() {
        let root = UserRecord { name: "root".into(), uid: 0, gid: 0 };
        assert_eq!(user_record("root:x:0:0:root:/root:/bin/bash"), Some(root));
        for line in ["", "root", "root:x", "root:x:zero:0", "root:x:0:"] {
            assert_eq!(user_record(line), None, "{line}");
        }
        assert_eq!(group_record("adm:x:4:syslog,ubuntu"), Some(("adm", 4, "syslog,ubuntu")));
        assert_eq!(group_record("adm:x:4"), None);
    }

    #[test]
    fn identities_by_name_and_number() {
        let root = Identity::of_user("root").expect("known");
        assert_eq!((root.uid, root.gid), (Some(0), 0));
        assert!(root.groups.contains(&0));
        let group = Identity::of_group("0").expect("known");
        assert_eq!(group, Identity::from_ids(None, 0, vec![]));
        let both = Identity::of_user_and_group("root", "1").expect("known");
        assert_eq!((both.uid, both.gid, both.groups.contains(&1)), (Some(0), 1, true));
        for unknown in [
            Identity::of_user("no-such-user"),
            Identity::of_group("no-such-group"),
            Identity::of_user_and_group("root", "no-such-group"),
        ] {
            assert_eq!(unknown.expect_err("unknown").exit_code(), 100);
        }
    }
}
