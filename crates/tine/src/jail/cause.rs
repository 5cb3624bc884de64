//! Why a kernel or a container refuses a layer, and what to do about it.

use rustix::io::Errno;

use super::layer::{Layer, Refused};
use super::step::StepError;

const OTHERWISE: &str = "use `--jail=auto`, which does without it";

/// The cause of an error, and the next move.
pub(crate) fn of(layer: Layer, errno: Errno) -> Refused {
    let (cause, next) = match (layer, errno) {
        (Layer::Files | Layer::Scope | Layer::Connections, Errno::OPNOTSUPP) => (
            "Landlock is built into the kernel and not enabled",
            "add landlock to `lsm=` on the kernel's command line",
        ),
        (Layer::Files, Errno::NOSYS) => {
            ("the kernel has no Landlock (Linux 5.13), or a container hides it", OTHERWISE)
        }
        (Layer::Scope, Errno::NOSYS) => {
            ("the kernel's Landlock has no scopes (Linux 6.12), or a container hides it", OTHERWISE)
        }
        (Layer::Connections, Errno::NOSYS) => {
            ("the kernel's Landlock knows no connections (Linux 6.7), or a container hides it", OTHERWISE)
        }
        (Layer::ClientSocket, Errno::PERM) => (
            "only a process with CAP_NET_ADMIN may filter the packets of a TCP socket",
            "start tine as root, or use `--private-network yes`",
        ),
        (Layer::SystemCalls, Errno::NOSYS | Errno::INVAL) => {
            ("the kernel has no filters of system calls for this architecture (seccomp)", OTHERWISE)
        }
        (Layer::WriteExecute, Errno::INVAL) => (
            "the kernel cannot keep memory from becoming executable (Linux 6.3)",
            "use a newer kernel, or `--memory-deny-write-execute=no`",
        ),
        (Layer::NetworkAllow, Errno::NOSYS | Errno::INVAL) => (
            "the kernel cannot have one process connect for another (Linux 5.9)",
            "use a newer kernel, or `--private-network no`",
        ),
        (Layer::NetworkAllow, Errno::BUSY) => (
            "a container or sandbox answers system calls itself",
            "start the server outside of it, or use `--private-network no`",
        ),
        (Layer::NetworkAllow, Errno::ACCESS) => (
            "the system lets no process read the memory of another",
            "set kernel.yama.ptrace_scope to 0, 1 or 2, which takes a restart of the machine",
        ),
        (_, Errno::PERM | Errno::ACCESS) => (
            "a filter of the container or sandbox denies it",
            "permit it in the seccomp profile of the container, or use `--jail=auto`",
        ),
        _ => ("the kernel refuses it", OTHERWISE),
    };
    Refused { errno, cause: cause.to_owned(), next }
}

/// Settings of a system that refuse namespaces to users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clues {
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu 23.10 and later).
    by_apparmor: bool,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian's kernels).
    by_sysctl: bool,
    /// `user.max_user_namespaces` is 0.
    has_none: bool,
    /// This process runs under a filter of system calls, as in most containers.
    has_filter: bool,
    /// Parts of `/proc` are covered, as in most containers.
    has_masked_proc: bool,
}

impl Clues {
    pub(super) fn look() -> Clues {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let is = |path: &str, value: &str| read(path).trim() == value;
        Clues {
            by_apparmor: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            by_sysctl: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            has_none: is("/proc/sys/user/max_user_namespaces", "0"),
            has_filter: read("/proc/self/status").lines().any(|line| line == "Seccomp:\t2"),
            has_masked_proc: has_mounts_below_proc(&read("/proc/self/mountinfo")),
        }
    }
}

/// Whether something is mounted below `/proc` (proc_pid_mountinfo(5)).
fn has_mounts_below_proc(mounts: &str) -> bool {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.into_iter().any(|point| point.starts_with("/proc/") && point != "/proc/sys/fs/binfmt_misc")
}

/// The cause of a step into a full jail that was refused, and the next move.
pub(crate) fn of_step(why: &StepError, clues: &Clues) -> Refused {
    let is_of = |part: &str| why.step.contains(part);
    let (cause, next) = match why.errno {
        Errno::PERM | Errno::ACCESS if clues.by_apparmor => (
            "AppArmor restricts user namespaces",
            "set kernel.apparmor_restrict_unprivileged_userns to 0, write a profile with `userns` for tine, \
             or start it as root",
        ),
        Errno::PERM | Errno::ACCESS if is_of("proc") && clues.has_masked_proc => (
            "parts of /proc are covered, as in a container",
            "let the container have an unmasked /proc (`--security-opt unmask=ALL`, `procMount: Unmasked`), \
             or use `--jail=auto`",
        ),
        Errno::PERM if clues.by_sysctl => (
            "users may not make user namespaces here",
            "set kernel.unprivileged_userns_clone to 1, or start tine as root",
        ),
        Errno::NOSPC if clues.has_none => {
            ("no user namespace may be made here", "raise user.max_user_namespaces, or use `--jail=light`")
        }
        Errno::NOSPC => ("a limit on namespaces is reached", "raise the values in /proc/sys/user"),
        Errno::PERM | Errno::ACCESS if clues.has_filter => (
            "a filter of the container or sandbox denies it",
            "permit it in the seccomp profile of the container, or use `--jail=auto`",
        ),
        Errno::INVAL if is_of("proc") => {
            ("the kernel has no /proc for one pid namespace alone (Linux 5.8)", OTHERWISE)
        }
        Errno::NOSYS => ("the kernel is older than Linux 5.12, or a container hides the call", OTHERWISE),
        Errno::INVAL if is_of("user namespace") => ("the kernel is built without user namespaces", OTHERWISE),
        _ => ("the kernel refuses it", OTHERWISE),
    };
    Refused { errno: why.errno, cause: format!("{}: {cause}", why.step), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_of_steps_that_users_meet_are_named() {
        let none = Clues::default();
        let apparmor = Clues { by_apparmor: true, ..none };
        let sysctl = Clues { by_sysctl: true, ..none };
        let limit = Clues { has_none: true, ..none };
        let container = Clues { has_filter: true, has_masked_proc: true, ..none };
        for (step, errno, clues, cause, next) in [
            ("uid_map", Errno::PERM, apparmor, "AppArmor", "apparmor_restrict_unprivileged_userns"),
            (
                "unshare of a user namespace",
                Errno::PERM,
                sysctl,
                "users may not",
                "unprivileged_userns_clone",
            ),
            ("unshare of a user namespace", Errno::NOSPC, limit, "no user namespace", "max_user_namespaces"),
            ("fork into a room", Errno::NOSPC, none, "limit", "/proc/sys/user"),
            ("unshare of a user namespace", Errno::PERM, container, "container", "seccomp profile"),
            ("mount of proc on /proc", Errno::PERM, container, "covered", "procMount"),
            ("mount of proc on /proc", Errno::INVAL, none, "5.8", "--jail=auto"),
            ("mount_setattr /usr", Errno::NOSYS, none, "5.12", "--jail=auto"),
            ("unshare of a user namespace", Errno::INVAL, none, "without user namespaces", "--jail=auto"),
            ("pivot_root", Errno::BUSY, none, "refuses", "--jail=auto"),
        ] {
            let found = of_step(&StepError { step: step.to_owned(), errno }, &clues);
            assert!(found.cause.starts_with(step) && found.cause.contains(cause), "{}", found.cause);
            assert!(found.next.contains(next), "{step} {errno:?}: {}", found.next);
        }
    }

    #[test]
    fn a_masked_proc_is_seen() {
        let root = "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n22 21 0:20 / /proc rw - proc proc rw\n";
        let mask = "30 22 0:26 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw\n";
        let binfmt = "31 22 0:27 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n";
        for (mounts, expected) in
            [(root.to_owned(), false), (format!("{root}{mask}"), true), (format!("{root}{binfmt}"), false)]
        {
            assert_eq!(has_mounts_below_proc(&mounts), expected, "{mounts}");
        }
    }

    #[test]
    fn the_causes_that_users_meet_are_named() {
        for (layer, errno, cause, next) in [
            (Layer::Files, Errno::OPNOTSUPP, "not enabled", "lsm="),
            (Layer::Scope, Errno::OPNOTSUPP, "not enabled", "lsm="),
            (Layer::Files, Errno::NOSYS, "5.13", "--jail=auto"),
            (Layer::Scope, Errno::NOSYS, "6.12", "--jail=auto"),
            (Layer::Connections, Errno::NOSYS, "6.7", "--jail=auto"),
            (Layer::ClientSocket, Errno::PERM, "CAP_NET_ADMIN", "--private-network yes"),
            (Layer::Files, Errno::PERM, "container", "seccomp profile"),
            (Layer::SystemCalls, Errno::INVAL, "seccomp", "--jail=auto"),
            (Layer::SystemCalls, Errno::PERM, "container", "seccomp profile"),
            (Layer::WriteExecute, Errno::INVAL, "6.3", "newer kernel"),
            (Layer::NetworkAllow, Errno::INVAL, "5.9", "newer kernel"),
            (Layer::NetworkAllow, Errno::BUSY, "container", "outside"),
            (Layer::NetworkAllow, Errno::ACCESS, "memory", "ptrace_scope"),
            (Layer::NetworkAllow, Errno::PERM, "container", "seccomp profile"),
            (Layer::NoNewPrivileges, Errno::INVAL, "refuses", "--jail=auto"),
        ] {
            let found = of(layer, errno);
            assert!(found.cause.contains(cause), "{layer:?} {errno:?}: {}", found.cause);
            assert!(found.next.contains(next), "{layer:?} {errno:?}: {}", found.next);
        }
    }
}
