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
        refuses_fast_open: true,
        of_copies: None,
    }
}

#[test]
fn a_jail_has_what_programs_need_and_not_what_breaks_out() {
    let set = set(IN_A_JAIL);
    for call in ["read", "mmap", "execve", "clone", "socket", "connect", "openat", "setuid", "kill", "prctl"]
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
fn passwords_let_calls_through_that_the_filter_refuses() {
    let random = || Password::random().expect("random bytes");
    let (joining, creating) = (random(), Some(random()));
    let lengths = |filter: &CallFilter| {
        let length = |passwords: Option<&Passwords>| filter.compile(passwords).expect("programs")[0].len();
        let without_init = length(Some(&Passwords { joining, creating }));
        (length(None), length(Some(&Passwords { joining, creating: None })), without_init)
    };
    let (none, joined, created) = lengths(&filter(IN_A_JAIL));
    assert!(none < joined && joined < created, "{none} {joined} {created}");
    // Where namespaces can be made anyway, a condition would refuse them.
    let open = CallFilter { restrict_namespaces: false, ..filter(IN_A_JAIL) };
    let (_, joined, created) = lengths(&open);
    assert_eq!(joined, created);
    let (short, long) = (without_passwords(false), without_passwords(true));
    assert!(short.expect("a program").len() < long.expect("a program").len());
}

#[test]
fn copies_make_rooms_by_calls_that_they_refuse_afterwards() {
    let (narrow, namespaces) = (filter(IN_A_JAIL), Kinds::USER.and(Kinds::MOUNT));
    let mut wide = narrow.clone();
    wide.let_copies_into(namespaces);
    assert!(!narrow.calls.has("mount") && wide.covers(&["mount", "seccomp", "capset"]));
    let length = |filter: &CallFilter| filter.compile(None).expect("programs")[0].len();
    assert!(length(&narrow) < length(&wide));
    // What it lets through anyway is not refused.
    let open = CallFilter { restrict_namespaces: false, ..wide };
    let lengths = [&narrow, &open].map(|filter| filter.for_copies(namespaces).expect("a program").len());
    assert!(lengths[0] > lengths[1], "{lengths:?}");
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
