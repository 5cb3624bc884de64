//! Becoming another user for good.

use std::io;

use crate::process::Alone;

/// Takes on these supplementary groups, this group, and this user where one is given, for good.
/// Order matters: each call needs the privilege that the next one gives up.
///
/// # Errors
/// EPERM without the privilege.
pub fn become_user(_proof: &Alone, uid: Option<u32>, gid: u32, groups: &[u32]) -> io::Result<()> {
    let ok = |returned: libc::c_int| crate::check(libc::c_long::from(returned)).map(drop);
    // SAFETY: the list is valid for its length; this process has one thread, so all of it changes.
    unsafe {
        ok(libc::setgroups(groups.len(), groups.as_ptr()))?;
        ok(libc::setresgid(gid, gid, gid))?;
        if let Some(uid) = uid {
            ok(libc::setresuid(uid, uid, uid))?;
        }
    }
    Ok(())
}
