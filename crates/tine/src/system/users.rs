//! Names of users, groups and services, through the name service switch of the system
//! (nsswitch.conf(5)).
//!
//! A static binary must not load the lookup modules of the C library: they fit the dynamic library
//! of the same build only, and crash in another. So the dynamic program `getent` does the lookups;
//! where it is missing (a minimal container), the plain files are read instead.

use std::collections::BTreeSet;
use std::fmt;
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
    /// What the user's programs find about it in their environment; `None` leaves them the
    /// server's variables.
    pub(crate) login: Option<Login>,
}

/// The variables of a user: `USER` and `LOGNAME`, `HOME`, `SHELL`. What is not known is unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Login {
    pub(crate) name: Option<String>,
    pub(crate) home: Option<String>,
    pub(crate) shell: Option<String>,
}

impl Login {
    /// That of a user without an entry in the user database, whose home directory can be written.
    pub(crate) fn in_full_jail() -> Login {
        Login { home: Some("/tmp".into()), ..Login::default() }
    }
}

impl Identity {
    /// These ids. The environment of programs does not change.
    #[must_use]
    pub fn from_ids(uid: Option<u32>, gid: u32, groups: Vec<u32>) -> Identity {
        Identity { uid, gid, groups, login: None }
    }

    /// A user, by name or number, with the user's groups. A number need not be that of a known
    /// user: then the group has the same number, and there are no supplementary groups.
    ///
    /// # Errors
    /// There is no user of this name.
    pub fn of_user(user: &str) -> Result<Identity, Error> {
        let user = look_up_user(user)?;
        Ok(user.identity(user.gid))
    }

    /// The server's user with a group, by name or number, and no supplementary groups. A number
    /// need not be that of a known group.
    ///
    /// # Errors
    /// There is no group of this name.
    pub fn of_group(group: &str) -> Result<Identity, Error> {
        Ok(Identity::from_ids(None, look_up_group(group)?, Vec::new()))
    }

    /// A user with this group in place of the user's primary group. The supplementary groups are
    /// those that the user is a member of, and this group.
    ///
    /// # Errors
    /// There is no user or group of this name.
    pub fn of_user_and_group(user: &str, group: &str) -> Result<Identity, Error> {
        let (user, gid) = (look_up_user(user)?, look_up_group(group)?);
        Ok(user.identity(gid))
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

    /// The variables of the user of this process.
    pub(crate) fn own_login() -> Login {
        let own = rustix::process::geteuid().as_raw().to_string();
        look_up_user(&own).map(|user| user.login()).unwrap_or_default()
    }

    pub(crate) fn to_ids(&self) -> Ids<'_> {
        Ids { uid: self.uid, gid: self.gid, groups: &self.groups }
    }
}

/// The user and the group, by number.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "user {uid} and group {}", self.gid),
            None => write!(f, "group {}", self.gid),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct UserRecord {
    /// `None` for a number without an entry in the database.
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

impl UserRecord {
    /// A user id without an entry: its group has the same number.
    fn without_entry(uid: u32) -> UserRecord {
        UserRecord { name: None, uid, gid: uid, home: String::new(), shell: String::new() }
    }

    /// The user with this group and the groups that list the user as a member.
    fn identity(&self, gid: u32) -> Identity {
        let groups = self.name.as_deref().map(|name| {
            let mut groups = groups_of(name);
            groups.insert(gid);
            groups.into_iter().collect()
        });
        let login = Some(self.login());
        Identity { uid: Some(self.uid), gid, groups: groups.unwrap_or_default(), login }
    }

    /// The variables as systemd.exec(5) has them: no home directory that is the root directory, and
    /// no shell that refuses logins.
    fn login(&self) -> Login {
        let is_path = |path: &&String| path.starts_with('/');
        let refuses =
            |shell: &&String| matches!(shell.rsplit('/').next(), Some("nologin" | "false" | "true" | "null"));
        Login {
            name: self.name.clone(),
            home: Some(&self.home).filter(is_path).filter(|home| home.as_str() != "/").cloned(),
            shell: Some(&self.shell).filter(is_path).filter(|shell| !refuses(shell)).cloned(),
        }
    }
}

fn look_up_user(name: &str) -> Result<UserRecord, Error> {
    let records = records("passwd", Some(name), "/etc/passwd");
    let mut known = records.lines().filter_map(user_record);
    let found = known.find(|user| user.name.as_deref() == Some(name) || user.uid.to_string() == name);
    found.or_else(|| number(name).map(UserRecord::without_entry)).ok_or_else(|| {
        Error::usage(
            format_args!("there is no user '{name}'"),
            "choose a user that `getent passwd` lists, or a number",
        )
    })
}

fn look_up_group(name: &str) -> Result<u32, Error> {
    let records = records("group", Some(name), "/etc/group");
    let mut known = records.lines().filter_map(group_record);
    let found =
        known.find(|(group, gid, _)| *group == name || gid.to_string() == name).map(|(_, gid, _)| gid);
    found.or_else(|| number(name)).ok_or_else(|| {
        Error::usage(
            format_args!("there is no group '{name}'"),
            "choose a group that `getent group` lists, or a number",
        )
    })
}

/// A user or group id. The highest number stands for "unchanged" (setresuid(2)).
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| is_plain && *id != u32::MAX)
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
    let name = Some(fields.next()?.to_owned());
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).unwrap_or_default().to_owned();
    let shell = fields.next().unwrap_or_default().to_owned();
    Some(UserRecord { name, uid, gid, home, shell })
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
        let root = UserRecord {
            name: Some("root".into()),
            uid: 0,
            gid: 0,
            home: "/root".into(),
            shell: "/bin/bash".into(),
        };
        assert_eq!(user_record("root:x:0:0:root:/root:/bin/bash"), Some(root));
        for line in ["", "root", "root:x", "root:x:zero:0", "root:x:0:"] {
            assert_eq!(user_record(line), None, "{line}");
        }
        assert_eq!(group_record("adm:x:4:syslog,ubuntu"), Some(("adm", 4, "syslog,ubuntu")));
        assert_eq!(group_record("adm:x:4"), None);
    }

    #[test]
    fn the_variables_of_a_user_leave_out_what_is_no_home_or_shell() {
        for (line, name, home, shell) in [
            ("a:x:1:1:A:/home/a:/bin/sh", Some("a"), Some("/home/a"), Some("/bin/sh")),
            ("b:x:1:1::/:/usr/sbin/nologin", Some("b"), None, None),
            ("c:x:1:1::/nonexistent:/bin/false", Some("c"), Some("/nonexistent"), None),
            ("d:x:1:1", Some("d"), None, None),
        ] {
            let login = user_record(line).expect(line).login();
            let found = (login.name.as_deref(), login.home.as_deref(), login.shell.as_deref());
            assert_eq!(found, (name, home, shell), "{line}");
        }
        assert_eq!(UserRecord::without_entry(7).login(), Login::default());
    }

    #[test]
    fn a_number_needs_no_entry() {
        // Far from the numbers that systems give to users.
        let user = Identity::of_user("3000000123").expect("a number");
        assert_eq!(
            (user.uid, user.gid, user.groups.as_slice()),
            (Some(3_000_000_123), 3_000_000_123, &[][..])
        );
        let both = Identity::of_user_and_group("3000000123", "3000000124").expect("numbers");
        assert_eq!((both.gid, both.groups.as_slice()), (3_000_000_124, &[][..]));
        assert_eq!(Identity::of_group("3000000124").expect("a number").gid, 3_000_000_124);
        for text in ["4294967295", "4294967296", "+7", "-1", ""] {
            Identity::of_user(text).expect_err(text);
            Identity::of_group(text).expect_err(text);
        }
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
