//! Decides who serves connections in a full jail.

use super::Settings;
use crate::error::{Error, ErrorKind};
use crate::jail::PrivateUsers;
use crate::jail::users::{FIRST, JailUsers, subordinate_ids};
use crate::system::users::Identity;

impl Settings {
    /// The users of a full jail; `None` if connections are to be served by root.
    ///
    /// # Errors
    /// The settings contradict each other, or there are too few users.
    pub(crate) fn jail_users(&self) -> Result<Option<JailUsers>, Error> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let slots = u32::try_from(self.slots()).unwrap_or(u32::MAX - 1);
        let each = |uid, gid| Ok(Some(JailUsers::Each { uid, gid, slots }));
        let is_set = self.jail.uid_range.is_some() || self.jail.private_users == Some(PrivateUsers::Range);
        if is_set && self.identity.is_some() {
            return Err(Error::usage(
                "a user for each connection and one for all are both set",
                "leave out the user, or the range",
            ));
        }
        match (self.jail.uid_range, self.jail.private_users) {
            (Some(_), Some(PrivateUsers::Own)) => Err(Error::usage(
                "a range of users is set, and none is to be used",
                "leave out one of uid-range and private-users",
            )),
            (Some(_), _) if !uid.is_root() => Err(Error::usage(
                "only root can use a range of users",
                "start the server as root, or use subordinate ids (`--private-users range`)",
            )),
            (Some((first, last)), _) => enough((first, last), slots).and_then(|()| each(first, first)),
            (None, Some(PrivateUsers::Range)) if !uid.is_root() => {
                let (uid, gid) = own_subordinate_ids(uid.as_raw(), slots + 1)?;
                each(uid, gid)
            }
            (None, users) => Ok(match &self.identity {
                _ if !uid.is_root() => Some(JailUsers::Own { uid: uid.as_raw(), gid: gid.as_raw() }),
                None if users == Some(PrivateUsers::Own) => None,
                None => return each(FIRST, FIRST),
                Some(Identity { uid: None | Some(0), .. }) => None,
                Some(Identity { uid: Some(uid), gid, groups, .. }) => {
                    Some(JailUsers::One { uid: *uid, gid: *gid, groups: groups.clone() })
                }
            }),
        }
    }
}

/// Checks a range: one user for each connection, and one for the server's processes.
fn enough((first, last): (u32, u32), slots: u32) -> Result<(), Error> {
    let number = u64::from(last.saturating_sub(first)) + 1;
    if first == 0 || last < first || last == u32::MAX {
        return Err(Error::usage(
            format_args!("{first}-{last} is no range of users without root"),
            "write the first and the last, as in 100000-165535",
        ));
    }
    match number > u64::from(slots) {
        true => Ok(()),
        false => Err(Error::usage(
            format_args!(
                "the range {first}-{last} has {number} users, and {slots} connections at a time need {}",
                u64::from(slots) + 1
            ),
            "widen it, or set a lower maximum of connections",
        )),
    }
}

/// The first of the subordinate ids of this process's user, and of those of its groups.
fn own_subordinate_ids(uid: u32, number: u32) -> Result<(u32, u32), Error> {
    let name = Identity::own_login().name;
    let first = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        subordinate_ids(&text, uid, name.as_deref(), number).ok_or_else(|| {
            Error::new(
                ErrorKind::Jail,
                format_args!("{path} has no range of {number} ids for the user {uid}"),
                "have root add one (`usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER`)",
            )
        })
    };
    Ok((first("/etc/subuid")?, first("/etc/subgid")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_user_for_each_connection_and_one_more() {
        for (range, slots, is_enough) in [
            ((100_000, 100_010), 10, true),
            ((100_000, 100_010), 11, false),
            ((1, 1), 1, false),
            ((0, 70_000), 10, false),
            ((5, 4), 1, false),
            ((1, u32::MAX), 1, false),
        ] {
            assert_eq!(enough(range, slots).is_ok(), is_enough, "{range:?} {slots}");
        }
    }
}
