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
    /// Its call of accept(2), of a program that accepts its clients from a listening socket: it has
    /// that as the descriptors 0 and 3, as a service that systemd activates (`LISTEN_FDS`) or inetd
    /// with `wait`. In each copy, the call returns the client, and the next one ends it.
    Accept,
}

named!(WarmUntil { Use = "use", Call = "call", Accept = "accept" });

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

/// How a program is started warm: it is executed once, and copied where it would first use its
/// client, for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warm {
    pub(crate) check: WarmCheckSettings,
    /// Connections after which there is a new template.
    pub(crate) renew_after: u64,
    /// The time after which there is one.
    pub(crate) renew_every: Duration,
    /// A program that cannot be started warm is executed for each connection.
    pub(crate) or_cold: bool,
}

impl Default for Warm {
    fn default() -> Warm {
        Warm {
            check: WarmCheckSettings {
                until: WarmUntil::Use,
                timeout: Duration::from_secs(30),
                allowed: Vec::new(),
            },
            renew_after: 1000,
            renew_every: Duration::from_secs(600),
            or_cold: false,
        }
    }
}

impl Warm {
    /// A program that is copied at its first use of the connection, within 30 seconds, and executed
    /// anew after 1,000 connections or 10 minutes. Where it cannot be copied, the server does not
    /// start.
    #[must_use]
    pub fn new() -> Warm {
        Warm::default()
    }

    /// Sets the point that it is copied at.
    #[must_use]
    pub fn until(mut self, until: WarmUntil) -> Warm {
        self.check.until = until;
        self
    }

    /// Sets the time that it has up to the point.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Warm {
        self.check.timeout = time;
        self
    }

    /// Sets the hindrances that are allowed.
    #[must_use]
    pub fn allow(mut self, kinds: impl IntoIterator<Item = WarmAllow>) -> Warm {
        self.check.allowed = kinds.into_iter().collect();
        self
    }

    /// Sets after how many connections and after what time it is executed anew: until then its
    /// copies share the layout of their memory and what was random at the start.
    #[must_use]
    pub fn renew(mut self, connections: u64, time: Duration) -> Warm {
        (self.renew_after, self.renew_every) = (connections, time);
        self
    }

    /// Whether clients cannot be served by an execution: the program accepts them itself.
    pub(crate) fn is_only_way(&self) -> bool {
        self.check.until == WarmUntil::Accept
    }

    /// Sets whether it is executed for each connection where it cannot be copied. Default: no.
    #[must_use]
    pub fn or_cold(mut self, or_cold: bool) -> Warm {
        self.or_cold = or_cold;
        self
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmReport {
    /// What was asked, in a fixed order: the program, where it stopped, then what it has there.
    pub rows: Vec<WarmRow>,
    /// Whether nothing is in the way that is not allowed.
    pub can_be_warmed: bool,
    /// Whether copies were found to serve a client otherwise than executions.
    pub differs: bool,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmRow {
    /// What it is about.
    pub aspect: &'static str,
    /// `ok`, `differs`, `allowed`, `refused`, or `-` where nothing was decided.
    pub state: &'static str,
    /// What was found; where it is in the way, also why and the next move.
    pub detail: String,
}
