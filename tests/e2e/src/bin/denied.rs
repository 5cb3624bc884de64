//! Executes a command under seccomp(2) filters that answer system calls with an error, as the
//! filters of containers and sandboxes do, and kernels that do not have the call:
//! `denied ERROR:CALL[,CALL…]… -- COMMAND ARGUMENT…`.
//!
//! A call is the name of a system call, or one of the conditions in [`condition`].

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The numbers of system calls by their names.
macro_rules! numbers {
    ($wanted:expr, $($name:ident = $number:ident),+ $(,)?) => {
        match $wanted {
            $(stringify!($name) => Some(libc::$number),)+
            _ => None,
        }
    };
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let end = arguments.iter().position(|argument| argument == "--").expect("-- before the command");
    for filter in &arguments[..end] {
        let (error, calls) = filter.split_once(':').expect("ERROR:CALL");
        let mut rules = Rules::new();
        for call in calls.split(',') {
            let (number, of_call) = rule(call);
            rules.entry(number).or_default().extend(of_call);
        }
        deny(error_number(error), rules);
    }
    let why = Command::new(&arguments[end + 1]).args(&arguments[end + 2..]).exec();
    panic!("cannot execute {}: {why}", arguments[end + 1]);
}

fn deny(error: i32, rules: Rules) {
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture with filters");
    let answer = SeccompAction::Errno(u32::try_from(error).expect("an error number"));
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture).expect("a valid filter");
    let program = BpfProgram::try_from(filter).expect("a short filter");
    seccompiler::apply_filter(&program).expect("filters are possible");
}

fn error_number(name: &str) -> i32 {
    match name {
        "EPERM" => libc::EPERM,
        "EACCES" => libc::EACCES,
        "EINVAL" => libc::EINVAL,
        "ENOSPC" => libc::ENOSPC,
        "ENOSYS" => libc::ENOSYS,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        "EOPNOTSUPP" => libc::EOPNOTSUPP,
        // The call is not made, and seems to succeed.
        "SUCCESS" => 0,
        _ => panic!("no error is called {name}"),
    }
}

/// The number of a call, and the conditions of which one must hold; none stands for always.
fn rule(name: &str) -> (i64, Vec<SeccompRule>) {
    condition(name).unwrap_or_else(|| {
        let number = number(name).unwrap_or_else(|| panic!("no system call is called {name}"));
        (number, Vec::new())
    })
}

/// Calls with certain arguments.
fn condition(name: &str) -> Option<(i64, Vec<SeccompRule>)> {
    const NAMESPACES: i32 = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let has_flag = |flag: i32| argument(0, SeccompCmpOp::MaskedEq(flag as u64), flag);
    let is = |at: u8, value: i32| argument(at, SeccompCmpOp::Eq, value);
    Some(match name {
        "netlink" => (libc::SYS_socket, vec![is(0, libc::AF_NETLINK)]),
        "vsock" => (libc::SYS_socket, vec![is(0, libc::AF_VSOCK)]),
        "siblings" => (libc::SYS_clone, vec![has_flag(libc::CLONE_PARENT)]),
        "namespaces" => {
            let flags = (0..31).map(|bit| 1 << bit).filter(|flag| NAMESPACES & flag != 0);
            (libc::SYS_clone, flags.map(has_flag).collect())
        }
        "seals" => (libc::SYS_fcntl, vec![is(1, libc::F_ADD_SEALS)]),
        "attach-filter" => {
            let both = [
                comparison(1, SeccompCmpOp::Eq, libc::SOL_SOCKET),
                comparison(2, SeccompCmpOp::Eq, libc::SO_ATTACH_FILTER),
            ];
            (libc::SYS_setsockopt, vec![SeccompRule::new(both.into()).expect("conditions")])
        }
        "bounding-set" => (libc::SYS_prctl, vec![is(0, libc::PR_CAPBSET_DROP)]),
        "dumpable" => (libc::SYS_prctl, vec![is(0, libc::PR_SET_DUMPABLE)]),
        "no-new-privileges" => (libc::SYS_prctl, vec![is(0, libc::PR_SET_NO_NEW_PRIVS)]),
        "parent-death-signal" => (libc::SYS_prctl, vec![is(0, libc::PR_SET_PDEATHSIG)]),
        "subreaper" => (libc::SYS_prctl, vec![is(0, libc::PR_SET_CHILD_SUBREAPER)]),
        "memory-map" => (libc::SYS_prctl, vec![is(0, libc::PR_SET_MM)]),
        "process-name" => (libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME)]),
        _ => return None,
    })
}

fn argument(at: u8, compare: SeccompCmpOp, value: i32) -> SeccompRule {
    SeccompRule::new(vec![comparison(at, compare, value)]).expect("a condition")
}

fn comparison(at: u8, compare: SeccompCmpOp, value: i32) -> SeccompCondition {
    let condition = SeccompCondition::new(at, SeccompCmpArgLen::Dword, compare, value as u32 as u64);
    condition.expect("an argument of a call")
}

fn number(name: &str) -> Option<i64> {
    numbers!(
        name,
        accept4 = SYS_accept4,
        acct = SYS_acct,
        add_key = SYS_add_key,
        bpf = SYS_bpf,
        capget = SYS_capget,
        capset = SYS_capset,
        chdir = SYS_chdir,
        clock_settime = SYS_clock_settime,
        clone3 = SYS_clone3,
        close_range = SYS_close_range,
        copy_file_range = SYS_copy_file_range,
        delete_module = SYS_delete_module,
        epoll_create1 = SYS_epoll_create1,
        epoll_pwait2 = SYS_epoll_pwait2,
        eventfd2 = SYS_eventfd2,
        execveat = SYS_execveat,
        faccessat2 = SYS_faccessat2,
        fanotify_init = SYS_fanotify_init,
        fchdir = SYS_fchdir,
        finit_module = SYS_finit_module,
        fsconfig = SYS_fsconfig,
        fsmount = SYS_fsmount,
        fsopen = SYS_fsopen,
        fspick = SYS_fspick,
        futex_waitv = SYS_futex_waitv,
        get_mempolicy = SYS_get_mempolicy,
        get_robust_list = SYS_get_robust_list,
        getrandom = SYS_getrandom,
        init_module = SYS_init_module,
        inotify_init1 = SYS_inotify_init1,
        io_uring_enter = SYS_io_uring_enter,
        io_uring_register = SYS_io_uring_register,
        io_uring_setup = SYS_io_uring_setup,
        kcmp = SYS_kcmp,
        kexec_file_load = SYS_kexec_file_load,
        kexec_load = SYS_kexec_load,
        keyctl = SYS_keyctl,
        landlock_add_rule = SYS_landlock_add_rule,
        landlock_create_ruleset = SYS_landlock_create_ruleset,
        landlock_restrict_self = SYS_landlock_restrict_self,
        lookup_dcookie = SYS_lookup_dcookie,
        mbind = SYS_mbind,
        membarrier = SYS_membarrier,
        memfd_create = SYS_memfd_create,
        migrate_pages = SYS_migrate_pages,
        mount = SYS_mount,
        mount_setattr = SYS_mount_setattr,
        move_mount = SYS_move_mount,
        move_pages = SYS_move_pages,
        name_to_handle_at = SYS_name_to_handle_at,
        open_by_handle_at = SYS_open_by_handle_at,
        open_tree = SYS_open_tree,
        openat2 = SYS_openat2,
        perf_event_open = SYS_perf_event_open,
        pidfd_getfd = SYS_pidfd_getfd,
        pidfd_open = SYS_pidfd_open,
        pidfd_send_signal = SYS_pidfd_send_signal,
        pivot_root = SYS_pivot_root,
        pkey_alloc = SYS_pkey_alloc,
        pkey_free = SYS_pkey_free,
        pkey_mprotect = SYS_pkey_mprotect,
        preadv2 = SYS_preadv2,
        process_madvise = SYS_process_madvise,
        process_vm_readv = SYS_process_vm_readv,
        process_vm_writev = SYS_process_vm_writev,
        pwritev2 = SYS_pwritev2,
        quotactl = SYS_quotactl,
        reboot = SYS_reboot,
        request_key = SYS_request_key,
        rseq = SYS_rseq,
        sched_setattr = SYS_sched_setattr,
        set_mempolicy = SYS_set_mempolicy,
        seccomp = SYS_seccomp,
        setdomainname = SYS_setdomainname,
        setgroups = SYS_setgroups,
        sethostname = SYS_sethostname,
        setns = SYS_setns,
        setresgid = SYS_setresgid,
        setresuid = SYS_setresuid,
        settimeofday = SYS_settimeofday,
        signalfd4 = SYS_signalfd4,
        socketpair = SYS_socketpair,
        statfs = SYS_statfs,
        statx = SYS_statx,
        swapoff = SYS_swapoff,
        swapon = SYS_swapon,
        syslog = SYS_syslog,
        timerfd_create = SYS_timerfd_create,
        umount2 = SYS_umount2,
        unshare = SYS_unshare,
        userfaultfd = SYS_userfaultfd,
        vhangup = SYS_vhangup,
        vmsplice = SYS_vmsplice,
    )
}
