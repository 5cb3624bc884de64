//! What a server is to do, once every value is known to be valid.

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use crate::admission::access::{Gate, Source};
use crate::admission::block::{Aggregation, Aggregations};
use crate::admission::penalty::Penalties;
use crate::admission::rate::Rates;
use crate::error::Error;
use crate::processes::rejector::Reason;
use crate::program::{Program, Stderr};
use crate::system::users::Identity;
use crate::watch::Timeouts;
use crate::watch::state::WatchRules;

/// What happens to a client that comes when as many connections as allowed are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits in the backlog until one leaves.
    #[default]
    Wait,
    /// It gets this text, byte for byte, and then the end of the stream.
    Reject(Vec<u8>),
}

/// What happens to a client that is beyond a limit of its source or its prefix, or has a penalty to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenLimited {
    /// It waits until it may come, behind others of its source; sources have turns. `most` wait at a time, over all
    /// sources, each for `time`; then they are refused.
    Delay {
        /// How many wait at a time.
        most: usize,
        /// How long each waits.
        time: Duration,
    },
    /// It gets this text, byte for byte, and then the end of the stream; without one, the text of [`WhenFull::Reject`].
    Reject(Option<Vec<u8>>),
    /// It gets the end of the stream.
    Close,
}

impl Default for WhenLimited {
    fn default() -> WhenLimited {
        WhenLimited::Reject(None)
    }
}

/// The settings of a server, as the builder filled them in.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name of the service, where the server has several.
    pub(crate) service: Option<String>,
    /// The process that keeps the supervisor running, where the server has several.
    pub(crate) master: Option<Pid>,
    pub(crate) max_connections: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) when_limited: WhenLimited,
    /// What a source is, and what a prefix.
    pub(crate) aggregations: Aggregations,
    /// Connections of one source address at a time.
    pub(crate) max_per_source: Option<usize>,
    /// Connections of one prefix at a time.
    pub(crate) max_per_prefix: Option<usize>,
    /// How often a source and a prefix may come.
    pub(crate) rates: Rates,
    /// Who may come at all; everyone without it.
    pub(crate) gate: Option<Gate>,
    /// What its rules are read from again when a file has changed.
    pub(crate) rules_source: Option<Source>,
    /// What sources pay for faults, and who pays nothing.
    pub(crate) penalties: Option<Penalties>,
    pub(crate) penalty_exempt: Option<Gate>,
    pub(crate) backlog: u32,
    pub(crate) spares: usize,
    pub(crate) reuse: u64,
    pub(crate) forkers: usize,
    pub(crate) drain_timeout: Duration,
    /// Connections outlive the server, which stops as soon as it accepts nobody any more.
    pub(crate) leaves_connections: bool,
    /// Programs whose clients have gone go on.
    pub(crate) ignores_gone_clients: bool,
    pub(crate) identity: Option<Identity>,
    pub(crate) titles: bool,
    pub(crate) handler_prints: bool,
    pub(crate) timeouts: Timeouts,
    /// What is executed for each connection, instead of calling the handler.
    pub(crate) program: Option<Program>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            service: None,
            master: None,
            max_connections: 1024,
            when_full: WhenFull::Wait,
            when_limited: WhenLimited::default(),
            aggregations: Aggregations::default(),
            max_per_source: None,
            max_per_prefix: None,
            rates: Rates::default(),
            gate: None,
            rules_source: None,
            penalties: None,
            penalty_exempt: None,
            backlog: 4096,
            spares: 0,
            reuse: 1,
            forkers: default_forkers(),
            drain_timeout: Duration::from_secs(10),
            leaves_connections: false,
            ignores_gone_clients: false,
            identity: None,
            titles: false,
            handler_prints: true,
            timeouts: Timeouts::default(),
            program: None,
        }
    }
}

/// Two forkers where there are two processors or more, else one. Measured: while one forker is inside
/// `clone`, the other accepts (`docs/promises.md`); more gained nothing on two processors.
fn default_forkers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(2))
}

impl Settings {
    /// Refuses what cannot be served together, and finds the file of the program.
    pub(crate) fn check(&self) -> Result<Option<CString>, Error> {
        if self.reuse > 1 && !self.has_spares() {
            return Err(Error::usage(
                "processes are to be reused (--reuse), and none waits to be",
                "say how many may wait (--spares), as with `--spares 32 --reuse 1000`",
            ));
        }
        if self.reuse > 1 && self.program.is_some() {
            return Err(Error::usage(
                "a process that has executed a program cannot be reused (--reuse)",
                "leave --reuse out; --spares go with a program",
            ));
        }
        let looks_up = self.program.as_ref().is_some_and(|program| program.reverse_dns);
        if self.gate.is_some_and(|gate| gate.asks_names()) && !looks_up {
            return Err(Error::usage(
                "there may be rules about names, and nothing looks names up",
                "have the program's process do so (Program::reverse_dns)",
            ));
        }
        self.program.as_ref().map(|program| program.find(self.identity.as_ref())).transpose()
    }

    /// Whether a client for whom there is no room is refused, instead of waiting.
    pub(crate) fn rejects_when_full(&self) -> bool {
        matches!(self.when_full, WhenFull::Reject(_))
    }

    /// Whether some clients are refused for who they are.
    fn rejects_by_source(&self) -> bool {
        self.gate.is_some() || self.limits_sources()
    }

    /// Whether anybody is ever refused.
    pub(crate) fn rejects(&self) -> bool {
        self.rejects_when_full() || self.rejects_by_source()
    }

    /// What a refused client is told.
    pub(crate) fn rejection_text(&self, reason: Reason) -> &[u8] {
        match (reason, &self.when_limited, &self.when_full) {
            (Reason::Denied | Reason::Time, ..) => &[],
            (Reason::Full, _, WhenFull::Reject(text)) => text,
            (_, WhenLimited::Reject(Some(text)), _) => text,
            (_, WhenLimited::Close, _) => &[],
            (_, _, WhenFull::Reject(text)) => text,
            (_, _, WhenFull::Wait) => &[],
        }
    }

    /// Whether clients beyond a limit of their source or prefix wait for their chance.
    pub(crate) fn delays(&self) -> bool {
        matches!(self.when_limited, WhenLimited::Delay { .. }) && self.limits_sources()
    }

    /// How many wait for it at a time.
    pub(crate) fn max_delayed(&self) -> usize {
        if let WhenLimited::Delay { most, .. } = self.when_limited { most } else { 0 }
    }

    /// Until when one who comes now waits.
    pub(crate) fn delayed_until(&self, now: u64) -> u64 {
        let WhenLimited::Delay { time, .. } = self.when_limited else { return now };
        now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The limits on connections at a time, of what, and how it is called.
    pub(crate) fn connection_limits(&self) -> impl Iterator<Item = (usize, Aggregation, Reason)> + use<> {
        [
            (self.max_per_source, self.aggregations.source, Reason::Source),
            (self.max_per_prefix, self.aggregations.prefix, Reason::Prefix),
        ]
        .into_iter()
        .filter_map(|(most, aggregation, reason)| Some((most?, aggregation, reason)))
    }

    /// Whether anything is limited for prefixes.
    pub(crate) fn limits_prefixes(&self) -> bool {
        self.max_per_prefix.is_some() || self.rates.prefix.is_some()
    }

    fn limits_sources(&self) -> bool {
        self.connection_limits().next().is_some() || self.rates.are_any() || self.penalties.is_some()
    }

    /// Whether programs' standard error goes to the log.
    pub(crate) fn stderr_is_logged(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.stderr == Stderr::Log)
    }

    /// What connections are watched for, from outside.
    pub(crate) fn rules(&self) -> WatchRules {
        WatchRules {
            timeouts: self.timeouts,
            ends_without_client: self.program.is_some() && !self.ignores_gone_clients,
        }
    }

    /// Whether processes wait for clients, instead of being forked for them.
    pub(crate) fn has_spares(&self) -> bool {
        self.spares > 0
    }

    /// Whether connections' processes enter cgroups. Until they have, they need the server's privileges.
    pub(crate) fn has_cgroups(&self) -> bool {
        self.cgroup().is_some()
    }

    /// Where connections have a cgroup each.
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        self.program.as_ref()?.cgroup.as_deref()
    }

    /// This forker's share of the spares.
    pub(crate) fn spares_of(&self, forker: usize) -> usize {
        let more = usize::from(forker < self.spares % self.forkers);
        self.spares / self.forkers + more
    }
}

/// Why this machine cannot hold so many connections at a time, if it cannot.
pub(crate) fn beyond_the_system(connections: usize) -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let own = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    [
        ("kernel.pid_max", read("/proc/sys/kernel/pid_max")),
        ("kernel.threads-max", read("/proc/sys/kernel/threads-max")),
        ("the limit on processes (`ulimit -u`)", own.and_then(|limit| usize::try_from(limit).ok())),
    ]
    .into_iter()
    .find_map(|(name, limit)| {
        let limit = limit.filter(|limit| connections > *limit)?;
        Some(format!("{connections} connections at a time need as many processes, and {name} is {limit}; raise it or lower --max-connections"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spares_are_shared_out_completely() {
        for (spares, forkers) in [(0, 1), (1, 2), (32, 2), (7, 3), (64, 64)] {
            let settings = Settings { spares, forkers, ..Settings::default() };
            assert_eq!((0..forkers).map(|forker| settings.spares_of(forker)).sum::<usize>(), spares);
        }
    }

    #[test]
    fn more_than_the_system_holds_is_noticed() {
        assert_eq!(beyond_the_system(1), None);
        assert!(beyond_the_system(usize::MAX).is_some());
    }
}
