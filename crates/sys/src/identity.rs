//! Changing the user of this process for good.

use std::collections::BTreeSet;
use std::io;

use rustix::process::{Gid, Uid, getgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid,
};

use crate::about;
use crate::process::Alone;

/// The user and groups that a process changes to.
#[derive(Clone, Copy, Debug)]
pub struct Ids<'a> {
    /// The user; `None` leaves it unchanged.
    pub uid: Option<u32>,
    /// The group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: &'a [u32],
}

/// Changes the supplementary groups, the group and, where one is given, the user of this process:
/// real, effective and saved ids; with a user other than root, gives up all capabilities. There is
/// no way back. A process that has these ids already needs
/// no privilege.
///
/// # Errors
/// EPERM without the privilege; EINVAL for an id that the user namespace does not have
/// (user_namespaces(7)), and for the id `u32::MAX`, which setresuid(2) takes as "unchanged". The
/// text names the id.
pub fn become_user(_alone: &Alone, ids: &Ids) -> io::Result<()> {
    assume(ids)
}

/// The same for the calling thread, which is the whole process where there is no other: the system
/// calls change one thread, and the C library's functions of the same names do no more than repeat
/// them in all.
///
/// Touches no state of the C library unless it fails, so a process that shares its memory with its
/// parent after vfork(2) may call it.
pub(crate) fn assume(ids: &Ids) -> io::Result<()> {
    assume_ids(ids)?;
    if ids.uid.is_some_and(|uid| uid != 0) {
        drop_capabilities().map_err(|why| about("capabilities", &why.into()))?;
    }
    Ok(())
}

fn assume_ids(ids: &Ids) -> io::Result<()> {
    if ids.gid == u32::MAX || ids.uid == Some(u32::MAX) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // Each call needs the privilege that the next one gives up.
    // SAFETY: the list is valid for its length, and the kernel only reads it. rustix's function
    // takes a list of another type, which would have to be copied first.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()) };
    match crate::check(set) {
        Err(why) if !has_groups(ids) => return Err(about("supplementary groups", &why)),
        // setgroups(2) needs the privilege even where it changes nothing; the other calls do not.
        _ => {}
    }
    let gid = Gid::from_raw(ids.gid);
    set_thread_res_gid(gid, gid, gid).map_err(|why| about("group", &why.into()))?;
    if let Some(uid) = ids.uid.map(Uid::from_raw) {
        set_thread_res_uid(uid, uid, uid).map_err(|why| about("user", &why.into()))?;
    }
    Ok(())
}

/// Gives up all capabilities. The kernel does so only where root becomes another user
/// (capabilities(7)): a process that was given the capability to change its user could change it
/// back.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).or_else(|why| {
        // A sandbox may forbid the call.
        if capabilities(None)?.permitted.is_empty() { Ok(()) } else { Err(why) }
    })
}

/// Changes the ids of this process as [`become_user`] does, and keeps its capabilities in a user
/// namespace that it has made, whose users do not include that of before (capabilities(7)).
///
/// # Errors
/// As [`become_user`].
pub fn become_user_with_capabilities(_alone: &Alone, ids: &Ids) -> io::Result<()> {
    assume_ids(ids)
}

/// Whether this process has these supplementary groups and no other. The group itself does not
/// count: its permissions are the same with and without it (credentials(7)).
fn has_groups(ids: &Ids) -> bool {
    let Ok(own) = getgroups() else { return false };
    let others = |group: &u32| *group != ids.gid;
    let own: BTreeSet<u32> = own.into_iter().map(Gid::as_raw).filter(others).collect();
    own == ids.groups.iter().copied().filter(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_that_means_unchanged_is_an_error() {
        for (uid, gid) in [(Some(u32::MAX), 1), (None, u32::MAX)] {
            let error = assume(&Ids { uid, gid, groups: &[] }).expect_err("not an id");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn groups_are_compared_as_sets_without_the_group_itself() {
        let own: Vec<u32> = getgroups().expect("a list").into_iter().map(Gid::as_raw).collect();
        let gid = 61_234;
        assert!(!own.contains(&gid));
        let reversed: Vec<u32> = own.iter().rev().copied().chain([gid]).collect();
        assert!(has_groups(&Ids { uid: None, gid, groups: &reversed }));
        let more = [&own[..], &[61_235]].concat();
        assert!(!has_groups(&Ids { uid: None, gid, groups: &more }));
    }
}
