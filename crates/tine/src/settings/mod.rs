//! What a server is to do, once every value is known to be valid.

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use crate::admission::access::compiled::CompiledRules;
use crate::admission::limits::Limits;
use crate::error::Error;
use crate::program::{Program, Stderr};
use crate::system::users::Identity;
use crate::watch::Timeouts;
use crate::watch::state::WatchRules;

/// The settings of a server, as the builder filled them in.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name of the service, where the server has several.
    pub(crate) service: Option<String>,
    /// The process that keeps the supervisor running, where the server has several.
    pub(crate) master: Option<Pid>,
    pub(crate) max_connections: usize,
    pub(crate) limits: Limits,
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
            limits: Limits::default(),
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
        if self.limits.rules.as_ref().is_some_and(CompiledRules::need_names) && !looks_up {
            return Err(Error::usage(
                "there may be rules about names, and nothing looks names up",
                "have the program's process do so (Program::reverse_dns)",
            ));
        }
        self.program.as_ref().map(|program| program.find(self.identity.as_ref())).transpose()
    }

    /// Whether programs' standard error goes to the log.
    pub(crate) fn stderr_is_logged(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.stderr == Stderr::Log)
    }

    /// What connections are watched for, from outside.
    pub(crate) fn watch_rules(&self) -> WatchRules {
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
