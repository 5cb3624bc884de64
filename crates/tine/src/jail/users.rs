//! The users of a full jail, and the user namespace that has them and no other.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tine_sys::identity::{Ids, become_user_with_capabilities};
use tine_sys::namespaces::{Kinds, unshare};
use tine_sys::process::{Alone, How, Side, exit_now, fork, wait_for};

use super::step::{StepError, step};

/// The first user of the connections of a server that root started without naming any: above the
/// ids that are given to people and services, as in the ranges of subuid(5).
pub(crate) const FIRST: u32 = 524_288;

/// Who serves connections in a full jail. Ids are the same inside and outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JailUsers {
    /// The user of the server, which is not root.
    Own { uid: u32, gid: u32 },
    /// One user for all connections, with its groups; the server is root.
    One { uid: u32, gid: u32, groups: Vec<u32> },
    /// A user and a group of its own for each slot, from these on, and the last one for the
    /// server's processes. The server is root, or they are subordinate ids of its user (subuid(5)).
    Each { uid: u32, gid: u32, slots: u32 },
}

impl JailUsers {
    /// The uid and gid of the connection in a slot, where it has ones of its own.
    pub(crate) fn of_slot(&self, slot: usize) -> Option<Ids<'static>> {
        match self {
            JailUsers::Each { uid, gid, slots } => {
                let slot = u32::try_from(slot).unwrap_or(u32::MAX).min(slots.saturating_sub(1));
                Some(Ids { uid: Some(uid + slot), gid: gid + slot, groups: &[] })
            }
            JailUsers::Own { .. } | JailUsers::One { .. } => None,
        }
    }

    /// Whether each connection has a user that no other has.
    pub(crate) fn are_alone(&self) -> bool {
        matches!(self, JailUsers::Each { .. })
    }

    /// The ids of the processes that prepare jails.
    fn of_server(&self) -> Ids<'_> {
        match self {
            JailUsers::Own { uid, gid } => Ids { uid: Some(*uid), gid: *gid, groups: &[] },
            JailUsers::One { uid, gid, groups } => Ids { uid: Some(*uid), gid: *gid, groups },
            JailUsers::Each { uid, gid, slots } => {
                Ids { uid: Some(uid + slots), gid: gid + slots, groups: &[] }
            }
        }
    }

    /// The user and group of the forkers, in the user namespace and outside.
    pub(crate) fn of_forkers(&self) -> (u32, u32) {
        let ids = self.of_server();
        (ids.uid.unwrap_or(0), ids.gid)
    }

    /// What the jail has, for operators.
    pub(super) fn describe(&self) -> String {
        match self {
            JailUsers::Own { uid, .. } | JailUsers::One { uid, .. } => format!("user {uid}"),
            JailUsers::Each { uid, slots, .. } => {
                format!("a user for each connection, {uid} to {}", uid + slots - 1)
            }
        }
    }

    /// The lines of `uid_map` and `gid_map` (user_namespaces(7)).
    fn maps(&self) -> [String; 2] {
        let line = |first: u32, length: u32| format!("{first} {first} {length}\n");
        match self {
            JailUsers::Own { uid, gid } => [line(*uid, 1), line(*gid, 1)],
            JailUsers::One { uid, gid, groups } => {
                let mut ids: Vec<u32> = groups.iter().copied().chain([*gid]).collect();
                ids.sort_unstable();
                ids.dedup();
                let groups = ids.iter().fold(String::new(), |mut lines, id| {
                    let _ = write!(lines, "{}", line(*id, 1));
                    lines
                });
                [line(*uid, 1), groups]
            }
            JailUsers::Each { uid, gid, slots } => [line(*uid, slots + 1), line(*gid, slots + 1)],
        }
    }

    /// Moves this process into a user namespace with these users, and makes it the server's one,
    /// with all capabilities over what is made in the namespace.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(super) fn enter(&self, alone: &Alone) -> io::Result<()> {
        match self {
            // The own user can be mapped by the process itself, if it gives up setgroups(2).
            JailUsers::Own { .. } => {
                unshare(alone, Kinds::USER).map_err(|why| step("unshare of a user namespace", &why))?;
                fs::write("/proc/self/setgroups", "deny")
                    .map_err(|why| step("/proc/self/setgroups", &why))?;
                self.write_maps("self")
            }
            JailUsers::One { .. } | JailUsers::Each { .. } => self.enter_mapped_from_outside(alone),
        }?;
        become_user_with_capabilities(alone, &self.of_server()).map_err(|why| step("change of user", &why))
    }

    /// Other users can only be mapped by a process with privileges outside: one that is forked
    /// before.
    fn enter_mapped_from_outside(&self, alone: &Alone) -> io::Result<()> {
        let own = rustix::process::getpid().as_raw_nonzero().to_string();
        let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answer, result) = pipe_with(PipeFlags::CLOEXEC)?;
        match fork(alone, Signal::CHILD.as_raw())? {
            Side::Child(_fresh) => {
                drop((go, answer));
                let has_namespace = fs::File::from(wait).read_exact(&mut [0]).is_ok();
                let written = if has_namespace { self.write_maps(&own) } else { Ok(()) };
                let text = written.err().map(|why| StepError::of(&why).to_message()).unwrap_or_default();
                let _ = fs::File::from(result).write_all(text.as_bytes());
                exit_now(i32::from(!text.is_empty()))
            }
            Side::Parent(mapper) => {
                drop((wait, result));
                let unshared = unshare(alone, Kinds::USER);
                if unshared.is_ok() {
                    let _ = rustix::io::write(&go, b"\n");
                }
                drop(go);
                let mut text = String::new();
                fs::File::from(answer).read_to_string(&mut text)?;
                let ended = wait_for(mapper)?;
                unshared.map_err(|why| step("unshare of a user namespace", &why))?;
                match ended {
                    How::Exited(0) => Ok(()),
                    How::Exited(_) => Err(StepError::from_message(&text).into()),
                    How::Signaled(_) => Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
        }
    }

    fn write_maps(&self, process: &str) -> io::Result<()> {
        let [uids, gids] = self.maps();
        let needs_helper = matches!(self, JailUsers::Each { .. }) && !rustix::process::geteuid().is_root();
        for (name, helper, lines) in [("uid_map", "newuidmap", uids), ("gid_map", "newgidmap", gids)] {
            match needs_helper {
                true => run_mapper(helper, process, &lines)?,
                false => {
                    fs::write(format!("/proc/{process}/{name}"), lines).map_err(|why| step(name, &why))?;
                }
            }
        }
        Ok(())
    }
}

/// Has a set-user-ID program map subordinate ids of this user (newuidmap(1)).
fn run_mapper(program: &str, process: &str, lines: &str) -> io::Result<()> {
    let ended = Command::new(program).arg(process).args(lines.split_whitespace()).output();
    let ended = ended.map_err(|why| step(program, &why))?;
    match ended.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&ended.stderr);
            Err(step(text.trim(), &Errno::PERM.into()))
        }
    }
}

/// The first id of a range of subordinate ids of a user with at least this number of them, in the
/// text of `/etc/subuid` or `/etc/subgid` (subuid(5)).
pub(crate) fn subordinate_ids(text: &str, uid: u32, name: Option<&str>, number: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let is_own = Some(owner) == name || owner.parse() == Ok(uid);
        let (first, count): (u32, u32) = (first.trim().parse().ok()?, count.trim().parse().ok()?);
        (is_own && count >= number).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_of_the_jail_is_mapped_and_no_other() {
        let one = JailUsers::One { uid: 65_534, gid: 7, groups: vec![9, 7, 8] };
        assert_eq!(one.maps(), ["65534 65534 1\n", "7 7 1\n8 8 1\n9 9 1\n"]);
        assert_eq!(JailUsers::Own { uid: 5, gid: 6 }.maps(), ["5 5 1\n", "6 6 1\n"]);
        let each = JailUsers::Each { uid: FIRST, gid: 7000, slots: 100 };
        assert_eq!(each.maps(), ["524288 524288 101\n", "7000 7000 101\n"]);
    }

    #[test]
    fn slots_have_different_users_and_none_is_that_of_the_server() {
        let each = JailUsers::Each { uid: FIRST, gid: FIRST, slots: 3 };
        let uids: Vec<_> = (0..3).filter_map(|slot| each.of_slot(slot)?.uid).collect();
        assert_eq!(uids, [FIRST, FIRST + 1, FIRST + 2]);
        assert_eq!(each.of_server().uid, Some(FIRST + 3));
        assert!(JailUsers::Own { uid: 1, gid: 1 }.of_slot(0).is_none());
    }

    #[test]
    fn subordinate_ids_belong_to_a_name_or_a_number() {
        let text = "ann:100000:65536\n# bob:1:1\n1001:200000:10\n1001:300000:5000\nbad:x:y\n";
        for (uid, name, number, first) in [
            (1000, Some("ann"), 1025, Some(100_000)),
            (1000, Some("ann"), 65_537, None),
            (1001, None, 10, Some(200_000)),
            (1001, Some("bob"), 11, Some(300_000)),
            (1002, Some("bad"), 1, None),
            (1002, None, 1, None),
        ] {
            assert_eq!(subordinate_ids(text, uid, name, number), first, "{uid} {name:?} {number}");
        }
    }
}
