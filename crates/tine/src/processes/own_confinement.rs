//! What each process of the server confines itself to. ARCHITECTURE.md has the table, and the
//! reasons why the other processes have no such protection.
//!
//! A call that a filter refuses ends the process (SIGSYS): it is taken over, or at fault, and its
//! supervisor starts another one. The log writer gets an error instead, as it may be the only one
//! to tell what has happened; and the link, as libraries of the system resolve names in it.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tine_sys::call_notices::requests;
use tine_sys::jail::{has_filters, landlock_version};

use crate::error::{next_move, reason};
use crate::jail::filter::RefusedCall;
use crate::jail::layer::Layer;
use crate::jail::protection::{CallWith, FileUse, OwnCalls, OwnFiles, Protection, empty_bounding_set};
use crate::log::Log;

/// A process that confines itself.
#[derive(Clone, Debug)]
pub(crate) enum ConfinedRole {
    Rejector,
    Delayer,
    ProxyReader,
    /// With the directory of crash reports, if it writes them.
    StderrLogger(Option<PathBuf>),
    /// The control process of a supervisor or a master.
    Control,
    Observer,
    /// With the files and directories in which it opens the log file; `None` where a daemon takes
    /// the lines.
    LogWriter(Option<Vec<PathBuf>>),
    CgroupCleaner,
    /// And the first processes of rooms, which it forks.
    Jailer,
    Connector,
    /// The link to other nodes, with the files that it reads and the ports that it connects to.
    Link(Vec<PathBuf>, Vec<u16>),
}

/// Calls of a process that waits for descriptors, reads and writes them, passes them on, allocates
/// memory, and exits.
const SERVES: &[&str] = &[
    "brk",
    "clock_gettime",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "read",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sendmsg",
    "sendto",
    "write",
];

/// Those that end the sending of a socket.
const ENDS_STREAMS: &[&str] = &["shutdown"];

/// Those that accept clients, and ask the server over new pairs of sockets.
const OBSERVES: &[&str] = &[
    "accept4",
    "clock_nanosleep",
    "fcntl",
    "getpeername",
    "getsockname",
    "getsockopt",
    "ioctl",
    "readv",
    "sched_yield",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "socketpair",
    "writev",
];

/// Those that connect to a bus, resolve names in threads, and ask the server over new pairs of
/// sockets.
const LINKS: &[&str] = &[
    "clock_nanosleep",
    "connect",
    "fcntl",
    "fstat",
    "getpeername",
    "getsockname",
    "getsockopt",
    "ioctl",
    "lseek",
    "lstat",
    "newfstatat",
    "readv",
    "recvmmsg",
    "rseq",
    "sched_getaffinity",
    "sched_yield",
    "sendmmsg",
    "set_robust_list",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "socketpair",
    "stat",
    "statx",
    "uname",
    "writev",
];

/// Those that open files, and say which file a path leads to.
const OPENS_FILES: &[&str] = &[
    "fstat",
    "getcwd",
    "lseek",
    "lstat",
    "newfstatat",
    "open",
    "openat",
    "readlink",
    "readlinkat",
    "stat",
    "statx",
];

/// Those that list, rename and remove files, and make files in memory.
const KEEPS_FILES: &[&str] = &[
    "fdatasync",
    "getdents64",
    "memfd_create",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
];

/// Those that connect a new socket.
const CONNECTS: &[&str] = &["connect"];

/// Those that look at callers in jails, and connect in their place.
const CONNECTS_FOR_OTHERS: &[&str] =
    &["connect", "getsockopt", "pidfd_getfd", "pidfd_open", "process_vm_readv", "setsockopt"];

/// `AF_INET` and `AF_INET6` (socket(2)).
const INTERNET_SOCKETS: CallWith = CallWith { call: "socket", argument: 0, values: &[2, 10] };

/// `F_GETFL` and `F_SETFL` (fcntl(2)).
const FILE_FLAGS: CallWith = CallWith { call: "fcntl", argument: 1, values: &[3, 4] };

/// `O_RDONLY` and `O_CLOEXEC` (open(2)), with `O_LARGEFILE` of either kind of architecture; to the
/// other kind, that is `O_NOFOLLOW`.
const READS_FILES: CallWith =
    CallWith { call: "openat", argument: 2, values: &[0o2_000_000, 0o2_100_000, 0o2_400_000] };

/// The same of open(2) itself, as musl calls it.
const OPENS_TO_READ: CallWith =
    CallWith { call: "open", argument: 1, values: &[0o2_000_000, 0o2_100_000, 0o2_400_000] };

/// The flags of a thread, as glibc and musl have them (clone(2)). Both fall back to it where
/// clone3(2) fails, whose flags a filter cannot see.
const THREADS: CallWith = CallWith { call: "clone", argument: 0, values: &[0x3d_0f00, 0x7d_0f00] };

/// `PR_SET_NAME` (prctl(2)).
const NAMES_THREADS: CallWith = CallWith { call: "prctl", argument: 0, values: &[15] };

/// `FIONREAD`, and the requests of a listener for calls (ioctl(2)).
const ANSWERS_CALLS: CallWith = CallWith {
    call: "ioctl",
    argument: 1,
    values: &[
        0x541b,
        requests::RECEIVE as u64,
        requests::ANSWER as u64,
        requests::IS_WAITING as u64,
        requests::PUT as u64,
    ],
};

/// Asks whether a descriptor is open, as Rust's standard library does before it closes one where
/// debug assertions are enabled, and marks one as close-on-exec, as musl does after open(2):
/// `F_GETFD`, `F_SETFD`.
const DESCRIPTOR_FLAGS: CallWith = CallWith { call: "fcntl", argument: 1, values: &[1, 2] };

/// `FIONREAD` and `FIONBIO` (ioctl(2)). Another request writes to a terminal as its user would.
const PIPE_STATE: CallWith = CallWith { call: "ioctl", argument: 1, values: &[0x541b, 0x5421] };

/// `AF_UNIX` (socket(2)).
const LOCAL_SOCKETS: CallWith = CallWith { call: "socket", argument: 0, values: &[1] };

impl ConfinedRole {
    /// The protections of this process: the table.
    fn protection(&self) -> Protection {
        let (any, with): (&[&[&str]], &[CallWith]) = match self {
            ConfinedRole::Delayer | ConfinedRole::ProxyReader | ConfinedRole::Control => (&[], &[]),
            ConfinedRole::Rejector => (&[ENDS_STREAMS], &[]),
            ConfinedRole::StderrLogger(None) => (&[], &[PIPE_STATE]),
            ConfinedRole::StderrLogger(Some(_)) => (&[OPENS_FILES, KEEPS_FILES], &[PIPE_STATE]),
            ConfinedRole::Observer => (&[OBSERVES], &[]),
            ConfinedRole::LogWriter(Some(_)) => (&[OPENS_FILES], &[]),
            ConfinedRole::LogWriter(None) => (&[CONNECTS], &[LOCAL_SOCKETS]),
            ConfinedRole::Connector => {
                (&[CONNECTS_FOR_OTHERS], &[INTERNET_SOCKETS, FILE_FLAGS, READS_FILES, ANSWERS_CALLS])
            }
            ConfinedRole::Link(..) => {
                (&[LINKS], &[INTERNET_SOCKETS, READS_FILES, OPENS_TO_READ, THREADS, NAMES_THREADS])
            }
            // They serve nobody: they remove cgroups and kill, or build the rooms of a jail.
            ConfinedRole::CgroupCleaner | ConfinedRole::Jailer => {
                return Protection {
                    capabilities: self.capabilities(),
                    files: OwnFiles::Any,
                    ports: Vec::new(),
                    calls: None,
                };
            }
        };
        let any = any.iter().chain(&[SERVES]).flat_map(|calls| calls.iter().copied()).collect();
        let with = with.iter().chain(&[DESCRIPTOR_FLAGS]).copied().collect();
        let calls = OwnCalls { any, with, refused: self.refusal() };
        let files = match self {
            // In a domain of Landlock, it could not look at processes outside of that (ptrace(2)).
            ConfinedRole::Connector => OwnFiles::Any,
            _ => OwnFiles::Only(self.files()),
        };
        let ports = match self {
            ConfinedRole::Link(_, ports) => ports.clone(),
            _ => Vec::new(),
        };
        Protection { capabilities: self.capabilities(), files, ports, calls: Some(calls) }
    }

    /// The capabilities that it needs, of those that the server has.
    fn capabilities(&self) -> CapabilitySet {
        match self {
            // Their directory may belong to another user.
            ConfinedRole::StderrLogger(Some(_)) | ConfinedRole::LogWriter(_) => CapabilitySet::DAC_OVERRIDE,
            ConfinedRole::CgroupCleaner => CapabilitySet::DAC_OVERRIDE | CapabilitySet::KILL,
            // To keep a socket of TCP to its peer, on kernels that have restricted that.
            ConfinedRole::Connector => CapabilitySet::NET_ADMIN,
            // Those over its user namespace.
            ConfinedRole::Jailer => CapabilitySet::all(),
            _ => CapabilitySet::empty(),
        }
    }

    /// The files that it may use.
    fn files(&self) -> Vec<(PathBuf, FileUse)> {
        match self {
            ConfinedRole::StderrLogger(Some(directory)) => vec![(directory.clone(), FileUse::Keep)],
            ConfinedRole::LogWriter(Some(paths)) => {
                paths.iter().map(|path| (path.clone(), FileUse::Append)).collect()
            }
            ConfinedRole::Link(paths, _) => paths.iter().map(|path| (path.clone(), FileUse::Read)).collect(),
            _ => Vec::new(),
        }
    }

    fn refusal(&self) -> RefusedCall {
        match self {
            ConfinedRole::LogWriter(_) => RefusedCall::Error(Errno::PERM),
            // As of a kernel without it: what resolves names does without, too.
            ConfinedRole::Link(..) => RefusedCall::Error(Errno::NOSYS),
            _ => RefusedCall::Kill,
        }
    }

    /// Confines this process, which has one thread, for the rest of its life. Returns a warning for
    /// each layer that is not in force, and that [`warn_of_refused_layers`] is silent about.
    pub(crate) fn confine(&self, name: &str) -> Vec<String> {
        let refused = self.protection().enter();
        let is_known = |layer| layer == Layer::SystemCalls && has_filters().is_err();
        let refused = refused.into_iter().filter(|(layer, _)| !is_known(*layer));
        let warning = |(layer, why): (Layer, std::io::Error)| {
            let next = next_move::of_call(&why);
            format!("the {name} is not confined by {}: {}; {next}", layer.name(), reason(&why))
        };
        refused.map(warning).collect()
    }
}

/// Warns once, in the first process of a server, of the layers that the system refuses to all
/// processes of the server. A kernel without Landlock is not warned of: the filters leave few calls
/// that it would forbid.
pub(crate) fn warn_of_refused_layers(log: &mut Log) {
    let no_landlock = [Errno::NOSYS, Errno::OPNOTSUPP].map(|errno| Some(errno.raw_os_error()));
    let landlock = landlock_version()
        .map(drop)
        .or_else(|why| if no_landlock.contains(&why.raw_os_error()) { Ok(()) } else { Err(why) });
    for (name, call, checked) in
        [("seccomp", "seccomp(2)", has_filters()), ("Landlock", "landlock_create_ruleset(2)", landlock)]
    {
        if let Err(why) = checked {
            let why = reason(&why);
            log.warning(&format!(
                "the server's own processes are not confined by {name}: {why}; permit {call} to the server"
            ));
        }
    }
}

/// Confines this process as the observer of a server.
///
/// # Errors
/// A layer that the system refuses; the others are in force.
pub fn confine_observer() -> std::io::Result<()> {
    let refused = ConfinedRole::Observer.protection().enter();
    refused.into_iter().next().map_or(Ok(()), |(_, why)| Err(why))
}

/// Confines this process as the link of a server. It may read these files, and connect TCP sockets
/// to these ports.
///
/// # Errors
/// A layer that the system refuses; the others are in force.
pub fn confine_link(files: &[PathBuf], ports: &[u16]) -> std::io::Result<()> {
    let refused = ConfinedRole::Link(files.to_vec(), ports.to_vec()).protection().enter();
    refused.into_iter().next().map_or(Ok(()), |(_, why)| Err(why))
}

/// Confines this process as one of a server, by the name that ARCHITECTURE.md has for it. For the
/// tests of what it can still do. `path` is where it may use files, if it may.
///
/// # Panics
/// There is no such process, or the system refuses a layer.
pub fn confine_for_test(name: &str, path: &Path, has_filter: bool) {
    let role = match name {
        "rejector" => ConfinedRole::Rejector,
        "delayer" => ConfinedRole::Delayer,
        "proxy reader" => ConfinedRole::ProxyReader,
        "stderr logger" => ConfinedRole::StderrLogger(None),
        "stderr logger with crash reports" => ConfinedRole::StderrLogger(Some(path.to_owned())),
        "control process" => ConfinedRole::Control,
        "observer" => ConfinedRole::Observer,
        "log writer" => ConfinedRole::LogWriter(Some(vec![path.to_owned()])),
        "log writer of a daemon" => ConfinedRole::LogWriter(None),
        "cgroup cleaner" => ConfinedRole::CgroupCleaner,
        "connector" => ConfinedRole::Connector,
        "link" => ConfinedRole::Link(vec![path.join("old")], Vec::new()),
        other => panic!("{other:?} confines itself to nothing"),
    };
    let protection = role.protection();
    empty_bounding_set();
    let refused = if has_filter { protection.enter() } else { protection.enter_without_filter() };
    assert!(refused.is_empty(), "{refused:?}");
}
