//! The filter of system calls: conditions on calls, and the program that the kernel runs
//! (seccomp(2)).

use std::collections::BTreeMap;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use tine_sys::namespaces::{Kinds, Password};

use super::families::Families;
use super::rule::rule;
use super::system_calls::{CallSet, number};
use crate::error::Error;

/// The system calls of a jail: `@system-service` without what is not for one process alone, or has
/// been the way out of too many sandboxes.
pub(super) const IN_A_JAIL: &str = "@system-service ~@keyring ~io_uring_setup ~io_uring_enter \
    ~io_uring_register ~userfaultfd ~process_vm_readv ~process_vm_writev ~kcmp ~pidfd_getfd ~unshare ~setns \
    ~name_to_handle_at ~ioprio_set ~mbind ~migrate_pages ~move_pages ~sched_setaffinity ~sched_setattr \
    ~sched_setparam ~sched_setscheduler ~set_mempolicy ~setpriority ~vmsplice";

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME (clone(2)).
const NAMESPACES: u64 = 0x7e02_0080;

/// CLONE_NEWPID: it takes CAP_SYS_ADMIN over the user namespace.
const NEWPID: u64 = 0x2000_0000;

/// Calls by which a copy of a template makes its room, beside clone(2). The last one only takes
/// rights away: it is not refused afterwards.
const OF_A_COPY: [&str; 3] = ["mount", "seccomp", "capset"];

/// The bits that give a file's user and group to those who execute it (chmod(2)).
const SET_ID: u64 = 0o6000;

/// Calls that make files, with the numbers of their arguments: the flags, if there are any, and the
/// mode.
const WITH_A_MODE: &[(&str, Option<u8>, u8)] = &[
    ("chmod", None, 1),
    ("fchmod", None, 1),
    ("fchmodat", None, 2),
    ("fchmodat2", None, 2),
    ("mkdir", None, 1),
    ("mkdirat", None, 2),
    ("mknod", None, 1),
    ("mknodat", None, 2),
    ("creat", None, 1),
    ("open", Some(1), 2),
    ("openat", Some(2), 3),
];

/// Flags of open(2) with which its mode counts: O_CREAT and O_TMPFILE.
const CREATES: u64 = 0o100 | 0o20_000_000;

/// personality(2) with this value only asks.
const ASK_PERSONALITY: u64 = 0xffff_ffff;

/// Calls that send, with the number of their flags.
const SENDING: [(&str, u8); 3] = [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)];

/// MSG_FASTOPEN (linux/socket.h): connect, and send with the first packet.
pub(super) const FAST_OPEN: u32 = 0x2000_0000;

/// SCHED_OTHER, SCHED_BATCH and SCHED_IDLE (sched(7)).
const NOT_REAL_TIME: [u64; 3] = [0, 3, 5];

/// What a refused system call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedCall {
    /// It returns this error.
    Error(Errno),
    /// It ends the process with SIGSYS.
    Kill,
}

impl FromStr for RefusedCall {
    type Err = Error;

    fn from_str(name: &str) -> Result<RefusedCall, Error> {
        let known = [
            ("EPERM", Errno::PERM),
            ("EACCES", Errno::ACCESS),
            ("ENOSYS", Errno::NOSYS),
            ("EINVAL", Errno::INVAL),
            ("ENOENT", Errno::NOENT),
            ("EUCLEAN", Errno::UCLEAN),
        ];
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, errno)) => Ok(RefusedCall::Error(*errno)),
            None if name == "kill" => Ok(RefusedCall::Kill),
            None => Err(Error::usage(
                format_args!("a refused system call cannot return {name:?}"),
                "choose EPERM, EACCES, ENOSYS, EINVAL, ENOENT or EUCLEAN, or kill",
            )),
        }
    }
}

/// What a filter allows.
#[derive(Clone, Debug)]
pub(crate) struct CallFilter {
    pub(super) calls: CallSet,
    pub(super) refusal: RefusedCall,
    pub(super) families: Option<Families>,
    pub(super) restrict_namespaces: bool,
    pub(super) restrict_realtime: bool,
    pub(super) restrict_suid_sgid: bool,
    pub(super) lock_personality: bool,
    /// No connection is made by sending (`MSG_FASTOPEN`, tcp(7)), which Landlock does not refuse.
    pub(super) refuses_fast_open: bool,
    /// The namespaces that copies of a template make, if they do.
    pub(super) of_copies: Option<Kinds>,
}

impl CallFilter {
    /// Whether this architecture can have one.
    pub(super) fn is_possible() -> bool {
        TargetArch::try_from(std::env::consts::ARCH).is_ok()
    }

    /// Whether a process that makes these calls, and sockets of the family `AF_UNIX`, can live with
    /// the filter.
    pub(super) fn covers(&self, calls: &[&str]) -> bool {
        self.calls.has_all(calls) && self.families.as_ref().is_none_or(|all| all.has(AddressFamily::UNIX))
    }

    /// Whether a call that is refused ends its process.
    pub(super) fn kills(&self) -> bool {
        self.refusal == RefusedCall::Kill
    }

    /// The number of calls that are allowed.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The programs of the filter, to be installed in this order. With passwords, it also lets
    /// through setns(2), and clone(2) into a pid namespace, with the password in the arguments that
    /// the kernel ignores.
    ///
    /// # Errors
    /// The architecture has none.
    pub(super) fn compile(
        &self,
        passwords: Option<&Passwords>,
    ) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let absent = self.absent();
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            self.calls.numbers().map(|number| (number, Vec::new())).collect();
        rules.extend(absent.iter().map(|number| (*number, Vec::new())));
        if let (Some(passwords), Some(number)) = (passwords, number("setns")) {
            let rule = with_password(passwords.joining.arguments(), None);
            rules.entry(number).or_insert_with(|| rule.into_iter().collect());
        }
        let creating =
            passwords.and_then(|passwords| passwords.creating).filter(|_| self.restrict_namespaces);
        let creating =
            creating.and_then(|password| with_password(password.arguments_of_clone(), Some(NEWPID)));
        let creating = creating.map(|rule| ("clone", vec![rule]));
        for (call, conditions) in self.conditions().into_iter().chain(creating) {
            let rule = number(call).and_then(|number| rules.get_mut(&number));
            rule.into_iter().for_each(|rule| rule.extend_from_slice(&conditions));
        }
        if self.families.as_ref().is_some_and(|families| families.rules().is_empty()) {
            ["socket", "socketpair"]
                .iter()
                .filter_map(|call| number(call))
                .for_each(|call| _ = rules.remove(&call));
        }
        let refuse = self.refusal.action();
        let mut programs = vec![SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()?];
        if !absent.is_empty() {
            // Of what two programs say, the kernel does the stricter.
            let rules = absent.into_iter().map(|number| (number, Vec::new())).collect();
            let no_call = SeccompAction::Errno(Errno::NOSYS.raw_os_error().unsigned_abs());
            programs.push(SeccompFilter::new(rules, SeccompAction::Allow, no_call, arch)?.try_into()?);
        }
        Ok(programs)
    }

    /// Calls that do not exist, as their arguments cannot be seen. The C library uses another for
    /// them.
    fn absent(&self) -> Vec<i64> {
        let calls = [(self.restrict_namespaces, "clone3"), (self.restrict_suid_sgid, "openat2")];
        calls.iter().filter(|(restricts, _)| *restricts).filter_map(|(_, call)| number(call)).collect()
    }

    /// Calls with conditions, of which one has to hold.
    fn conditions(&self) -> Vec<(&'static str, Vec<SeccompRule>)> {
        let mut found = Vec::new();
        let mut add = |call, rules: Vec<Option<SeccompRule>>| {
            found.push((call, rules.into_iter().flatten().collect::<Vec<_>>()));
        };
        let none_of = |mask| SeccompCmpOp::MaskedEq(mask);
        if self.restrict_namespaces {
            let of_copies = self.of_copies.and_then(into_namespaces);
            add("clone", vec![rule(&[(0, none_of(NAMESPACES), 0)]), of_copies]);
        }
        if self.lock_personality {
            add("personality", vec![rule(&[(0, SeccompCmpOp::Eq, ASK_PERSONALITY)])]);
        }
        if self.restrict_realtime {
            let allowed = NOT_REAL_TIME.map(|policy| rule(&[(1, SeccompCmpOp::Eq, policy)]));
            add("sched_setscheduler", allowed.into());
        }
        if self.restrict_suid_sgid {
            for (call, flags, mode) in WITH_A_MODE {
                let without = flags.map(|flags| rule(&[(flags, none_of(CREATES), 0)]));
                add(call, vec![rule(&[(*mode, none_of(SET_ID), 0)]), without.flatten()]);
            }
        }
        if self.refuses_fast_open {
            for (call, flags) in SENDING {
                add(call, vec![rule(&[(flags, none_of(FAST_OPEN.into()), 0)])]);
            }
        }
        if let Some(families) = &self.families {
            let rules = families.rules();
            found.extend([("socket", rules.clone()), ("socketpair", rules)]);
        }
        found
    }
}

impl CallFilter {
    /// Lets a template make copies in namespaces of their own, and these their rooms.
    pub(super) fn let_copies_into(&mut self, namespaces: Kinds) {
        OF_A_COPY.iter().for_each(|call| self.calls.add(call));
        self.of_copies = Some(namespaces);
    }

    /// What a copy adds when it has made its room: it refuses what that takes, and this filter does
    /// not let through.
    ///
    /// # Errors
    /// The architecture has none.
    pub(super) fn for_copies(&self, namespaces: Kinds) -> Result<BpfProgram, seccompiler::BackendError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let added = OF_A_COPY.iter().filter(|call| !self.calls.has(call) && **call != "capset");
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            added.filter_map(|call| number(call)).map(|number| (number, Vec::new())).collect();
        let clone = number("clone").zip(into_namespaces(namespaces)).filter(|_| self.restrict_namespaces);
        rules.extend(clone.map(|(number, rule)| (number, vec![rule])));
        SeccompFilter::new(rules, SeccompAction::Allow, self.refusal.action(), arch)?.try_into()
    }
}

impl RefusedCall {
    fn action(self) -> SeccompAction {
        match self {
            RefusedCall::Error(errno) => SeccompAction::Errno(errno.raw_os_error().unsigned_abs()),
            RefusedCall::Kill => SeccompAction::KillProcess,
        }
    }
}

/// The rule of clone(2) into these namespaces, and no others.
fn into_namespaces(namespaces: Kinds) -> Option<SeccompRule> {
    rule(&[(0, SeccompCmpOp::MaskedEq(NAMESPACES), namespaces.flags())])
}

/// What calls of a full jail have in the arguments that the kernel ignores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passwords {
    /// Of setns(2).
    pub(super) joining: Password,
    /// Of clone(2) with CLONE_NEWPID, if the processes of connections are made so.
    pub(super) creating: Option<Password>,
}

/// The rule of a call with a password, and of the namespaces with none but this one among its
/// flags.
fn with_password(password: impl Iterator<Item = (u8, u64)>, namespace: Option<u64>) -> Option<SeccompRule> {
    let word =
        |(argument, word)| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, word);
    let only =
        |one| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(NAMESPACES), one);
    let conditions = password.map(word).chain(namespace.map(only));
    SeccompRule::new(conditions.collect::<Result<_, _>>().ok()?).ok()
}

/// A filter that refuses this call and no other.
///
/// # Errors
/// The architecture has none.
pub(super) fn refusing(call: &str) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules = number(call).map(|number| (number, Vec::new())).into_iter().collect();
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

/// A filter that refuses setns(2), and with `creating` clone(2) into a pid namespace: for processes
/// that could find the passwords in their memory.
///
/// # Errors
/// The architecture has none.
pub(super) fn without_passwords(creating: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        number("setns").map(|number| (number, Vec::new())).into_iter().collect();
    let into_namespace = rule(&[(0, SeccompCmpOp::MaskedEq(NEWPID), NEWPID)]);
    if let (true, Some(number), Some(rule)) = (creating, number("clone"), into_namespace) {
        rules.insert(number, vec![rule]);
    }
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

#[cfg(test)]
mod tests;
