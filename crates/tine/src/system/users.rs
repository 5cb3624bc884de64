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

/// The user and the groups that a server runs as once its listeners are bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id, if a user was named.
    pub uid: Option<u32>,
    /// Group id: that of the named group, else the primary group of the user.
    pub gid: u32,
    /// Supplementary groups: those of the user; none if only a group was named.
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

    /// The same with these supplementary groups: names or numbers, separated by commas, or `none`.
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
