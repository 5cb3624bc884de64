//! What is asked about a program, and the answer.

use std::time::Duration;

use crate::error::named;

/// The point that a program is copied at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WarmUntil {
    /// Its first use of the connection, or its look at the path `/.tine/ready` or
    /// `/.tine/ready/variables`.
    #[default]
    Use,
    /// Its look at one of these paths, which need not exist. That at `/.tine/ready/variables` says
    /// also that the program renews its own copies of the connection's variables right after it.
    Call,
}

named!(WarmUntil { Use = "use", Call = "call" });

/// A kind of hindrance that can be allowed: the one who allows it knows that the copies of the
/// program do not meet in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WarmAllow {
    /// An open eventfd(2).
    Eventfd,
    /// An open epoll(7) instance.
    Epoll,
    /// An open timerfd_create(2).
    Timerfd,
    /// An open socket besides the connection.
    Socket,
    /// A timer.
    Timer,
    /// A lock on a file.
    Flock,
    /// A mapping that is shared and can be written.
    SharedMemory,
    /// An open end of a pipe.
    Pipe,
    /// Threads that have ended.
    ThreadExited,
    /// Copies of the variables that describe the connection.
    Variables,
}

named!(WarmAllow {
    Eventfd = "eventfd",
    Epoll = "epoll",
    Timerfd = "timerfd",
    Socket = "socket",
    Timer = "timer",
    Flock = "flock",
    SharedMemory = "shared-memory",
    Pipe = "pipe",
    ThreadExited = "thread-exited",
    Variables = "variables",
});

/// How a program is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmCheckSettings {
    /// The point to watch for.
    pub until: WarmUntil,
    /// The time up to the point.
    pub timeout: Duration,
    /// What is allowed.
    pub allowed: Vec<WarmAllow>,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmReport {
    /// What was asked, in a fixed order: the program, where it stopped, then what it has there.
    pub rows: Vec<WarmRow>,
    /// Whether nothing is in the way that is not allowed.
    pub can_be_warmed: bool,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmRow {
    /// What it is about.
    pub aspect: &'static str,
    /// `ok`, `allowed`, `refused`, or `-` where nothing was decided.
    pub state: &'static str,
    /// What was found; where it is in the way, also why and the next move.
    pub detail: String,
}
