//! What a program has at the point that it could be copied at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::call::FileVersion;
use super::copies::MemoryFinds;
use super::file_changes::FileChanges;
use super::watch::Reached;

/// A descriptor besides those of the connection and the inherited standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundDescriptor {
    pub(super) number: i32,
    pub(super) kind: DescriptorKind,
}

/// The kinds of descriptors, by what copies of a process would share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DescriptorKind {
    /// Nothing is shared that matters, as of `/dev/null` and signalfd(2).
    Harmless,
    /// A file or a directory, with an offset.
    File {
        path: String,
        offset: u64,
        /// The flags of open(2).
        flags: u32,
        /// Why it cannot be opened again, by each copy for itself, if so.
        hindrance: Option<String>,
    },
    /// The file of another descriptor, with the same offset: each copy makes it a duplicate again.
    SameAs(i32),
    /// A counter (eventfd(2)).
    Eventfd,
    /// An epoll instance with this many members.
    Epoll(usize),
    /// A timer (timerfd_create(2)).
    Timerfd,
    /// Rings of io_uring(7).
    IoUring,
    /// A socket other than the connection.
    Socket,
    /// An end of a pipe.
    Pipe,
    /// Something else, as the kernel names it.
    Other(String),
}

/// All that is known of a program that was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Census {
    /// Where it has stopped.
    pub(super) reached: Reached,
    /// The time that it had for it.
    pub(super) timeout: Duration,
    /// The programs that it executed one after the other, the last one runs.
    pub(super) programs: Vec<String>,
    /// System calls up to here.
    pub(super) calls: u64,
    /// The time up to here.
    pub(super) elapsed: Duration,
    /// Threads that it has started.
    pub(super) threads_started: usize,
    /// Armed interval timers.
    pub(super) interval_timers: usize,
    /// The files that it has opened or executed.
    pub(super) sources: BTreeMap<PathBuf, FileVersion>,
    /// The names of files that it and its children have changed.
    pub(super) file_changes: FileChanges,
    /// What the kernel shows of it.
    pub(super) shown: Shown,
}

/// What the kernel shows of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Threads besides the first one.
    pub(super) threads: usize,
    /// The names of its children.
    pub(super) children: Vec<String>,
    pub(super) descriptors: Vec<FoundDescriptor>,
    /// Locks on files, as `FLOCK WRITE /run/lock`.
    pub(super) locks: Vec<String>,
    /// Timers of timer_create(2), armed or not.
    pub(super) timers: usize,
    /// Mappings that it shares and can write.
    pub(super) shared_memory: Vec<String>,
    /// What it has that a copy of a process does not get (fork(2)): signals that are pending, and
    /// properties of memory.
    pub(super) lost: Vec<&'static str>,
    /// Memory that a copy has to copy when it writes it, in KiB.
    pub(super) private_kib: u64,
    /// Its user and its group, as this process numbers them.
    pub(super) ids: [u32; 2],
    /// How its rights differ from those that it was started with, if they do.
    pub(super) rights: Option<String>,
    /// Whether it has a filter of system calls that it was not started with.
    pub(super) own_filter: bool,
    /// Whether it has a pid namespace in which the server is not.
    pub(super) is_inside: bool,
    /// What its memory has of its connection.
    pub(super) found: MemoryFinds,
    /// All of its descriptors, and those of them that are closed at an execution.
    pub(super) open: BTreeSet<i32>,
    pub(super) close_on_exec: BTreeSet<i32>,
    /// Those that are its connection.
    pub(super) connection: Vec<Duplicate>,
    /// Those that are the standard error that it was executed with.
    pub(super) stderr: Vec<Duplicate>,
}

/// A descriptor that each copy of the program has another file in the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) number: i32,
    pub(super) closes_on_exec: bool,
}
