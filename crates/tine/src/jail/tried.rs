//! Steps of a jail that can only be tried: a filter of a container may deny what the kernel says
//! it has.

use std::error::Error as _;
use std::io;
use std::os::fd::AsFd as _;

use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use tine_sys::jail::{landlock_version, restrict_self};
use tine_sys::process::{Alone, fork};

use super::aside::reported;
use super::filter::refusing;
use super::landlock_rules::{self, FileRules, Subjects};
use super::rights::{drop_bounding_set, install, keep_capabilities};
use crate::error::Error;
use crate::error::next_move::errno;

/// What came of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) no_new_privileges: Result<(), Errno>,
    pub(super) capabilities: Result<(), Errno>,
    /// Landlock, without rules about files.
    pub(super) landlock: Result<(), Errno>,
    pub(super) file_rules: Result<(), Errno>,
    pub(super) filters: Result<(), Errno>,
    /// A filter whose calls another process answers, and the calls of that process.
    pub(super) connecting: Result<(), Errno>,
}

impl Tried {
    /// Nothing was tried, and nothing is known to be denied.
    pub(super) const NOT: Tried = Tried {
        no_new_privileges: Ok(()),
        capabilities: Ok(()),
        landlock: Ok(()),
        file_rules: Ok(()),
        filters: Ok(()),
        connecting: Ok(()),
    };

    /// Makes the steps in a process that is forked for it and exits afterwards.
    pub(super) fn aside(alone: &Alone) -> Tried {
        let ordinary = |alone: &Alone| fork(alone, Signal::CHILD.as_raw());
        match reported(alone, ordinary, |_| Tried::here().to_message()) {
            // A filter may have ended the process: what it has not reported cannot be had.
            Ok((report, _)) => Tried::from_message(&report),
            Err(why) => Tried::of([Err(errno(&why)); 6]),
        }
    }

    /// In the order of a jail: what comes after the first two needs no privilege.
    fn here() -> Tried {
        let none = CapabilitySet::empty();
        Tried {
            no_new_privileges: rustix::thread::set_no_new_privs(true),
            capabilities: drop_bounding_set(none).and_then(|()| keep_capabilities(none)),
            landlock: try_scope(),
            file_rules: try_landlock(Subjects {
                files: Some(&FileRules::new(&[], &[])),
                ..Subjects::default()
            }),
            filters: try_filter(),
            connecting: try_connecting(),
        }
    }

    fn of(steps: [Result<(), Errno>; 6]) -> Tried {
        let [no_new_privileges, capabilities, landlock, file_rules, filters, connecting] = steps;
        Tried { no_new_privileges, capabilities, landlock, file_rules, filters, connecting }
    }

    /// The number of each error, 0 for none.
    fn to_message(self) -> Vec<u8> {
        let steps = [
            self.no_new_privileges,
            self.capabilities,
            self.landlock,
            self.file_rules,
            self.filters,
            self.connecting,
        ];
        let numbers = steps.map(|step| step.err().map_or(0, Errno::raw_os_error));
        numbers.map(i32::to_ne_bytes).concat()
    }

    fn from_message(message: &[u8]) -> Tried {
        let mut steps = [Err(Errno::IO); 6];
        for (step, bytes) in steps.iter_mut().zip(message.as_chunks().0) {
            *step = match i32::from_ne_bytes(*bytes) {
                0 => Ok(()),
                number => Err(Errno::from_raw_os_error(number)),
            };
        }
        Tried::of(steps)
    }
}

/// Before version 6 there are rules about files alone.
fn try_scope() -> Result<(), Errno> {
    match landlock_version().map_err(|why| errno(&why))? {
        ..6 => Ok(()),
        _ => try_landlock(Subjects { scope: true, ..Subjects::default() }),
    }
}

fn try_landlock(subjects: Subjects) -> Result<(), Errno> {
    match landlock_rules::make(subjects) {
        Ok(Some(ruleset)) => restrict_self(ruleset.as_fd()).map_err(|why| errno(&why)),
        Ok(None) => Ok(()),
        Err(why) => Err(errno_of(&why)),
    }
}

/// A filter that a jail has, too. The kernel looks at no other property of it.
fn try_filter() -> Result<(), Errno> {
    let program = refusing("setns").map_err(|_| Errno::NOSYS)?;
    install(&[program]).map_err(|why| errno(&why))
}

/// Yama in this mode lets no process read the memory of another (ptrace_scope, Linux
/// Documentation/admin-guide/LSM/Yama.rst).
const NO_TRACING: &str = "3";

fn try_connecting() -> Result<(), Errno> {
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if yama.trim() == NO_TRACING {
        return Err(Errno::ACCESS);
    }
    let listener = tine_sys::connect_filter::install().map_err(|why| match why.kind() {
        io::ErrorKind::Unsupported => Errno::NOSYS,
        _ => errno(&why),
    })?;
    tine_sys::call_notices::try_out(listener.as_fd()).map_err(|why| errno(&why))
}

fn errno_of(error: &Error) -> Errno {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.map_or(Errno::INVAL, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_the_same_in_another_process() {
        let steps = [Ok(()), Err(Errno::PERM), Ok(()), Err(Errno::NOSYS), Ok(()), Err(Errno::BUSY)];
        let tried = Tried::of(steps);
        assert_eq!(Tried::from_message(&tried.to_message()), tried);
        // A process that was ended has reported nothing, or a part.
        assert_eq!(Tried::from_message(b""), Tried::of([Err(Errno::IO); 6]));
        let part = Tried::from_message(&tried.to_message()[..9]);
        assert_eq!((part.no_new_privileges, part.capabilities), (Ok(()), Err(Errno::PERM)));
        assert_eq!(part.landlock, Err(Errno::IO));
    }
}
