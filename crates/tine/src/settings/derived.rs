//! What follows from the settings.

use std::path::Path;
use std::time::Duration;

use tine_sys::process::Alone;

use super::Settings;
use crate::error::Error;
use crate::jail::Facts;
use crate::jail::confinement::ServingKind;
use crate::jail::full::FullJail;
use crate::jail::house::HousePaths;
use crate::jail::network_allow::AllowedAddresses;
use crate::jail::plan::{JailSite, Plan};
use crate::net::dns;
use crate::program::warm::Warm;
use crate::program::{Stderr, Terminal};
use crate::system::users::Identity;
use crate::watch::ClientGone;
use crate::watch::answers::AnswerLimits;
use crate::watch::state::WatchRules;

/// The system calls that set a priority.
const OF_A_PRIORITY: &[&str] = &["getpriority", "setpriority"];

/// Those of a forker that has templates copied, and of a template that sets its priority.
const OF_TEMPLATES: &[&str] = &["getpriority", "setpriority", "getrandom", "pidfd_send_signal"];

impl Settings {
    /// The time from a request to stop until connections that have not finished are ended.
    pub(crate) fn time_to_drain(&self) -> Duration {
        self.drain_delay.saturating_add(self.drain_timeout)
    }

    /// Whether standard error goes through the stderr logger: into the log, or, so that a crash
    /// report can have its last lines, to where it goes otherwise. A worker serves several
    /// connections with one standard error: that is not read.
    pub(crate) fn stderr_is_read(&self) -> bool {
        match &self.program {
            Some(program) if program.stderr == Stderr::Log => true,
            Some(program) => program.stderr == Stderr::Server && self.crash_dir.is_some(),
            None => self.crash_dir.is_some() && self.reuse <= 1,
        }
    }

    /// Whether standard error goes into the log.
    pub(crate) fn stderr_is_logged(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.stderr == Stderr::Log)
    }

    /// The rules by which the supervisor watches connections.
    #[inline]
    pub(crate) fn watch_rules(&self) -> WatchRules {
        let ends = self.client_gone == ClientGone::End;
        WatchRules {
            timeouts: self.timeouts,
            max_output: self.max_output,
            ends_without_client: self.program.is_some() && ends,
            answers: ends.then(|| {
                let socket = &self.socket;
                let (interval, probes) = (socket.keep_alive_interval, socket.keep_alive_probes);
                AnswerLimits::for_keep_alive(socket.keep_alive_time, interval, probes)
            }),
        }
    }

    /// How the program is started warm, if it is.
    pub(crate) fn warm(&self) -> Option<&Warm> {
        self.program.as_ref()?.warm.as_ref()
    }

    /// What the processes of connections do, for their jail.
    pub(crate) fn serving_kind(&self) -> ServingKind<'static> {
        let program = self.program.as_ref();
        let more_calls: &[&str] = match program {
            Some(program) if program.warm.is_some() => OF_TEMPLATES,
            Some(program) if program.nice != 0 => OF_A_PRIORITY,
            _ => &[],
        };
        ServingKind {
            more_calls,
            executes: program.is_some(),
            directory: program.and_then(|program| program.directory.clone()),
        }
    }

    /// What is in force of the jail on this system. `path`: that of the program.
    ///
    /// # Errors
    /// A protection that is required cannot be had.
    pub(crate) fn plan_jail(&self, path: Option<&Path>, alone: &Alone) -> Result<Plan, Error> {
        let executes = self.program.is_some();
        let site = JailSite { as_root: self.serves_as_root(), full: self.full_jail(path)?, executes };
        let named = self.program.as_ref().and_then(|program| program.cgroup.as_deref());
        let facts = Facts::ask(site.full.as_ref(), named, Some(alone));
        Plan::new(&self.jail, &facts, site)
    }

    /// The full jail, if there can be one.
    fn full_jail(&self, path: Option<&Path>) -> Result<Option<FullJail>, Error> {
        let Some(users) = self.jail_users()? else { return Ok(None) };
        let program = self.program.as_ref();
        let paths = HousePaths {
            program: path,
            directory: program.and_then(|program| program.directory.as_deref()),
            has_terminals: program.is_some_and(|program| program.terminal != Terminal::None),
            ..HousePaths::default()
        };
        let look_up = |name: &str| {
            let found = dns::look_up(name, 0).map_err(|error| error.within("network-allow"))?;
            Ok(found.into_iter().map(|address| address.ip()).collect())
        };
        let allowed = AllowedAddresses::resolve(&self.jail.network_allow, look_up)?;
        let full = self.jail.full(users, paths, allowed)?;
        // Each copy that is process 1 of its jail, and one that is tried out or about to end.
        let copies = if self.warm().is_some() { 2 * self.slots() } else { 0 };
        Ok(full.map(|full| if full.has_init { full } else { full.with_user_namespaces(copies) }))
    }

    /// Whether the processes of connections belong to root.
    pub(crate) fn serves_as_root(&self) -> bool {
        match &self.identity {
            Some(Identity { uid: Some(uid), .. }) => *uid == 0,
            _ => rustix::process::geteuid().is_root(),
        }
    }

    /// The slots of the board: more than the maximum of connections where older generations have
    /// more.
    pub(crate) fn slots(&self) -> usize {
        self.max_connections.max(self.older_connections)
    }

    /// Whether processes are forked in advance.
    pub(crate) fn has_spares(&self) -> bool {
        self.spares > 0
    }

    /// Whether each connection has a cgroup. Outside of a full jail, its process needs the server's
    /// privileges to enter it.
    pub(crate) fn has_cgroups(&self) -> bool {
        !self.jail_plan.cgroups.is_empty()
    }

    /// The user that the processes of connections become by themselves, where their forker keeps
    /// its privileges until then.
    pub(crate) fn late_identity(&self) -> Option<&Identity> {
        self.identity.as_ref().filter(|_| self.has_cgroups() && self.jail_plan.full.is_none())
    }

    /// This forker's share of the spares.
    pub(crate) fn spares_of(&self, forker: usize) -> usize {
        let more = usize::from(forker < self.spares % self.forkers);
        self.spares / self.forkers + more
    }
}

/// A warning, if the limits of the system are below this number of connections.
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
        Some(format!(
            "{connections} connections at a time need as many processes, and {name} is {limit}; raise it or lower the \
             maximum of connections"
        ))
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
    fn a_number_beyond_the_system_is_noticed() {
        assert_eq!(beyond_the_system(1), None);
        assert!(beyond_the_system(usize::MAX).is_some());
    }
}
