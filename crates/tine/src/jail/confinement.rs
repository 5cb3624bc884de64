//! Makes a jail: what is the same for all connections once in a forker, the rest in the process of
//! each connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, apply_filter};
use tine_sys::exec::Confine;
use tine_sys::fd::Floor;
use tine_sys::jail;

use super::landlock_rules;
use super::layer::Layer;
use super::plan::Plan;
use crate::error::{Error, ErrorKind, next_move};

/// The system calls of a forker, and of the processes that it forks until they enter the jail.
const OF_A_FORKER: &[&str] = &[
    "accept4",
    "capget",
    "capset",
    "clone",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "close_range",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "execve",
    "exit_group",
    "fchmod",
    "fcntl",
    "fstat",
    "futex",
    "getpid",
    "getppid",
    "getrusage",
    "getsockname",
    "getsockopt",
    "gettid",
    "ioctl",
    "kill",
    "landlock_restrict_self",
    "madvise",
    "mkdir",
    "mkdirat",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "prlimit64",
    "read",
    "recvfrom",
    "recvmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sendmsg",
    "sendto",
    "setpgid",
    "setsid",
    "setsockopt",
    "shutdown",
    "socket",
    "statx",
    "wait4",
    "waitid",
    "write",
    "writev",
];

/// A jail that a forker has made, as far as the processes of connections enter it.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    /// The filter, where the forker could not live with it.
    programs: Vec<BpfProgram>,
    ruleset: Option<OwnedFd>,
    /// The capabilities that are kept; `None` changes none.
    capabilities: Option<CapabilitySet>,
}

impl Confinement {
    /// Makes the jail, in a forker that has made everything else. `more` are system calls that this
    /// server makes for a connection, beside those of every server.
    ///
    /// # Errors
    /// The kernel refuses a layer of the plan, or a path of it cannot be opened.
    pub(crate) fn make(plan: &Plan, more: &[&str], place: Floor) -> Result<Confinement, Error> {
        if !plan.is_any() {
            return Ok(Confinement::default());
        }
        let has_scope = plan.is_on(Layer::Scope);
        let ruleset = match plan.files.is_some() || has_scope {
            true => landlock_rules::make(plan.files.as_ref(), has_scope)?,
            false => None,
        };
        let ruleset = ruleset.map(|ruleset| place.duplicate(ruleset)).transpose();
        let ruleset = ruleset.map_err(|why| refused("keep its rules", &why))?;
        if let Some(kept) = plan.capabilities {
            drop_bounding_set(kept).map_err(|why| refused("drop capabilities", &why.into()))?;
        }
        if plan.is_on(Layer::NoNewPrivileges) {
            rustix::thread::set_no_new_privs(true).map_err(|why| refused("set no_new_privs", &why.into()))?;
        }
        if plan.is_on(Layer::WriteExecute) {
            jail::deny_write_execute().map_err(|why| refused("set PR_SET_MDWE", &why))?;
        }
        let mut programs = Vec::new();
        if let Some(filter) = &plan.filter {
            programs =
                filter.compile().map_err(|why| refused("compile the filter", &io::Error::other(why)))?;
            // The kernel takes long to install a filter. Inherited, it costs a connection nothing.
            if filter.covers(OF_A_FORKER) && filter.covers(more) {
                install(&std::mem::take(&mut programs)).map_err(|why| refused("install the filter", &why))?;
            }
        }
        Ok(Confinement { programs, ruleset, capabilities: plan.capabilities })
    }

    /// A descriptor that has to stay open until the process of a connection enters the jail.
    pub(crate) fn ruleset(&self) -> Option<BorrowedFd<'_>> {
        self.ruleset.as_ref().map(AsFd::as_fd)
    }

    /// Whether a process of a connection has anything to enter.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.ruleset.is_some() || self.capabilities.is_some() || !self.programs.is_empty()
    }
}

impl Confine for Confinement {
    /// Enters the jail, in the process of a connection, which has made all other changes.
    fn enter(&self) -> io::Result<()> {
        if let Some(kept) = self.capabilities {
            keep_capabilities(kept).map_err(|why| step("capset", &why.into()))?;
        }
        if let Some(ruleset) = &self.ruleset {
            jail::restrict_self(ruleset.as_fd()).map_err(|why| step("landlock_restrict_self", &why))?;
        }
        install(&self.programs).map_err(|why| step("seccomp", &why))
    }
}

/// An error of a step into the jail.
fn step(name: &str, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("jail: {name}: {}", crate::error::reason(why)))
}

fn refused(what: &str, why: &io::Error) -> Error {
    Error::new(ErrorKind::Jail, format!("the jail cannot {what}"), next_move::of_call(why)).because(why)
}

/// Installs the programs of a filter, for this process and all that it creates (seccomp(2)).
fn install(programs: &[BpfProgram]) -> io::Result<()> {
    programs.iter().try_for_each(|program| {
        apply_filter(program).map_err(|why| match why {
            seccompiler::Error::Prctl(why) | seccompiler::Error::Seccomp(why) => why,
            other => io::Error::other(other),
        })
    })
}

/// Takes all other capabilities from what programs can gain. Without the privilege to do so there
/// is nothing to gain, but by files with capabilities, which `no_new_privs` excludes.
fn drop_bounding_set(kept: CapabilitySet) -> Result<(), Errno> {
    let own = rustix::thread::capabilities(None)?;
    if !own.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for one in CapabilitySet::all().difference(kept).iter() {
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // An older kernel has fewer of them.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Keeps no other capabilities than these, of those that the process has.
fn keep_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    let own = rustix::thread::capabilities(None)?;
    let keep = |set: CapabilitySet| set & kept;
    let left = CapabilitySets {
        effective: keep(own.effective),
        permitted: keep(own.permitted),
        inheritable: keep(own.inheritable),
    };
    // Ambient capabilities go with those that are inheritable (capabilities(7)).
    if left.permitted == own.permitted && left.inheritable == own.inheritable {
        return Ok(());
    }
    rustix::thread::set_capabilities(None, left)
}
