//! Decides from a census whether a program can be started warm: whether each copy of it, made at
//! the point where it stopped, would serve its client as the program itself would.

use std::fmt;

use tine_sys::process::How;

use super::census::{Census, DescriptorKind, Shown};
use super::options::WarmAllow;
use super::stop::Marker;
use super::watch::Reached;
use crate::error::one_line;

/// Whether a program can be started warm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WarmVerdict {
    /// It can.
    Warm,
    /// It cannot, for these reasons.
    Refused(Vec<Hindrance>),
}

/// Why a program cannot be started warm. [`fmt::Display`] writes what was found, why that matters,
/// and the next move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// There is no point to copy it at.
    NotReached(Reached, std::time::Duration),
    /// Threads besides the first.
    Threads(usize),
    /// It has started threads, all of which have ended.
    ThreadsEnded(usize),
    /// Children, by their names.
    Children(Vec<String>),
    /// Rights that differ from those of its caller.
    Rights(String),
    /// Timers that are armed, or can be.
    Timers(usize),
    /// A file with an offset that all copies would share.
    SharedOffset(i32, String, String),
    /// A descriptor of a kind that copies cannot share.
    Descriptor(i32, DescriptorKind),
    /// Locks on files.
    Locks(Vec<String>),
    /// Memory that copies would share.
    SharedMemory(Vec<String>),
    /// What a copy does not get.
    Lost(Vec<&'static str>),
    /// Variables of the connection that it has copied.
    Variables(Vec<&'static str>),
    /// A filter of its own.
    Filter,
    /// Names of files that it has changed where each copy has a file system of its own.
    OutsideOfRoom(Vec<String>),
}

/// The verdict about a program, where these hindrances are allowed.
pub(super) fn decide(census: &Census, allowed: &[WarmAllow]) -> WarmVerdict {
    let mut reasons = hindrances(census);
    reasons.retain(|reason| !reason.is_allowed(allowed));
    if reasons.is_empty() { WarmVerdict::Warm } else { WarmVerdict::Refused(reasons) }
}

/// All that is in the way, allowed or not.
pub(super) fn hindrances(census: &Census) -> Vec<Hindrance> {
    if !census.reached.is_point() {
        return vec![Hindrance::NotReached(census.reached.clone(), census.timeout)];
    }
    let shown = &census.shown;
    let mut reasons = Vec::new();
    match (shown.threads, census.threads_started) {
        (0, 0) => {}
        (0, started) => reasons.push(Hindrance::ThreadsEnded(started)),
        (threads, _) => reasons.push(Hindrance::Threads(threads)),
    }
    if !shown.children.is_empty() {
        reasons.push(Hindrance::Children(shown.children.clone()));
    }
    reasons.extend(shown.rights.clone().map(Hindrance::Rights));
    let timers = census.interval_timers + shown.timers;
    if timers > 0 {
        reasons.push(Hindrance::Timers(timers));
    }
    reasons.extend(of_descriptors(shown));
    if !shown.locks.is_empty() {
        reasons.push(Hindrance::Locks(shown.locks.clone()));
    }
    if !shown.shared_memory.is_empty() {
        reasons.push(Hindrance::SharedMemory(shown.shared_memory.clone()));
    }
    if !shown.lost.is_empty() {
        reasons.push(Hindrance::Lost(shown.lost.clone()));
    }
    if !shown.found.private.is_empty() && !census.reached.renews_variables() {
        reasons.push(Hindrance::Variables(shown.found.private.iter().copied().collect()));
    }
    if shown.own_filter {
        reasons.push(Hindrance::Filter);
    }
    reasons
}

fn of_descriptors(shown: &Shown) -> impl Iterator<Item = Hindrance> + '_ {
    shown.descriptors.iter().filter_map(|found| match &found.kind {
        DescriptorKind::Harmless | DescriptorKind::SameAs(_) => None,
        DescriptorKind::File { path, hindrance, .. } => {
            Some(Hindrance::SharedOffset(found.number, path.clone(), hindrance.clone()?))
        }
        kind => Some(Hindrance::Descriptor(found.number, kind.clone())),
    })
}

impl Hindrance {
    /// The kind that has to be allowed for the program to be started warm in spite of it; `None` if
    /// it cannot be.
    pub(super) fn kind(&self) -> Option<WarmAllow> {
        match self {
            Hindrance::ThreadsEnded(_) => Some(WarmAllow::ThreadExited),
            Hindrance::Timers(_) => Some(WarmAllow::Timer),
            Hindrance::Locks(_) => Some(WarmAllow::Flock),
            Hindrance::SharedMemory(_) => Some(WarmAllow::SharedMemory),
            Hindrance::Variables(_) => Some(WarmAllow::Variables),
            Hindrance::Descriptor(_, kind) => match kind {
                DescriptorKind::Eventfd => Some(WarmAllow::Eventfd),
                DescriptorKind::Epoll(_) => Some(WarmAllow::Epoll),
                DescriptorKind::Timerfd => Some(WarmAllow::Timerfd),
                DescriptorKind::Socket => Some(WarmAllow::Socket),
                DescriptorKind::Pipe => Some(WarmAllow::Pipe),
                DescriptorKind::Harmless
                | DescriptorKind::File { .. }
                | DescriptorKind::SameAs(_)
                | DescriptorKind::IoUring
                | DescriptorKind::Other(_) => None,
            },
            Hindrance::NotReached(..)
            | Hindrance::Threads(_)
            | Hindrance::Children(_)
            | Hindrance::Rights(_)
            | Hindrance::SharedOffset(..)
            | Hindrance::Lost(_)
            | Hindrance::OutsideOfRoom(_)
            | Hindrance::Filter => None,
        }
    }

    pub(super) fn is_allowed(&self, allowed: &[WarmAllow]) -> bool {
        self.kind().is_some_and(|kind| allowed.contains(&kind))
    }

    /// The row of the report that it belongs to.
    pub(super) fn aspect(&self) -> &'static str {
        match self {
            Hindrance::NotReached(..) => "stop",
            Hindrance::Threads(_) | Hindrance::ThreadsEnded(_) => "threads",
            Hindrance::Children(_) => "children",
            Hindrance::Rights(_) => "rights",
            Hindrance::Timers(_) => "timers",
            Hindrance::SharedOffset(..) | Hindrance::Descriptor(..) => "descriptors",
            Hindrance::Locks(_) => "locks",
            Hindrance::SharedMemory(_) | Hindrance::Lost(_) => "memory",
            Hindrance::Variables(_) => "variables",
            Hindrance::Filter => "filter",
            Hindrance::OutsideOfRoom(_) => "files",
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hindrance::NotReached(reached, timeout) => not_reached(f, reached, *timeout),
            Hindrance::Threads(count) => write!(
                f,
                "{count} besides the first: a copy of a process has one thread, and the locks of the others; start threads after the client is there"
            ),
            Hindrance::ThreadsEnded(count) => write!(
                f,
                "{count} started and ended: a copy may expect what they were for; allow thread-exited if they only prepared something"
            ),
            Hindrance::Children(names) => write!(
                f,
                "{}: children of the program are not children of its copies; start them after the client is there",
                one_line(&names.join(", "))
            ),
            Hindrance::Rights(what) => write!(
                f,
                "{}: a process that traces a program must not gain its rights; start one without them",
                one_line(what)
            ),
            Hindrance::Timers(count) => write!(
                f,
                "{count} set: a copy of a process has none; set timers after the client is there, or allow timer if none has to expire"
            ),
            Hindrance::SharedOffset(number, path, why) => write!(
                f,
                "{number} is {}, {why}: all copies would share one offset; open it after the client is there",
                one_line(path)
            ),
            Hindrance::Descriptor(number, kind) => of_kind(f, *number, kind),
            Hindrance::Locks(locks) => write!(
                f,
                "{}: copies would share or lose a lock on a file; lock after the client is there, or allow flock",
                one_line(&locks.join(", "))
            ),
            Hindrance::SharedMemory(maps) => write!(
                f,
                "{} shared: all copies would write to the same memory; map it after the client is there, or allow shared-memory",
                one_line(&maps.join(", "))
            ),
            Hindrance::OutsideOfRoom(paths) => write!(
                f,
                "{} changed, where each copy has an empty file system of its own; make files there after the client is there, or have copies share the room of their template (`--jail-init yes`)",
                one_line(&paths.join(", "))
            ),
            Hindrance::Lost(what) => write!(
                f,
                "{}: a copy of a process has none; make them after the client is there",
                what.join(", ")
            ),
            Hindrance::Variables(names) => write!(
                f,
                "{} copied by the program: it would show each client the values of another; read the C library's getenv, or renew them after a look at /.tine/ready/variables, or allow variables if none is read",
                names.join(", ")
            ),
            Hindrance::Filter => f.write_str(
                "the program has set one of its own: calls that make a copy may be forbidden; set it after the client is there",
            ),
        }
    }
}

fn of_kind(f: &mut fmt::Formatter<'_>, number: i32, kind: &DescriptorKind) -> fmt::Result {
    let (what, why, next) = match kind {
        DescriptorKind::Eventfd => ("an eventfd", "copies would wake each other", "allow eventfd"),
        DescriptorKind::Epoll(members) => {
            return write!(
                f,
                "{number} is an epoll instance with {members} members: copies would get the events of each other; make it after the client is there, or allow epoll if none uses it"
            );
        }
        DescriptorKind::Timerfd => {
            ("a timerfd", "copies would take each other's expirations", "allow timerfd")
        }
        DescriptorKind::IoUring => {
            return write!(
                f,
                "{number} is an io_uring: its rings are shared memory of one process; set it up after the client is there"
            );
        }
        DescriptorKind::Socket => {
            ("a socket besides the connection", "copies would read each other's bytes", "allow socket")
        }
        DescriptorKind::Pipe => ("a pipe", "copies would read each other's bytes", "allow pipe"),
        DescriptorKind::Other(name) => {
            return write!(
                f,
                "{number} is {}: whether copies can share it is not known; open it after the client is there",
                one_line(name)
            );
        }
        DescriptorKind::Harmless | DescriptorKind::File { .. } | DescriptorKind::SameAs(_) => {
            return write!(f, "{number} is harmless");
        }
    };
    write!(f, "{number} is {what}: {why}; open it after the client is there, or {next} if none uses it")
}

const SERVE_COLD: &str = "serve it by execution";

fn not_reached(f: &mut fmt::Formatter<'_>, reached: &Reached, timeout: std::time::Duration) -> fmt::Result {
    match reached {
        Reached::Use(..) | Reached::Marker(..) | Reached::Accept(_) => f.write_str("reached"),
        Reached::Ended(how) => ended(f, *how),
        Reached::Halted(signal) => {
            write!(
                f,
                "signal {signal} stopped it before it used its connection: it waits to be continued; let it run on by itself"
            )
        }
        Reached::TimedOut(call) => {
            let call = call.map(|call| format!(", and waits in {call}")).unwrap_or_default();
            let time = humantime::format_duration(timeout);
            write!(
                f,
                "it did not use its connection within {time}{call}: there is no point to copy it at; give it more time, or {SERVE_COLD}"
            )
        }
        Reached::UsedBefore(call, number) => {
            write!(
                f,
                "it uses its connection ({call} of descriptor {number}) before it looks at {}: each client has to get that for itself; look at the path first",
                Marker::Ready.path()
            )
        }
        Reached::ByChild(name, call) => {
            write!(
                f,
                "a child of it, {}, would be the first to use its connection ({call}): only the program itself can be copied; name that program as the one to execute",
                one_line(name)
            )
        }
        Reached::GainsRights(what) => {
            write!(
                f,
                "it executes {}: a process that traces a program must not gain its rights; {SERVE_COLD}",
                one_line(what)
            )
        }
        Reached::Hidden => {
            write!(
                f,
                "it forbids others to look into it: what its copies would share is not known; {SERVE_COLD}"
            )
        }
        Reached::Foreign => {
            write!(
                f,
                "it makes system calls of another architecture than this process: they are not understood; {SERVE_COLD}"
            )
        }
    }
}

fn ended(f: &mut fmt::Formatter<'_>, how: How) -> fmt::Result {
    match how {
        How::Exited(code) => write!(
            f,
            "it exited with code {code} before it used its connection: nothing is left to copy; {SERVE_COLD}"
        ),
        How::Signaled(signal) => write!(
            f,
            "signal {signal} ended it before it used its connection: nothing is left to copy; see what ended it, and try again"
        ),
    }
}

#[cfg(test)]
mod tests;
