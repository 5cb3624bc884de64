//! Resource limits of a program.

use std::io;

use rustix::process as sys;

use crate::about;

/// A limit that a program starts with (setrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The resource that is limited.
    pub resource: Resource,
    /// The soft limit, in the unit of the resource; `u64::MAX` is no limit.
    pub soft: u64,
    /// The hard limit, likewise.
    pub hard: u64,
}

/// A resource that can be limited: `RLIMIT_…` of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Processor time, in seconds.
    Cpu,
    /// Size of a file that the process writes, in bytes.
    Fsize,
    /// Size of the data segment, in bytes.
    Data,
    /// Size of the stack, in bytes.
    Stack,
    /// Size of a core file, in bytes.
    Core,
    /// Resident memory, in bytes; without effect since Linux 2.4.30.
    Rss,
    /// One more than the highest file descriptor.
    Nofile,
    /// Size of the address space, in bytes.
    As,
    /// Processes and threads of the user.
    Nproc,
    /// Locked memory, in bytes.
    Memlock,
    /// File locks; without effect since Linux 2.4.25.
    Locks,
    /// Queued signals of the user.
    Sigpending,
    /// Memory of the user's POSIX message queues, in bytes.
    Msgqueue,
    /// 20 minus the lowest nice value.
    Nice,
    /// Highest real-time priority.
    Rtprio,
    /// Processor time without a blocking system call under a real-time policy, in microseconds.
    Rttime,
}

/// The resources by the names of systemd.exec(5), without `Limit` and in lower case.
pub const LIMITS: [(&str, Resource); 16] = [
    ("cpu", Resource::Cpu),
    ("fsize", Resource::Fsize),
    ("data", Resource::Data),
    ("stack", Resource::Stack),
    ("core", Resource::Core),
    ("rss", Resource::Rss),
    ("nofile", Resource::Nofile),
    ("as", Resource::As),
    ("nproc", Resource::Nproc),
    ("memlock", Resource::Memlock),
    ("locks", Resource::Locks),
    ("sigpending", Resource::Sigpending),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
];

impl Limit {
    /// Sets the limit for this process.
    pub(crate) fn set(self) -> io::Result<()> {
        let value = |limit| (limit != u64::MAX).then_some(limit);
        let limit = sys::Rlimit { current: value(self.soft), maximum: value(self.hard) };
        sys::setrlimit(self.resource.into(), limit).map_err(|why| {
            let name = LIMITS.iter().find(|(_, resource)| *resource == self.resource).map_or("", |row| row.0);
            about(format_args!("its limit {name}"), &why.into())
        })
    }
}

impl From<Resource> for sys::Resource {
    fn from(resource: Resource) -> sys::Resource {
        match resource {
            Resource::Cpu => sys::Resource::Cpu,
            Resource::Fsize => sys::Resource::Fsize,
            Resource::Data => sys::Resource::Data,
            Resource::Stack => sys::Resource::Stack,
            Resource::Core => sys::Resource::Core,
            Resource::Rss => sys::Resource::Rss,
            Resource::Nofile => sys::Resource::Nofile,
            Resource::As => sys::Resource::As,
            Resource::Nproc => sys::Resource::Nproc,
            Resource::Memlock => sys::Resource::Memlock,
            Resource::Locks => sys::Resource::Locks,
            Resource::Sigpending => sys::Resource::Sigpending,
            Resource::Msgqueue => sys::Resource::Msgqueue,
            Resource::Nice => sys::Resource::Nice,
            Resource::Rtprio => sys::Resource::Rtprio,
            Resource::Rttime => sys::Resource::Rttime,
        }
    }
}
