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

use tine_sys::namespaces::Password;

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

/// Address families: those that are allowed, or those that are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    allows: bool,
    numbers: Vec<u16>,
}

impl Families {
    /// Those of a jail.
    pub(super) fn of_a_jail() -> Families {
        let families = [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6];
        Families { allows: true, numbers: families.map(AddressFamily::as_raw).into() }
    }

    /// The conditions of socket(2) and socketpair(2).
    fn rules(&self) -> Vec<SeccompRule> {
        let numbers = self.numbers.iter().map(|number| u64::from(*number));
        match self.allows {
            true => numbers.filter_map(|number| rule(&[(0, SeccompCmpOp::Eq, number)])).collect(),
            false => {
                let none = numbers.map(|number| (0, SeccompCmpOp::Ne, number)).collect::<Vec<_>>();
                rule(&none).into_iter().collect()
            }
        }
    }

    pub(super) fn has(&self, family: AddressFamily) -> bool {
        self.numbers.contains(&family.as_raw()) == self.allows
    }
}

const FAMILIES: &[(&str, AddressFamily)] = &[
    ("AF_UNIX", AddressFamily::UNIX),
    ("AF_LOCAL", AddressFamily::UNIX),
    ("AF_INET", AddressFamily::INET),
    ("AF_INET6", AddressFamily::INET6),
    ("AF_NETLINK", AddressFamily::NETLINK),
    ("AF_PACKET", AddressFamily::PACKET),
    ("AF_KEY", AddressFamily::KEY),
    ("AF_X25", AddressFamily::X25),
    ("AF_AX25", AddressFamily::AX25),
    ("AF_IPX", AddressFamily::IPX),
    ("AF_APPLETALK", AddressFamily::APPLETALK),
    ("AF_LLC", AddressFamily::LLC),
    ("AF_CAN", AddressFamily::CAN),
    ("AF_TIPC", AddressFamily::TIPC),
    ("AF_BLUETOOTH", AddressFamily::BLUETOOTH),
    ("AF_ALG", AddressFamily::from_raw(38)),
    ("AF_NFC", AddressFamily::from_raw(39)),
    ("AF_VSOCK", AddressFamily::from_raw(40)),
    ("AF_QIPCRTR", AddressFamily::from_raw(42)),
    ("AF_SMC", AddressFamily::from_raw(43)),
    ("AF_XDP", AddressFamily::from_raw(44)),
];

impl FromStr for Families {
    type Err = Error;

    fn from_str(text: &str) -> Result<Families, Error> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words == ["none"] {
            return Ok(Families { allows: true, numbers: Vec::new() });
        }
        let refused = words.iter().filter(|word| word.starts_with('~')).count();
        if words.is_empty() || (refused != 0 && refused != words.len()) {
            return Err(Error::usage(
                format_args!("{text:?} is no list of address families"),
                "name those that are allowed, as in AF_UNIX AF_INET, or each that is refused, as in ~AF_PACKET, or write none",
            ));
        }
        let number = |word: &&str| {
            let name = word.trim_start_matches('~');
            let found = FAMILIES.iter().find(|(known, _)| *known == name);
            found.map(|(_, family)| family.as_raw()).ok_or_else(|| {
                Error::usage(
                    format_args!("there is no address family {name:?}"),
                    "name them as address_families(7) does, as in AF_INET6",
                )
            })
        };
        Ok(Families { allows: refused == 0, numbers: words.iter().map(number).collect::<Result<_, _>>()? })
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

    /// The programs of the filter, to be installed in this order. With a password, it also lets
    /// through setns(2) with the password in the arguments that the kernel ignores.
    ///
    /// # Errors
    /// The architecture has none.
    pub(super) fn compile(
        &self,
        password: Option<&Password>,
    ) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let absent = self.absent();
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            self.calls.numbers().map(|number| (number, Vec::new())).collect();
        rules.extend(absent.iter().map(|number| (*number, Vec::new())));
        if let (Some(password), Some(number)) = (password, number("setns")) {
            rules.entry(number).or_insert_with(|| with_password(password).into_iter().collect());
        }
        for (call, conditions) in self.conditions() {
            let rule = number(call).and_then(|number| rules.get_mut(&number));
            rule.into_iter().for_each(|rule| rule.extend_from_slice(&conditions));
        }
        if self.families.as_ref().is_some_and(|families| families.rules().is_empty()) {
            ["socket", "socketpair"]
                .iter()
                .filter_map(|call| number(call))
                .for_each(|call| _ = rules.remove(&call));
        }
        let refuse = match self.refusal {
            RefusedCall::Error(errno) => SeccompAction::Errno(errno.raw_os_error().unsigned_abs()),
            RefusedCall::Kill => SeccompAction::KillProcess,
        };
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
            add("clone", vec![rule(&[(0, none_of(NAMESPACES), 0)])]);
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
        if let Some(families) = &self.families {
            let rules = families.rules();
            found.extend([("socket", rules.clone()), ("socketpair", rules)]);
        }
        found
    }
}

/// The rule of a call with a password.
fn with_password(password: &Password) -> Option<SeccompRule> {
    let conditions = password.arguments().map(|(argument, word)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, word)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>().ok()?).ok()
}

/// A filter that refuses one call. That of setns(2) is for processes that could find the password
/// in their memory.
///
/// # Errors
/// The architecture has none.
pub(super) fn without(call: &str) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules = number(call).map(|number| (number, Vec::new())).into_iter().collect();
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

/// A rule: all of these hold for the arguments, which are compared as 32 bits.
pub(super) fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Option<SeccompRule> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::system_calls::Term;

    fn set(text: &str) -> CallSet {
        let terms: Vec<_> = text.split_whitespace().map(|term| Term::parse(term).expect(term)).collect();
        CallSet::default().with(&terms)
    }

    fn filter(text: &str) -> CallFilter {
        CallFilter {
            calls: set(text),
            refusal: RefusedCall::Error(Errno::PERM),
            families: Some(Families::of_a_jail()),
            restrict_namespaces: true,
            restrict_realtime: true,
            restrict_suid_sgid: true,
            lock_personality: true,
        }
    }

    #[test]
    fn a_jail_has_what_programs_need_and_not_what_breaks_out() {
        let set = set(IN_A_JAIL);
        for call in
            ["read", "mmap", "execve", "clone", "socket", "connect", "openat", "setuid", "kill", "prctl"]
        {
            assert!(set.has(call), "{call}");
        }
        for call in [
            "ptrace",
            "mount",
            "umount2",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "keyctl",
            "add_key",
            "io_uring_setup",
            "userfaultfd",
            "process_vm_readv",
            "init_module",
            "kexec_load",
            "chroot",
            "pivot_root",
            "open_by_handle_at",
            "settimeofday",
            "sethostname",
            "reboot",
            "swapon",
            "pidfd_getfd",
            "open_tree",
            "fsopen",
            "move_mount",
            "mount_setattr",
            "setpriority",
            "syslog",
            "acct",
            "quotactl",
        ] {
            assert!(!set.has(call), "{call}");
        }
    }

    #[test]
    fn filters_compile_in_one_or_two_programs() {
        let of_a_jail = filter(IN_A_JAIL);
        let programs = of_a_jail.compile(None).expect("programs");
        assert_eq!(programs.len(), 2);
        assert!(programs.iter().all(|program| program.len() < 4096));
        let open = CallFilter { restrict_namespaces: false, restrict_suid_sgid: false, ..of_a_jail };
        assert_eq!(open.compile(None).expect("a program").len(), 1);
    }

    #[test]
    fn families_are_allowed_or_refused() {
        for (text, unix, netlink) in [
            ("AF_UNIX", true, false),
            ("AF_UNIX AF_NETLINK", true, true),
            ("~AF_NETLINK", true, false),
            ("~AF_UNIX ~AF_NETLINK", false, false),
            ("none", false, false),
        ] {
            let families: Families = text.parse().expect(text);
            assert_eq!(families.has(AddressFamily::UNIX), unix, "{text}");
            assert_eq!(families.has(AddressFamily::NETLINK), netlink, "{text}");
        }
        for text in ["", "AF_NOTHING", "AF_UNIX ~AF_INET", "none AF_UNIX", "unix"] {
            text.parse::<Families>().expect_err(text);
        }
    }

    #[test]
    fn a_forker_lives_with_the_filter_of_a_jail_and_not_with_a_narrow_one() {
        let needs = &["read", "clone", "execve"];
        assert!(filter(IN_A_JAIL).covers(needs));
        assert!(!filter("@basic-io").covers(needs));
        let families = Some("AF_INET".parse().expect("a family"));
        assert!(!CallFilter { families, ..filter(IN_A_JAIL) }.covers(needs));
    }

    #[test]
    fn a_refusal_is_an_error_or_the_end() {
        assert_eq!("EPERM".parse::<RefusedCall>().expect("an error"), RefusedCall::Error(Errno::PERM));
        assert_eq!("kill".parse::<RefusedCall>().expect("the end"), RefusedCall::Kill);
        "EAGAINST".parse::<RefusedCall>().expect_err("no error");
    }
}
