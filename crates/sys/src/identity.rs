//! Becoming another user for good.

use std::io;

use crate::process::Alone;

/// Who to become.
#[derive(Clone, Copy, Debug)]
pub struct Ids<'a> {
    /// The user, or the one that it is.
    pub uid: Option<u32>,
    /// The group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: &'a [u32],
}

/// Takes on these supplementary groups, this group, and this user where one is given, for good.
///
/// # Errors
/// EPERM without the privilege.
pub fn become_user(_proof: &Alone, ids: &Ids) -> io::Result<()> {
    assume(ids)
}

/// The same for the calling thread. Order matters: each call needs the privilege that the next one gives up.
pub(crate) fn assume(ids: &Ids) -> io::Result<()> {
    // SAFETY: the list is valid for its length. The raw calls change this thread alone, as the C library's
    // do where there is no other; unlike those they touch nothing that a process may share with its parent
    // after vfork(2).
    unsafe {
        crate::check(libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()))?;
        crate::check(libc::syscall(libc::SYS_setresgid, ids.gid, ids.gid, ids.gid))?;
        if let Some(uid) = ids.uid {
            crate::check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
    }
    Ok(())
}
