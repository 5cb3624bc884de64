//! Decides how the limits on resources are set.

use super::{Jail, LayerState, Plan, Wish};
use crate::error::Error;
use crate::jail::JailMode;
use crate::jail::controllers::{CgroupTree, add_to};
use crate::jail::facts::Facts;
use crate::jail::filter::CallFilter;
use crate::jail::resources::{CgroupController, CgroupVersion};
use crate::jail::users::JailUsers;

impl Jail {
    /// A limit is required, unless it is one of the profile and the mode does without it.
    pub(super) fn wish_for_limit(&self, controller: CgroupController) -> Wish {
        let limits = self.resources();
        let is_any = match controller {
            CgroupController::Memory => limits.memory.is_some(),
            CgroupController::Pids => limits.tasks.is_some(),
            CgroupController::Cpu => limits.cpu.is_some(),
        };
        match (is_any, self.mode) {
            (false, _) => Wish::None,
            (true, JailMode::Auto) if !self.names_limit(controller) => Wish::IfPossible,
            (true, _) => Wish::Required,
        }
    }

    /// Refuses limits with which nothing could run.
    pub(super) fn check_limits(&self) -> Result<(), Error> {
        let limits = self.resources();
        let too_small = [
            (limits.memory.is_some_and(|bytes| bytes < 1 << 20), "memory-max is below 1 MiB"),
            (limits.tasks == Some(0), "tasks-max is 0"),
            (limits.cpu == Some(0), "cpu-quota is 0"),
        ];
        match too_small.iter().find(|(is_too_small, _)| *is_too_small) {
            Some((_, what)) => {
                Err(Error::usage(format_args!("{what}, and no program can run"), "set a higher limit"))
            }
            None => Ok(()),
        }
    }
}

impl Plan {
    /// Takes a limit into the plan if it can be set.
    pub(super) fn take_limit(
        &mut self,
        controller: CgroupController,
        jail: &Jail,
        facts: &Facts,
        executes: bool,
    ) -> LayerState {
        let limits = jail.resources();
        let detail = match controller {
            CgroupController::Memory => format!("{} KiB", limits.memory.unwrap_or(0) >> 10),
            CgroupController::Pids => limits.tasks.unwrap_or(0).to_string(),
            CgroupController::Cpu => format!("{}%", limits.cpu.unwrap_or(0)),
        };
        match facts.cgroups.place(controller) {
            Ok(place) => {
                let version = if place.1 == CgroupVersion::One { 1 } else { 2 };
                add_to(&mut self.cgroups, place, controller, &limits);
                LayerState::On(format!("{detail}, by cgroups of version {version}"))
            }
            // Where no other connection has its user, the limit on processes of a user is one of
            // the connection (setrlimit(2)).
            Err(_) if controller == CgroupController::Pids && executes && self.has_users_alone() => {
                LayerState::On(format!("{detail}, by RLIMIT_NPROC"))
            }
            Err(refused) => LayerState::Refused(refused),
        }
    }

    /// Whether cgroups limit a resource.
    pub(crate) fn has_limits(&self) -> bool {
        self.cgroups.iter().any(|tree| !tree.controllers.is_empty())
    }

    /// Whether cgroups count the processes of a connection.
    pub(crate) fn counts_tasks(&self) -> bool {
        self.cgroups.iter().any(|tree| tree.controllers.contains(&CgroupController::Pids))
    }

    /// Whether the filter ends a process whose call it refuses.
    pub(crate) fn ends_at_refused_calls(&self) -> bool {
        self.filter.as_ref().is_some_and(CallFilter::kills)
    }

    fn has_users_alone(&self) -> bool {
        self.full.as_ref().is_some_and(|full| JailUsers::are_alone(&full.users))
    }

    /// Adds the directory of cgroups that was named for all connections, if no limit has.
    pub(super) fn add_named_cgroup(&mut self, facts: &Facts) {
        let Some(parent) = facts.cgroups.named.clone() else { return };
        if !self.cgroups.iter().any(|tree| tree.parent == parent) {
            let (version, controllers, settings) = (CgroupVersion::Two, Vec::new(), Vec::new());
            // The processes of a connection are searched for in the first one.
            self.cgroups.insert(0, CgroupTree { parent, version, controllers, settings });
        }
    }
}
