//! Decides what is in force in a jail: by what was asked for, and by what there is.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::cause;
use super::choices::{JailMode, PrivateNetwork};
use super::controllers::CgroupTree;
use super::facts::Facts;
use super::families::Families;
use super::filter::{CallFilter, IN_A_JAIL, RefusedCall};
use super::full::FullJail;
use super::house::{House, HousePaths};
use super::landlock_rules::FileRules;
use super::layer::{Layer, LayerState};
use super::network_allow::AllowedAddresses;
use super::path_view::BindPath;
use super::resources::CgroupController;
use super::settings::Jail;
use super::system_calls::{CallSet, Term};
use super::users::JailUsers;
use crate::error::{Error, ErrorKind};

/// What a jail does, and what there is to say about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) mode: JailMode,
    pub(crate) layers: Vec<(Layer, LayerState)>,
    /// The capabilities that are kept; `None` changes none.
    pub(super) capabilities: Option<CapabilitySet>,
    pub(super) filter: Option<CallFilter>,
    pub(super) files: Option<FileRules>,
    /// Whether the sockets of clients are held to their port.
    pub(crate) holds_clients: bool,
    pub(crate) full: Option<FullJail>,
    /// Where the cgroups of connections are made.
    pub(crate) cgroups: Vec<CgroupTree>,
}

/// What a jail is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct JailSite {
    /// Without a user namespace, the connections would be served by the user 0.
    pub(crate) as_root: bool,
    /// The full jail, if there can be one.
    pub(crate) full: Option<FullJail>,
    /// Whether a program is executed, whose limits (setrlimit(2)) are set.
    pub(crate) executes: bool,
}

/// Who wants a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Nobody.
    None,
    /// The mode, which can do without it.
    IfPossible,
    /// The mode or a setting, which cannot.
    Required,
}

impl Jail {
    /// What a mode or a setting of its own wants.
    fn wish(&self, set: Option<bool>, in_a_jail: bool) -> Wish {
        match (set, self.mode) {
            (Some(true), _) => Wish::Required,
            (Some(false), _) | (None, JailMode::None) => Wish::None,
            (None, JailMode::Auto) if in_a_jail => Wish::IfPossible,
            (None, JailMode::Light | JailMode::Full) if in_a_jail => Wish::Required,
            (None, _) => Wish::None,
        }
    }

    /// Whether there are to be namespaces, if possible.
    pub(crate) fn wants_full(&self) -> bool {
        matches!(self.mode, JailMode::Auto | JailMode::Full)
    }

    /// Whether a restriction is set, or is one of a jail.
    fn restricts(&self, set: Option<bool>) -> bool {
        set.unwrap_or(self.mode != JailMode::None)
    }

    /// Whether anything is asked of it.
    pub(crate) fn is_any(&self) -> bool {
        Layer::ALL.into_iter().any(|layer| self.wish_for(layer) != Wish::None)
    }

    fn wish_for(&self, layer: Layer) -> Wish {
        match layer {
            Layer::NoNewPrivileges => {
                let others = [Layer::SystemCalls, Layer::Files, Layer::Scope];
                let needed = others.into_iter().any(|other| self.wish_for(other) == Wish::Required);
                self.wish(self.no_new_privileges.or(needed.then_some(true)), true)
            }
            Layer::Capabilities => self.wish(self.capabilities.map(|_| true), true),
            Layer::SystemCalls => {
                let is_set = !self.system_calls.is_empty()
                    || self.refusal.is_some()
                    || self.families.is_some()
                    || [
                        self.restrict_namespaces,
                        self.restrict_realtime,
                        self.restrict_suid_sgid,
                        self.lock_personality,
                    ]
                    .contains(&Some(true));
                self.wish(is_set.then_some(true), true)
            }
            Layer::Namespaces | Layer::Root => {
                let is_named = self.private_network.is_some_and(|network| network != PrivateNetwork::Machine)
                    || !self.network_allow.is_empty()
                    || self.private_tmp.is_some()
                    || !self.temporary_file_systems.is_empty()
                    || self.is_without_init()
                    || self.uid_range.is_some()
                    || self.private_users.is_some()
                    || self.path_view().is_some();
                self.wish((is_named && self.wants_full()).then_some(true), self.wants_full())
            }
            // The mounts of a full jail decide about files.
            Layer::Files if self.mode == JailMode::Full => Wish::None,
            Layer::Files => {
                let has_paths = !self.inaccessible_paths.is_empty();
                self.wish(self.protect_system.or(has_paths.then_some(true)), true)
            }
            Layer::Scope => self.wish(None, true),
            Layer::Connections => self.wish_for_network(|network| network == PrivateNetwork::Empty),
            Layer::ClientSocket => self.wish_for_network(|network| network != PrivateNetwork::Machine),
            Layer::WriteExecute => self.wish(self.memory_deny_write_execute, false),
            Layer::NetworkAllow if self.network_allow.is_empty() => Wish::None,
            Layer::NetworkAllow => Wish::Required,
            Layer::Memory => self.wish_for_limit(CgroupController::Memory),
            Layer::Tasks => self.wish_for_limit(CgroupController::Pids),
            Layer::Cpu => self.wish_for_limit(CgroupController::Cpu),
        }
    }

    /// The filter, where one is wanted.
    fn filter(&self) -> CallFilter {
        let in_a_jail = self.mode != JailMode::None;
        let base = match (in_a_jail, self.system_calls.first()) {
            (true, _) => CallSet::default().with(&terms(IN_A_JAIL)),
            (false, Some(first)) if first.allows() => CallSet::default().with(&terms("@default")),
            (false, _) => CallSet::all(),
        };
        let restrict_namespaces = self.restricts(self.restrict_namespaces);
        let mut calls = base;
        if restrict_namespaces {
            ["unshare", "setns"].into_iter().for_each(|call| calls.remove(call));
        }
        CallFilter {
            calls: calls.with(&self.system_calls),
            refusal: self.refusal.unwrap_or(RefusedCall::Error(Errno::PERM)),
            families: self.families.clone().or_else(|| in_a_jail.then(Families::of_a_jail)),
            restrict_namespaces,
            restrict_realtime: self.restricts(self.restrict_realtime),
            restrict_suid_sgid: self.restricts(self.restrict_suid_sgid),
            lock_personality: self.restricts(self.lock_personality),
            refuses_fast_open: false,
            of_copies: None,
        }
    }
}

impl Plan {
    /// Decides.
    ///
    /// # Errors
    /// A layer is required and cannot be had; or settings contradict each other.
    pub(crate) fn new(jail: &Jail, facts: &Facts, site: JailSite) -> Result<Plan, Error> {
        jail.check(site.as_root && !jail.wants_full())?;
        let as_root = site.as_root;
        let plan = Plan::possible(jail, facts, site);
        for (layer, state) in &plan.layers {
            if jail.wish_for(*layer) == Wish::Required {
                require(*layer, state)?;
            }
        }
        if as_root && plan.full.is_none() && jail.mode != JailMode::None {
            return Err(served_by_root_without(&plan));
        }
        Ok(plan)
    }

    /// What can be had of a jail, whether it is required or not.
    pub(crate) fn possible(jail: &Jail, facts: &Facts, site: JailSite) -> Plan {
        let mut plan = Plan { mode: jail.mode, full: site.full, ..Plan::default() };
        for layer in Layer::ALL {
            let state = match jail.wish_for(layer) {
                Wish::None => LayerState::Off,
                _ if layer == Layer::Files && plan.full.is_some() => LayerState::Off,
                // Without namespaces, the network is that of the machine.
                Wish::IfPossible if layer.is_of_network() && plan.full.is_none() => LayerState::Off,
                Wish::IfPossible | Wish::Required => match layer.controller() {
                    Some(controller) => plan.take_limit(controller, jail, facts, site.executes),
                    None => plan.take(layer, jail, facts),
                },
            };
            plan.layers.push((layer, state));
        }
        plan.add_named_cgroup(facts);
        plan
    }

    /// Whether anything is in force.
    pub(crate) fn is_any(&self) -> bool {
        self.layers.iter().any(|(_, state)| matches!(state, LayerState::On(_) | LayerState::Partly(..)))
    }

    pub(crate) fn is_on(&self, layer: Layer) -> bool {
        self.layers.iter().any(|(other, state)| *other == layer && matches!(state, LayerState::On(_)))
    }

    /// Takes a layer into the plan if it can be had.
    fn take(&mut self, layer: Layer, jail: &Jail, facts: &Facts) -> LayerState {
        let refused = |errno| LayerState::Refused(cause::of(layer, errno));
        let on = |detail: String| LayerState::On(detail);
        match layer {
            Layer::Namespaces | Layer::Root => match (&facts.house, &self.full) {
                (Ok(()), Some(full)) if layer == Layer::Namespaces => on(full.describe()),
                (Ok(()), Some(full)) => on(full.house.describe()),
                (Ok(()), None) => LayerState::Off,
                (Err(why), _) => {
                    self.full = None;
                    LayerState::Refused(cause::of_step(why, &facts.clues))
                }
            },
            Layer::NoNewPrivileges => facts.no_new_privileges.map_or_else(refused, |()| on(String::new())),
            Layer::Capabilities if facts.capabilities.is_err() => {
                facts.capabilities.map_or_else(refused, |()| LayerState::Off)
            }
            Layer::Capabilities => {
                let kept = jail.capabilities.unwrap_or(CapabilitySet::empty());
                self.capabilities = Some(kept);
                let names = || kept.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
                on(if kept.is_empty() { "none".into() } else { names() })
            }
            Layer::SystemCalls => match facts.filters {
                Ok(()) => {
                    let filter = jail.filter();
                    let detail = format!("{} system calls", filter.len());
                    self.filter = Some(filter);
                    on(detail)
                }
                Err(errno) => refused(errno),
            },
            Layer::Files | Layer::Scope | Layer::Connections => self.take_landlock(layer, jail, facts),
            Layer::ClientSocket => self.hold_clients(facts),
            Layer::WriteExecute => facts.deny_write_execute.map_or_else(refused, |()| on(String::new())),
            // Without a full jail, the start fails.
            Layer::NetworkAllow if self.full.is_none() => LayerState::Off,
            Layer::NetworkAllow => facts.connecting.map_or_else(refused, |()| self.take_endpoints(jail)),
            Layer::Memory | Layer::Tasks | Layer::Cpu => LayerState::Off,
        }
    }

    /// The same for a layer of Landlock.
    fn take_landlock(&mut self, layer: Layer, jail: &Jail, facts: &Facts) -> LayerState {
        let known = match layer {
            Layer::Files => facts.landlock.and_then(|version| facts.file_rules.map(|()| version)),
            _ => facts.landlock,
        };
        let state = match (layer, known) {
            (_, Err(errno)) => Err(errno),
            (Layer::Files, Ok(version)) => {
                self.files = Some(FileRules::new(&jail.read_write_paths, &jail.inaccessible_paths));
                Ok(match version {
                    // Before these versions, the kernel lets through what they are about.
                    1 | 2 => LayerState::Partly(
                        "this version of Landlock does not restrict truncation",
                        "use Linux 6.2 or newer, or `--jail=auto`",
                    ),
                    version => LayerState::On(format!("version {version}")),
                })
            }
            (Layer::Scope, Ok(6..)) => Ok(LayerState::On("signals and abstract sockets".into())),
            (Layer::Connections, Ok(4..)) => Ok(LayerState::On("none over TCP".into())),
            (_, Ok(_)) => Err(Errno::NOSYS),
        };
        state.unwrap_or_else(|errno| LayerState::Refused(cause::of(layer, errno)))
    }
}

impl Jail {
    /// The full jail with these users and paths, if one is wanted.
    ///
    /// # Errors
    /// A path does not exist.
    pub(crate) fn full(
        &self,
        users: JailUsers,
        paths: HousePaths,
        allowed: AllowedAddresses,
    ) -> Result<Option<FullJail>, Error> {
        if !self.wants_full() {
            return Ok(None);
        }
        let same = self.read_write_paths.iter().cloned().map(BindPath::same);
        let read_write: Vec<BindPath> = same.chain(self.bind_paths.iter().cloned()).collect();
        let hosts = allowed.hosts();
        let paths = HousePaths {
            root: self.root_directory.as_deref(),
            read_only: &self.bind_read_only_paths,
            read_write: &read_write,
            inaccessible: &self.inaccessible_paths,
            temporary: &self.temporary(),
            hosts: &hosts,
            ..paths
        };
        let house = House::new(&paths).map_err(|why| {
            Error::system("cannot find a path of the jail", &why, crate::error::next_move::of_file(&why))
        })?;
        let (network, has_init) = (self.network(), !self.is_without_init());
        Ok(Some(FullJail { users, house, network, has_init, allowed, user_namespaces: 0 }))
    }
}

/// The error of a required layer that is not fully in force.
fn require(layer: Layer, state: &LayerState) -> Result<(), Error> {
    let error = |what: String, next: &str| Error::new(ErrorKind::Jail, what, next);
    match state {
        LayerState::On(_) | LayerState::Off => Ok(()),
        LayerState::Partly(missing, next) => {
            Err(error(format!("the jail lacks a part of {}: {missing}", layer.name()), next))
        }
        LayerState::Refused(refused) => {
            Err(error(format!("the jail cannot have {}: {}", layer.name(), refused.why()), refused.next))
        }
    }
}

fn served_by_root() -> Error {
    Error::usage(
        "in this jail, connections would be served by root, which owns too much of the system",
        "choose another user, as in `--user nobody`",
    )
}

/// The same where a full jail, which has other users, cannot be had.
fn served_by_root_without(plan: &Plan) -> Error {
    let refused = plan.layers.iter().find_map(|(layer, state)| match state {
        LayerState::Refused(refused) => Some((layer, refused)),
        _ => None,
    });
    refused.map_or_else(served_by_root, |(layer, refused)| {
        let (layer, why) = (layer.name(), refused.why());
        let what = format!("without {layer}, a jail would serve connections by root ({why})");
        Error::usage(what, "choose another user, as in `--user nobody`, or permit what is refused")
    })
}

fn terms(text: &str) -> Vec<Term> {
    text.split_whitespace().filter_map(|term| Term::parse(term).ok()).collect()
}

mod checks;
mod endpoints;
mod limits;
mod network;
mod tell;
#[cfg(test)]
mod tests;
