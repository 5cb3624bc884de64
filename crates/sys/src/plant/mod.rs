//! Plants code into a program that a tracer has stopped at a system call: from then on it is a
//! template, which makes a copy of itself for each message that it gets. A copy takes the steps in
//! its message ([`CopySteps`]) and goes on with that very system call, as if nothing had been.
//!
//! The code runs in the program's process, at the place of the program: it makes system calls only,
//! and touches neither the program's stack nor its libraries. It has two mappings of its own, one
//! for code, which cannot be written, and one for data, which cannot be executed.
//!
//! The template makes its end of the channel itself, and the tracer takes the other
//! (pidfd_getfd(2), Linux 5.6): the program never sees one. The signals of a template are blocked,
//! and others of its user may not look into it (`PR_SET_DUMPABLE`).

mod copying;
mod layout;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod machine;
#[cfg(target_arch = "x86_64")]
mod planting;
#[cfg(target_arch = "x86_64")]
mod registers;
mod steps;

use std::io;
use std::os::fd::OwnedFd;

pub use copying::{Answer, TemplateChannel};
#[cfg(target_arch = "x86_64")]
pub use planting::plant;
pub use steps::CopySteps;

/// The most descriptors that a copy can get.
pub const DESCRIPTORS: usize = 8;

/// The most bytes of a message: the steps of one copy.
pub const MOST_BYTES: usize = 60 * 1024;

/// A template, as its tracer leaves it.
#[derive(Debug)]
pub struct Template {
    /// The channel to it, for [`TemplateChannel`].
    pub channel: OwnedFd,
    /// The process.
    pub process: OwnedFd,
    /// The steps that all of its copies begin with: none, but they know its descriptors.
    pub first: CopySteps,
    /// What all of its copies end with.
    pub last: LastSteps,
}

/// The steps that every copy ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSteps {
    /// Its end of the channel.
    channel: i32,
    /// The ruleset that copies restrict themselves by, and whether they may without
    /// `PR_SET_NO_NEW_PRIVS`.
    ruleset: Option<(i32, bool)>,
    /// The word that the kernel clears at the end of a thread; 0 for none.
    cleared: u64,
    /// The word that the C library keeps the thread's id in.
    thread_id: Option<u64>,
    robust_list: (u64, u64),
    signals: u64,
}

impl LastSteps {
    /// Whether the copies can neither trace nor signal the template.
    #[must_use]
    pub fn protect(&self) -> bool {
        self.ruleset.is_some()
    }

    /// The whole message of a copy.
    ///
    /// # Errors
    /// It is too long.
    pub fn finish(self, mut steps: CopySteps) -> io::Result<Vec<u8>> {
        let LastSteps { channel, ruleset, cleared, thread_id, robust_list, signals } = self;
        if cleared != 0 {
            steps.name_thread(cleared, thread_id);
        }
        if robust_list.0 != 0 {
            steps.register_robust_list(robust_list.0, robust_list.1);
        }
        if let Some((ruleset, no_new_privileges)) = ruleset {
            steps.restrict(ruleset, no_new_privileges);
        }
        steps.block_signals(signals);
        steps.close(channel);
        let message = steps.end();
        match message.len() <= MOST_BYTES {
            true => Ok(message),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Templates cannot be made on this architecture.
///
/// # Errors
/// Always.
#[cfg(not(target_arch = "x86_64"))]
pub fn plant(
    _tracer: &mut crate::trace::Tracer<'_>,
    _task: i32,
    _open: &std::collections::BTreeSet<i32>,
) -> io::Result<Template> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "not on this architecture"))
}
