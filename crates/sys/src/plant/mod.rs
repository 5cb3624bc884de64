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

mod accepting;
mod copying;
mod layout;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod machine;
#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod machine;
mod own_namespaces;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod planting;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod registers;
mod steps;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use crate::namespaces::Kinds;

pub use accepting::Accepting;
pub use copying::{Answer, TemplateChannel, wait_for_stop};
pub use own_namespaces::OF_A_COPY;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use planting::plant;
pub use steps::CopySteps;

/// The most descriptors that a copy can get.
pub const DESCRIPTORS: usize = 8;

/// The most bytes of a message: the steps of one copy.
pub const MOST_BYTES: usize = 60 * 1024;

/// What a template is made of, and how its copies begin.
#[derive(Clone, Copy, Debug)]
pub struct Planting<'a> {
    /// The descriptors of the program.
    pub open: &'a BTreeSet<i32>,
    /// The namespaces that each copy has of its own, if it has some.
    pub own: Option<Kinds>,
    /// What the call returns that the program is about to make; `None` where each copy makes it.
    pub result: Option<i32>,
}

/// A template, as its tracer leaves it.
#[derive(Debug)]
pub struct Template {
    /// The channel to it, for [`TemplateChannel`].
    pub channel: OwnedFd,
    /// The process.
    pub process: OwnedFd,
    /// What its copies begin with.
    pub base: CopyBase,
}

/// What the copies of a template begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyBase {
    /// The descriptors.
    open: BTreeSet<i32>,
    /// The addresses of the planted code, and of its data.
    code: u64,
    data: u64,
    /// The end of the channel.
    channel: i32,
    /// The ruleset that copies restrict themselves by, if they do.
    ruleset: Option<i32>,
    /// Whether they need `PR_SET_NO_NEW_PRIVS` to restrict themselves.
    gives_up_privileges: bool,
    /// The word that the kernel clears at the end of a thread; 0 for none.
    cleared: u64,
    /// The word that the C library keeps the thread's id in; 0 for none.
    thread_id: u64,
    /// The list of robust mutexes: its head, 0 for none, and its length.
    robust_list: [u64; 2],
    /// The signals that the program blocks.
    signals: u64,
}

impl CopyBase {
    /// Whether the copies can neither trace nor signal the template.
    #[must_use]
    pub fn protects_template(&self) -> bool {
        self.ruleset.is_some()
    }

    /// The first step: the copy answers that it is there.
    #[must_use]
    pub fn begin(&self) -> CopySteps {
        let mut steps = CopySteps::new(self.open.clone(), self.data);
        steps.answer(self.channel, COPIED);
        steps
    }

    /// The message for a copy that takes these steps, which were begun here.
    ///
    /// # Errors
    /// It is longer than [`MOST_BYTES`].
    pub fn finish(&self, steps: CopySteps) -> io::Result<Vec<u8>> {
        let mut steps = self.last_steps(steps);
        steps.close(self.channel);
        steps.take_accepted();
        steps.stop_if_asked();
        checked(steps.end())
    }

    /// The same for a copy that only tries the steps: it then answers with [`Answer::Tried`], and
    /// exits.
    ///
    /// # Errors
    /// The same.
    pub fn finish_trial(&self, steps: CopySteps) -> io::Result<Vec<u8>> {
        let mut steps = self.last_steps(steps);
        steps.answer(self.channel, TRIED);
        steps.exit();
        checked(steps.end())
    }

    fn last_steps(&self, mut steps: CopySteps) -> CopySteps {
        if self.cleared != 0 {
            steps.name_thread(self.cleared, self.thread_id);
        }
        if self.robust_list[0] != 0 {
            steps.register_robust_list(self.robust_list);
        }
        if self.gives_up_privileges && (self.ruleset.is_some() || steps.accepting.is_some()) {
            steps.give_up_privileges();
        }
        if let Some(ruleset) = self.ruleset {
            steps.restrict(ruleset);
        }
        steps.end_at_next_accept(self.code);
        steps.drop_capabilities_if_asked();
        if !layout::IMAGE_HAS_SIGNALS {
            steps.block_signals(self.signals);
        }
        steps
    }

    /// It as numbers, for another process.
    #[must_use]
    pub fn to_words(&self) -> Vec<u64> {
        let number = |number: i32| i64::from(number).cast_unsigned();
        let head = [
            self.code,
            self.data,
            number(self.channel),
            number(self.ruleset.unwrap_or(-1)),
            self.gives_up_privileges.into(),
            self.cleared,
            self.thread_id,
            self.robust_list[0],
            self.robust_list[1],
            self.signals,
        ];
        head.into_iter().chain(self.open.iter().map(|open| number(*open))).collect()
    }

    /// The reverse of [`CopyBase::to_words`]; `None` for other numbers.
    #[must_use]
    pub fn from_words(words: &[u64]) -> Option<CopyBase> {
        let number = |word: u64| i32::try_from(word.cast_signed()).ok();
        let [code, data, channel, ruleset, privileges, cleared, thread_id, head, length, signals, open @ ..] =
            words
        else {
            return None;
        };
        Some(CopyBase {
            open: open.iter().map(|word| number(*word)).collect::<Option<_>>()?,
            code: *code,
            data: *data,
            channel: number(*channel)?,
            ruleset: Some(number(*ruleset)?).filter(|ruleset| *ruleset >= 0),
            gives_up_privileges: *privileges != 0,
            cleared: *cleared,
            thread_id: *thread_id,
            robust_list: [*head, *length],
            signals: *signals,
        })
    }
}

/// What a copy answers first.
const COPIED: [u64; 2] = [1, 0];

/// What a copy answers that has tried its steps.
const TRIED: [u64; 2] = [u64::MAX, 1];

fn checked(message: Vec<u8>) -> io::Result<Vec<u8>> {
    match message.len() <= MOST_BYTES {
        true => Ok(message),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Templates cannot be made on this architecture.
///
/// # Errors
/// Always.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn plant(
    _tracer: &mut crate::trace::Tracer<'_>,
    _task: i32,
    _planting: &Planting,
) -> io::Result<Template> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "not on this architecture"))
}

/// The stack canary of a program that its tracer has stopped: a random word that functions leave on
/// the stack and check; `None` if it has none. On x86-64 it belongs to the thread (System V ABI);
/// elsewhere it is in memory that cannot be written.
#[must_use]
pub fn canary(task: i32) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    return registers::canary(task).filter(|canary| *canary != 0);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = task;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_the_same_as_numbers() {
        for ruleset in [None, Some(4)] {
            let base = CopyBase {
                open: BTreeSet::from([0, 1, 2, 9]),
                code: 0x7fff_0000_0000,
                data: 0x7fff_0000_1000,
                channel: 3,
                ruleset,
                gives_up_privileges: true,
                cleared: 5,
                thread_id: 6,
                robust_list: [7, 24],
                signals: u64::MAX,
            };
            assert_eq!(CopyBase::from_words(&base.to_words()), Some(base));
        }
        assert_eq!(CopyBase::from_words(&[1, 2, 3]), None);
        assert_eq!(CopyBase::from_words(&[u64::MAX - (1 << 40); 11]), None);
    }
}
