//! Resource limits of a program.

/// A limit that the program starts with (setrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which.
    pub resource: Resource,
    /// Soft and hard value; `u64::MAX` is no limit.
    pub soft: u64,
    /// See `soft`.
    pub hard: u64,
}

/// The number of a limit: `RLIMIT_…`.
pub type Resource = libc::__rlimit_resource_t;

/// Numbers of the limits, by the names of systemd.exec(5) without `Limit`, in lower case.
pub const LIMITS: [(&str, Resource); 16] = [
    ("cpu", libc::RLIMIT_CPU),
    ("fsize", libc::RLIMIT_FSIZE),
    ("data", libc::RLIMIT_DATA),
    ("stack", libc::RLIMIT_STACK),
    ("core", libc::RLIMIT_CORE),
    ("rss", libc::RLIMIT_RSS),
    ("nofile", libc::RLIMIT_NOFILE),
    ("as", libc::RLIMIT_AS),
    ("nproc", libc::RLIMIT_NPROC),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("locks", libc::RLIMIT_LOCKS),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
];
