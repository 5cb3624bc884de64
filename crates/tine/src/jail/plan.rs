//! Decides what is in force in a jail: by what was asked for, and by what there is.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use serde_json::{Map, Value, json};

use super::cause;
use super::facts::Facts;
use super::filter::{CallFilter, Families, IN_A_JAIL, RefusedCall};
use super::landlock_rules::FileRules;
use super::layer::{Layer, LayerState};
use super::settings::{Jail, JailMode};
use super::system_calls::{CallSet, Term};
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
            (None, JailMode::Light) if in_a_jail => Wish::Required,
            (None, _) => Wish::None,
        }
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
            Layer::Files => {
                let has_paths = !self.inaccessible_paths.is_empty();
                self.wish(self.protect_system.or(has_paths.then_some(true)), true)
            }
            Layer::Scope => self.wish(None, true),
            Layer::WriteExecute => self.wish(self.memory_deny_write_execute, false),
        }
    }

    /// Refuses settings that contradict each other, on whatever system. `as_root`: the connections
    /// are served by the user 0.
    ///
    /// # Errors
    /// They do.
    pub(crate) fn check(&self, as_root: bool) -> Result<(), Error> {
        let needs = [Layer::SystemCalls, Layer::Files, Layer::Scope];
        if self.no_new_privileges == Some(false)
            && needs.into_iter().any(|layer| self.wish_for(layer) != Wish::None)
        {
            return Err(Error::usage(
                "a filter of system calls and Landlock are only possible without new privileges",
                "leave no-new-privileges out, or set the other protections to no",
            ));
        }
        if !self.read_write_paths.is_empty() && self.wish_for(Layer::Files) == Wish::None {
            return Err(Error::usage(
                "paths that can be written are set, and nothing keeps others from being written",
                "set protect-system to strict, or use a jail",
            ));
        }
        if as_root && self.mode != JailMode::None {
            return Err(Error::usage(
                "in this jail, connections would be served by root, which owns too much of the system",
                "choose another user, as in `--user nobody`",
            ));
        }
        Ok(())
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
        }
    }
}

impl Plan {
    /// Decides. `as_root`: the connections are served by the user 0.
    ///
    /// # Errors
    /// A layer is required and cannot be had; or settings contradict each other.
    pub(crate) fn new(jail: &Jail, facts: &Facts, as_root: bool) -> Result<Plan, Error> {
        jail.check(as_root)?;
        let plan = Plan::possible(jail, facts);
        for (layer, state) in &plan.layers {
            if jail.wish_for(*layer) == Wish::Required {
                require(*layer, state)?;
            }
        }
        Ok(plan)
    }

    /// What can be had of a jail, whether it is required or not.
    pub(crate) fn possible(jail: &Jail, facts: &Facts) -> Plan {
        let mut plan = Plan { mode: jail.mode, ..Plan::default() };
        for layer in Layer::ALL {
            let state = match jail.wish_for(layer) {
                Wish::None => LayerState::Off,
                Wish::IfPossible | Wish::Required => plan.take(layer, jail, facts),
            };
            plan.layers.push((layer, state));
        }
        plan
    }

    /// Whether anything is in force.
    pub(crate) fn is_any(&self) -> bool {
        self.layers.iter().any(|(_, state)| matches!(state, LayerState::On(_) | LayerState::Partly(..)))
    }

    pub(crate) fn is_on(&self, layer: Layer) -> bool {
        self.layers.iter().any(|(other, state)| *other == layer && matches!(state, LayerState::On(_)))
    }

    /// The mode and the layers, for `tine status`.
    pub(crate) fn to_json(&self) -> Value {
        let layers = self.layers.iter().filter(|(_, state)| *state != LayerState::Off);
        let layers = layers.map(|(layer, state)| {
            json!({ "layer": layer.name(), "state": state.name(), "detail": state.detail() })
        });
        json!({ "mode": self.mode.to_string(), "layers": layers.collect::<Vec<_>>() })
    }

    /// For each layer that was asked for, 1 if it is fully in force, else 0.
    pub(crate) fn layers_in_force(&self) -> Map<String, Value> {
        let asked = self.layers.iter().filter(|(_, state)| *state != LayerState::Off);
        asked.map(|(layer, _)| (layer.name().to_owned(), json!(u8::from(self.is_on(*layer))))).collect()
    }

    /// Takes a layer into the plan if it can be had.
    fn take(&mut self, layer: Layer, jail: &Jail, facts: &Facts) -> LayerState {
        let refused = |errno| LayerState::Refused(cause::of(layer, errno));
        let on = |detail: String| LayerState::On(detail);
        match layer {
            Layer::NoNewPrivileges => facts.no_new_privileges.map_or_else(refused, |()| on(String::new())),
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
            Layer::Files => match facts.landlock {
                Ok(version) => {
                    self.files = Some(FileRules::new(&jail.read_write_paths, &jail.inaccessible_paths));
                    match version {
                        // Before these versions, the kernel lets through what they are about.
                        1 | 2 => LayerState::Partly(
                            "this version of Landlock does not restrict truncation",
                            "use Linux 6.2 or newer, or `--jail=auto`",
                        ),
                        version => on(format!("version {version}")),
                    }
                }
                Err(errno) => refused(errno),
            },
            Layer::Scope => match facts.landlock {
                Ok(version) if version >= 6 => on("signals and abstract sockets".into()),
                Ok(_) => refused(Errno::NOSYS),
                Err(errno) => refused(errno),
            },
            Layer::WriteExecute => facts.deny_write_execute.map_or_else(refused, |()| on(String::new())),
        }
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

fn terms(text: &str) -> Vec<Term> {
    text.split_whitespace().filter_map(|term| Term::parse(term).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Facts =
        Facts { landlock: Ok(7), no_new_privileges: Ok(()), filters: Ok(()), deny_write_execute: Ok(()) };

    /// The layers of a plan by one letter each: on, partly, off (-), refused.
    fn letters(plan: &Plan) -> String {
        let letter = |state: &LayerState| match state {
            LayerState::On(_) => 'o',
            LayerState::Partly(..) => 'p',
            LayerState::Off => '-',
            LayerState::Refused(_) => 'r',
        };
        plan.layers.iter().map(|(_, state)| letter(state)).collect()
    }

    #[test]
    fn a_jail_has_what_the_kernel_gives_or_does_not_start() {
        let old = Facts { landlock: Ok(2), deny_write_execute: Err(Errno::INVAL), ..ALL };
        let younger = Facts { landlock: Ok(5), ..ALL };
        let none = Facts { landlock: Err(Errno::NOSYS), filters: Err(Errno::PERM), ..ALL };
        for (facts, auto, light) in [
            (ALL, "ooooo-", Ok("ooooo-")),
            (younger, "oooor-", Err("landlock.scope")),
            (old, "ooopr-", Err("landlock.fs")),
            (none, "oorrr-", Err("seccomp")),
        ] {
            let plan = Plan::new(&Jail::new(JailMode::Auto), &facts, false).expect("whatever there is");
            assert_eq!(letters(&plan), auto, "{facts:?}");
            match (Plan::new(&Jail::new(JailMode::Light), &facts, false), light) {
                (Ok(plan), Ok(expected)) => assert_eq!(letters(&plan), expected, "{facts:?}"),
                (Err(error), Err(layer)) => {
                    assert_eq!(error.kind(), ErrorKind::Jail);
                    assert!(error.what().contains(layer), "{layer}: {}", error.what());
                }
                (plan, expected) => panic!("{facts:?}: {plan:?} for {expected:?}"),
            }
        }
    }

    #[test]
    fn a_protection_alone_brings_what_it_needs() {
        let none = || Jail::new(JailMode::None);
        for (jail, expected) in [
            (none(), "------"),
            (none().restrict_namespaces(true), "o-o---"),
            (none().restrict_namespaces(false), "------"),
            (none().protect_system(true), "o--o--"),
            (none().inaccessible_path("/root"), "o--o--"),
            (none().no_new_privileges(true), "o-----"),
            (none().memory_deny_write_execute(true), "-----o"),
            (none().capability_bounding_set("none").expect("none"), "-o----"),
            (none().system_call_filter("~@mount").expect("a group"), "o-o---"),
            (Jail::new(JailMode::Light).protect_system(false), "ooo-o-"),
            (Jail::new(JailMode::Auto).memory_deny_write_execute(true), "oooooo"),
        ] {
            let plan = Plan::new(&jail, &ALL, false).expect("all is there");
            assert_eq!(letters(&plan), expected, "{jail:?}");
            assert_eq!(jail.is_any(), plan.is_any(), "{jail:?}");
        }
        // What is set is required, in every mode.
        let facts = Facts { landlock: Err(Errno::NOSYS), deny_write_execute: Err(Errno::INVAL), ..ALL };
        for mode in [JailMode::None, JailMode::Auto] {
            for jail in
                [Jail::new(mode).protect_system(true), Jail::new(mode).memory_deny_write_execute(true)]
            {
                Plan::new(&jail, &facts, false).expect_err("it cannot be had");
            }
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_on_every_system() {
        let light = || Jail::new(JailMode::Light);
        for (jail, as_root, is_right) in [
            (light(), false, true),
            (light(), true, false),
            (Jail::new(JailMode::None), true, true),
            (Jail::new(JailMode::None).protect_system(true), true, true),
            (light().no_new_privileges(false), false, false),
            (light().read_write_path("/tmp"), false, true),
            (light().read_write_path("/tmp").protect_system(false), false, false),
            (Jail::new(JailMode::None).read_write_path("/tmp"), false, false),
        ] {
            assert_eq!(jail.check(as_root).is_ok(), is_right, "{jail:?} {as_root}");
        }
    }

    #[test]
    fn the_terms_of_a_filter_change_the_set_of_their_jail() {
        for (mode, terms, has, has_not) in [
            (JailMode::Light, "", "socket", "ptrace"),
            (JailMode::Light, "ptrace", "ptrace", "mount"),
            (JailMode::Light, "~@network-io", "read", "socket"),
            (JailMode::None, "~@network-io", "mount", "socket"),
            (JailMode::None, "@basic-io", "execve", "socket"),
        ] {
            let filter = Jail::new(mode).system_call_filter(terms).expect(terms).filter();
            assert!(filter.calls.has(has), "{mode:?} {terms}: {has}");
            assert!(!filter.calls.has(has_not), "{mode:?} {terms}: {has_not}");
        }
    }
}
