//! The layers of a jail, and whether each is in force.

use rustix::io::Errno;

use super::resources::CgroupController;

/// A protection that stands or falls as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layer {
    Namespaces,
    Root,
    NoNewPrivileges,
    Capabilities,
    SystemCalls,
    Files,
    Scope,
    Connections,
    ClientSocket,
    WriteExecute,
    NetworkAllow,
    Memory,
    Tasks,
    Cpu,
}

impl Layer {
    /// Those that decide about others come first.
    pub(crate) const ALL: [Layer; 14] = [
        Layer::Namespaces,
        Layer::Root,
        Layer::NoNewPrivileges,
        Layer::Capabilities,
        Layer::SystemCalls,
        Layer::Files,
        Layer::Scope,
        Layer::Connections,
        Layer::ClientSocket,
        Layer::WriteExecute,
        Layer::NetworkAllow,
        Layer::Memory,
        Layer::Tasks,
        Layer::Cpu,
    ];

    /// Its name for operators: in the log, in `tine status`, in labels of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layer::Namespaces => "namespaces",
            Layer::Root => "root",
            Layer::NoNewPrivileges => "no-new-privileges",
            Layer::Capabilities => "capabilities",
            Layer::SystemCalls => "seccomp",
            Layer::Files => "landlock.fs",
            Layer::Scope => "landlock.scope",
            Layer::Connections => "landlock.net",
            Layer::ClientSocket => "client-socket",
            Layer::WriteExecute => "memory-deny-write-execute",
            Layer::NetworkAllow => "network-allow",
            Layer::Memory => "memory-max",
            Layer::Tasks => "tasks-max",
            Layer::Cpu => "cpu-quota",
        }
    }

    /// Whether it is about what a private network leaves open.
    pub(super) fn is_of_network(self) -> bool {
        matches!(self, Layer::Connections | Layer::ClientSocket)
    }

    /// What counts the resource that it limits.
    pub(super) fn controller(self) -> Option<CgroupController> {
        match self {
            Layer::Memory => Some(CgroupController::Memory),
            Layer::Tasks => Some(CgroupController::Pids),
            Layer::Cpu => Some(CgroupController::Cpu),
            _ => None,
        }
    }
}

/// What is in force of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// It is in force; the details may be empty.
    On(String),
    /// It is in force as far as the kernel goes: what is missing, and the next move.
    Partly(&'static str, &'static str),
    /// It was not asked for.
    Off,
    /// It was asked for and is not in force.
    Refused(Refused),
}

/// Why the kernel refuses a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) errno: Errno,
    pub(crate) cause: String,
    pub(crate) next: &'static str,
}

impl Refused {
    /// The error and its cause.
    pub(super) fn why(&self) -> String {
        format!("{}: {}", crate::error::reason(&self.errno.into()), self.cause)
    }
}

impl LayerState {
    /// One word for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            LayerState::On(_) => "on",
            LayerState::Partly(..) => "partly",
            LayerState::Off => "off",
            LayerState::Refused(_) => "refused",
        }
    }

    /// The rest of what there is to say: details, or what is missing, why, and the next move.
    pub(crate) fn detail(&self) -> String {
        match self {
            LayerState::On(detail) => detail.clone(),
            LayerState::Partly(missing, next) => format!("{missing}; {next}"),
            LayerState::Off => "not asked for".into(),
            LayerState::Refused(refused) => format!("{}; {}", refused.why(), refused.next),
        }
    }
}
