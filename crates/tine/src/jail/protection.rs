//! What a process of the server itself gives up, by the means of a jail: privileges, files, system
//! calls. `processes/own_confinement.rs` says which process has which protection.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use landlock::{
    Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use rustix::thread::CapabilitySet;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompFilter, SeccompRule, TargetArch,
};
use tine_sys::jail::restrict_self;

use super::filter::RefusedCall;
use super::landlock_rules::{VERSION, allow};
use super::layer::Layer;
use super::rights::{drop_bounding_set, install, keep_capabilities};
use super::rule::rule;
use super::system_calls::number;

/// `PROT_EXEC` (mmap(2)).
const EXECUTABLE: u64 = 4;

/// Calls that are allowed unless they make memory executable, with the number of the argument that
/// says so.
const WITHOUT_CODE: [(&str, u8); 2] = [("mmap", 2), ("mprotect", 2)];

/// System calls of which one argument has one of these values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallWith {
    pub(crate) call: &'static str,
    /// The number of the argument, from 0.
    pub(crate) argument: u8,
    pub(crate) values: &'static [u64],
}

/// The system calls of a process. It can also map memory that is not executable.
#[derive(Clone, Debug)]
pub(crate) struct OwnCalls {
    /// Names; those of other architectures are left out.
    pub(crate) any: Vec<&'static str>,
    pub(crate) with: Vec<CallWith>,
    /// What any other call does.
    pub(crate) refused: RefusedCall,
}

/// What a process does with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileUse {
    Read,
    /// Creates them and writes to them.
    Append,
    /// Creates, reads, writes, renames and removes them, and directories.
    Keep,
}

impl FileUse {
    fn access(self) -> BitFlags<AccessFs> {
        match self {
            FileUse::Read => AccessFs::ReadFile.into(),
            FileUse::Append => AccessFs::WriteFile | AccessFs::MakeReg,
            FileUse::Keep => {
                AccessFs::ReadFile
                    | AccessFs::ReadDir
                    | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::MakeReg
                    | AccessFs::MakeDir
                    | AccessFs::RemoveFile
            }
        }
    }
}

/// What a process may do with files.
#[derive(Clone, Debug)]
pub(crate) enum OwnFiles {
    /// The rest of its protections leaves them alone.
    Any,
    /// What is at these paths and below them, as far as it exists. Without any, no file.
    Only(Vec<(PathBuf, FileUse)>),
}

/// What a process of the server may still do.
#[derive(Clone, Debug)]
pub(crate) struct Protection {
    /// Of the capabilities that it has.
    pub(crate) capabilities: CapabilitySet,
    pub(crate) files: OwnFiles,
    /// The ports that it may connect TCP sockets to, if its files are restricted.
    pub(crate) ports: Vec<u16>,
    /// `None` for all system calls.
    pub(crate) calls: Option<OwnCalls>,
}

/// A layer that the system refuses, and why.
pub(crate) type RefusedLayer = (Layer, io::Error);

/// Empties the bounding set, as far as this process may: it executes no program. To be called
/// before a change of user, which takes the privilege to do so.
///
/// A refusal has no effect: with `no_new_privs`, which follows, no file of a program gives
/// capabilities (capabilities(7)).
pub(crate) fn empty_bounding_set() {
    let _ = drop_bounding_set(CapabilitySet::empty());
}

impl Protection {
    /// Enters all layers, in a process with one thread, for the rest of its life. Returns those
    /// that the system refuses; the others are in force. Landlock is left out where the kernel has
    /// none.
    pub(crate) fn enter(&self) -> Vec<RefusedLayer> {
        let layers = [
            (Layer::NoNewPrivileges, rustix::thread::set_no_new_privs(true).map_err(io::Error::from)),
            (Layer::Capabilities, keep_capabilities(self.capabilities).map_err(io::Error::from)),
            (Layer::Files, self.restrict_files()),
            // Last: it forbids the other steps.
            (Layer::SystemCalls, self.filter_calls()),
        ];
        layers.into_iter().filter_map(|(layer, entered)| Some((layer, entered.err()?))).collect()
    }

    /// As [`Protection::enter`], without the filter of system calls.
    pub(crate) fn enter_without_filter(&self) -> Vec<RefusedLayer> {
        Protection { calls: None, ..self.clone() }.enter()
    }

    /// No other files, no other new TCP connections and listeners, no signals and abstract sockets
    /// of other processes.
    fn restrict_files(&self) -> io::Result<()> {
        let OwnFiles::Only(allowed) = &self.files else { return Ok(()) };
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))
            .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(VERSION)))
            .and_then(|ruleset| ruleset.scope(Scope::from_all(VERSION)))
            .and_then(Ruleset::create);
        let mut created = ruleset.map_err(io::Error::other)?;
        for (path, usage) in allowed.iter().filter(|(path, _)| path.exists()) {
            created = allow(created, path, usage.access())?;
        }
        for port in &self.ports {
            let rule = NetPort::new(*port, AccessNet::ConnectTcp);
            created = created.add_rule(rule).map_err(io::Error::other)?;
        }
        let ruleset: Option<OwnedFd> = created.into();
        ruleset.map_or(Ok(()), |ruleset| restrict_self(ruleset.as_fd()))
    }

    fn filter_calls(&self) -> io::Result<()> {
        let Some(calls) = &self.calls else { return Ok(()) };
        // It is none of those that the compiler knows.
        let program = calls.compile().map_err(|_| io::ErrorKind::Unsupported)?;
        install(&[program])
    }
}

impl OwnCalls {
    /// The filter. It looks at the architecture, too, so the numbers of another one are refused.
    fn compile(&self) -> Result<BpfProgram, BackendError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (call, argument) in WITHOUT_CODE {
            let without = rule(&[(argument, SeccompCmpOp::MaskedEq(EXECUTABLE), 0)]);
            add(&mut rules, call, without);
        }
        for CallWith { call, argument, values } in &self.with {
            add(
                &mut rules,
                call,
                values.iter().filter_map(|value| rule(&[(*argument, SeccompCmpOp::Eq, *value)])),
            );
        }
        for call in &self.any {
            // No condition is left.
            number(call).into_iter().for_each(|number| _ = rules.insert(number, Vec::new()));
        }
        let refuse = match self.refused {
            RefusedCall::Error(errno) => SeccompAction::Errno(errno.raw_os_error().unsigned_abs()),
            RefusedCall::Kill => SeccompAction::KillProcess,
        };
        SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
    }
}

/// Adds conditions of a call, of which one has to hold.
fn add(
    rules: &mut BTreeMap<i64, Vec<SeccompRule>>,
    call: &str,
    conditions: impl IntoIterator<Item = SeccompRule>,
) {
    let conditions: Vec<SeccompRule> = conditions.into_iter().collect();
    // Without a condition, the call would be allowed.
    if let Some(number) = number(call).filter(|_| !conditions.is_empty()) {
        rules.entry(number).or_default().extend(conditions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_own_processes_compile_to_a_short_program() {
        let narrow = OwnCalls {
            any: vec!["read", "no_such_call", "riscv_hwprobe"],
            with: vec![CallWith { call: "fcntl", argument: 1, values: &[1, 2] }],
            refused: RefusedCall::Kill,
        };
        let length = narrow.compile().expect("an architecture with filters").len();
        let wider = OwnCalls { any: vec!["read", "write"], ..narrow.clone() };
        assert!(length < wider.compile().expect("the same").len());
        assert!(length < 100, "{length}");
        // A call without values is not allowed at all.
        let none = OwnCalls { with: vec![CallWith { call: "fcntl", argument: 1, values: &[] }], ..narrow };
        assert!(none.compile().expect("the same").len() < length);
    }
}
