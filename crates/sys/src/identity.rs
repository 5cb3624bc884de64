//! Changing the user of this process for good.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

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
/// real, effective and saved ids. There is no way back.
///
/// # Errors
/// EPERM without the privilege; EINVAL for the id `u32::MAX`, which setresuid(2) takes as
/// "unchanged".
pub fn become_user(_alone: &Alone, ids: &Ids) -> io::Result<()> {
    assume(ids)
}

/// The same for the calling thread, which is the whole process where there is no other: the system
/// calls change one thread, and the C library's functions of the same names do no more than repeat
/// them in all.
///
/// Touches no state of the C library, so a process that shares its memory with its parent after
/// vfork(2) may call it.
pub(crate) fn assume(ids: &Ids) -> io::Result<()> {
    if ids.gid == u32::MAX || ids.uid == Some(u32::MAX) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // Each call needs the privilege that the next one gives up.
    // SAFETY: the list is valid for its length, and the kernel only reads it. rustix's function
    // takes a list of another type, which would have to be copied first.
    crate::check(unsafe { libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()) })?;
    let gid = Gid::from_raw(ids.gid);
    set_thread_res_gid(gid, gid, gid)?;
    if let Some(uid) = ids.uid.map(Uid::from_raw) {
        set_thread_res_uid(uid, uid, uid)?;
    }
    Ok(())
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
}
