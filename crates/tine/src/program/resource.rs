//! Resource limits of a program (setrlimit(2)).

use tine_sys::exec::LIMITS;

use crate::error::named;

/// A resource that can be limited (setrlimit(2)). The names are those of systemd.exec(5) without
/// `Limit`, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Processor time, in seconds.
    Cpu,
    /// The size of a file that it writes, in bytes.
    Fsize,
    /// The size of the data segment, in bytes.
    Data,
    /// The size of the stack, in bytes.
    Stack,
    /// The size of a core file, in bytes.
    Core,
    /// The resident set, in bytes; without effect since Linux 2.6.
    Rss,
    /// The number of open files.
    Nofile,
    /// The size of the address space, in bytes.
    As,
    /// The number of processes of its user.
    Nproc,
    /// Locked memory, in bytes.
    Memlock,
    /// The number of file locks; without effect since Linux 2.4.
    Locks,
    /// The number of queued signals of its user.
    Sigpending,
    /// The size of POSIX message queues of its user, in bytes.
    Msgqueue,
    /// The ceiling of the nice value, as 20 minus that value.
    Nice,
    /// The real-time priority.
    Rtprio,
    /// Processor time of real-time scheduling without a blocking system call, in microseconds.
    Rttime,
}

named!(Resource {
    Cpu = "cpu",
    Fsize = "fsize",
    Data = "data",
    Stack = "stack",
    Core = "core",
    Rss = "rss",
    Nofile = "nofile",
    As = "as",
    Nproc = "nproc",
    Memlock = "memlock",
    Locks = "locks",
    Sigpending = "sigpending",
    Msgqueue = "msgqueue",
    Nice = "nice",
    Rtprio = "rtprio",
    Rttime = "rttime",
});

impl Resource {
    /// The value of a limit that does not limit (`RLIM_INFINITY`).
    pub const INFINITY: u64 = u64::MAX;

    pub(super) fn with(self, soft: u64, hard: u64) -> tine_sys::exec::Limit {
        tine_sys::exec::Limit { resource: LIMITS[self as usize].1, soft, hard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_has_its_number() {
        let names: Vec<&str> = LIMITS.iter().map(|(name, _)| *name).collect();
        assert_eq!(Resource::NAMES, names);
        for (name, number) in LIMITS {
            let resource: Resource = name.parse().expect(name);
            assert_eq!((resource.to_string().as_str(), resource.with(1, 2).resource), (name, number));
        }
    }
}
