//! The roles of the processes that a supervisor starts.

use std::borrow::Cow;

/// A process that the supervisor starts and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// The forker of this index.
    Forker(usize),
    Rejector,
    Delayer,
    ProxyReader,
    StderrLogger,
    CgroupCleaner,
    Connector,
    /// The worker of this index, which does jobs.
    JobWorker(usize),
    /// Serves one request of a controller: started when that comes, and not restarted.
    Control,
}

impl Role {
    /// The value of `role=` in the log.
    pub(super) fn log_name(self) -> Cow<'static, str> {
        match self {
            Role::Forker(index) => format!("forker {}", index + 1).into(),
            Role::Rejector => "rejector".into(),
            Role::Delayer => "delayer".into(),
            Role::ProxyReader => "proxy reader".into(),
            Role::StderrLogger => "stderr logger".into(),
            Role::CgroupCleaner => "cgroup cleaner".into(),
            Role::Connector => "connector".into(),
            Role::JobWorker(index) => format!("job worker {}", index + 1).into(),
            Role::Control => "control".into(),
        }
    }

    /// Whether clients get a connection process by it: it is killed before connections are.
    pub(super) fn brings_clients(self) -> bool {
        self.is_forker() || matches!(self, Role::Delayer | Role::ProxyReader)
    }

    /// Whether it accepts clients. The helpers exit by themselves when no process needs them.
    pub(super) fn is_forker(self) -> bool {
        matches!(self, Role::Forker(_))
    }
}
