//! Why a kernel or a container refuses a layer, and what to do about it.

use rustix::io::Errno;

use super::layer::{Layer, Refused};

const OTHERWISE: &str = "use `--jail=auto`, which does without it";

/// The cause of an error, and the next move.
pub(crate) fn of(layer: Layer, errno: Errno) -> Refused {
    let (cause, next) = match (layer, errno) {
        (Layer::Files | Layer::Scope, Errno::OPNOTSUPP) => (
            "Landlock is built into the kernel and not enabled",
            "add landlock to `lsm=` on the kernel's command line",
        ),
        (Layer::Files, Errno::NOSYS) => {
            ("the kernel has no Landlock (Linux 5.13), or a container hides it", OTHERWISE)
        }
        (Layer::Scope, Errno::NOSYS) => {
            ("the kernel's Landlock has no scopes (Linux 6.12), or a container hides it", OTHERWISE)
        }
        (Layer::SystemCalls, Errno::NOSYS | Errno::INVAL) => {
            ("the kernel has no filters of system calls for this architecture (seccomp)", OTHERWISE)
        }
        (Layer::WriteExecute, Errno::INVAL) => (
            "the kernel cannot keep memory from becoming executable (Linux 6.3)",
            "use a newer kernel, or `--memory-deny-write-execute=no`",
        ),
        (_, Errno::PERM | Errno::ACCESS) => (
            "a filter of the container or sandbox denies it",
            "permit it in the seccomp profile of the container, or use `--jail=auto`",
        ),
        _ => ("the kernel refuses it", OTHERWISE),
    };
    Refused { errno, cause, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_that_users_meet_are_named() {
        for (layer, errno, cause, next) in [
            (Layer::Files, Errno::OPNOTSUPP, "not enabled", "lsm="),
            (Layer::Scope, Errno::OPNOTSUPP, "not enabled", "lsm="),
            (Layer::Files, Errno::NOSYS, "5.13", "--jail=auto"),
            (Layer::Scope, Errno::NOSYS, "6.12", "--jail=auto"),
            (Layer::Files, Errno::PERM, "container", "seccomp profile"),
            (Layer::SystemCalls, Errno::INVAL, "seccomp", "--jail=auto"),
            (Layer::SystemCalls, Errno::PERM, "container", "seccomp profile"),
            (Layer::WriteExecute, Errno::INVAL, "6.3", "newer kernel"),
            (Layer::NoNewPrivileges, Errno::INVAL, "refuses", "--jail=auto"),
        ] {
            let found = of(layer, errno);
            assert!(found.cause.contains(cause), "{layer:?} {errno:?}: {}", found.cause);
            assert!(found.next.contains(next), "{layer:?} {errno:?}: {}", found.next);
        }
    }
}
