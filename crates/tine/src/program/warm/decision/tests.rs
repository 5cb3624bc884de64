//! Each hindrance, and what allows it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::census::FoundDescriptor;
use super::super::file_changes::FileChanges;
use super::super::stop::Marker;
use super::*;

fn census() -> Census {
    Census {
        reached: Reached::Use("read", 0),
        timeout: Duration::from_secs(30),
        programs: vec!["/bin/cat".into()],
        calls: 40,
        elapsed: Duration::from_millis(3),
        threads_started: 0,
        interval_timers: 0,
        sources: BTreeMap::new(),
        file_changes: FileChanges::default(),
        shown: Shown::default(),
    }
}

fn with(change: impl FnOnce(&mut Census)) -> Census {
    let mut census = census();
    change(&mut census);
    census
}

fn descriptor(kind: DescriptorKind) -> Census {
    with(|census| census.shown.descriptors = vec![FoundDescriptor { number: 5, kind }])
}

/// A program that has copied a variable.
fn copies_at(reached: Reached) -> Census {
    with(|census| {
        census.reached = reached;
        census.shown.found.private = ["REMOTE_ADDR"].into();
    })
}

fn file(hindrance: Option<&str>) -> DescriptorKind {
    DescriptorKind::File {
        path: "/tmp/a".into(),
        offset: 7,
        flags: 0,
        hindrance: hindrance.map(str::to_owned),
    }
}

#[test]
fn a_program_without_hindrances_is_warm() {
    for census in [
        census(),
        with(|census| census.reached = Reached::Marker("faccessat2", Marker::Ready)),
        copies_at(Reached::Marker("access", Marker::RenewsVariables)),
        descriptor(DescriptorKind::Harmless),
        descriptor(file(None)),
        with(|census| census.programs.push("/bin/dash".into())),
    ] {
        assert_eq!(decide(&census, &[]), WarmVerdict::Warm, "{census:?}");
    }
}

/// The hindrances, with the row that each belongs to, a part of its text, and what allows it.
fn table() -> Vec<(Census, &'static str, &'static str, Option<WarmAllow>)> {
    let shown = |change: fn(&mut Shown)| with(|census| change(&mut census.shown));
    let kind = descriptor;
    vec![
        (shown(|shown| shown.threads = 1), "threads", "1 besides the first", None),
        (
            with(|census| census.threads_started = 2),
            "threads",
            "2 started and ended",
            Some(WarmAllow::ThreadExited),
        ),
        (shown(|shown| shown.children = vec!["sleep".into()]), "children", "sleep: children", None),
        (shown(|shown| shown.rights = Some("x".into())), "rights", "gain its rights", None),
        (shown(|shown| shown.timers = 1), "timers", "1 set", Some(WarmAllow::Timer)),
        (with(|census| census.interval_timers = 1), "timers", "1 set", Some(WarmAllow::Timer)),
        (kind(file(Some("deleted"))), "descriptors", "5 is /tmp/a, deleted: all copies", None),
        (kind(DescriptorKind::Eventfd), "descriptors", "an eventfd", Some(WarmAllow::Eventfd)),
        (kind(DescriptorKind::Epoll(3)), "descriptors", "with 3 members", Some(WarmAllow::Epoll)),
        (kind(DescriptorKind::Timerfd), "descriptors", "a timerfd", Some(WarmAllow::Timerfd)),
        (kind(DescriptorKind::IoUring), "descriptors", "an io_uring", None),
        (kind(DescriptorKind::Socket), "descriptors", "besides the connection", Some(WarmAllow::Socket)),
        (kind(DescriptorKind::Pipe), "descriptors", "a pipe", Some(WarmAllow::Pipe)),
        (kind(DescriptorKind::Other("inotify".into())), "descriptors", "is inotify", None),
        (
            shown(|shown| shown.locks = vec!["FLOCK WRITE /run/a".into()]),
            "locks",
            "FLOCK WRITE /run/a",
            Some(WarmAllow::Flock),
        ),
        (
            shown(|shown| shown.shared_memory = vec!["/dev/shm/a".into()]),
            "memory",
            "/dev/shm/a shared",
            Some(WarmAllow::SharedMemory),
        ),
        (shown(|shown| shown.lost = vec!["locked memory"]), "memory", "locked memory: a copy", None),
        (
            shown(|shown| shown.found.private = ["REMOTE_ADDR"].into()),
            "variables",
            "REMOTE_ADDR copied",
            Some(WarmAllow::Variables),
        ),
        (
            copies_at(Reached::Marker("access", Marker::Ready)),
            "variables",
            "renew them after a look at /.tine/ready/variables",
            Some(WarmAllow::Variables),
        ),
        (shown(|shown| shown.own_filter = true), "filter", "of its own", None),
    ]
}

#[test]
fn each_hindrance_is_a_reason_and_may_be_allowed() {
    let names: Vec<WarmAllow> = WarmAllow::NAMES.iter().map(|name| name.parse().expect("a name")).collect();
    for (census, aspect, part, allowed) in table() {
        let WarmVerdict::Refused(reasons) = decide(&census, &[]) else { panic!("warm: {census:?}") };
        let [reason] = &reasons[..] else { panic!("{reasons:?}") };
        let text = reason.to_string();
        assert!(text.contains(part) && text.contains(": ") && text.contains("; "), "{text}");
        assert_eq!((reason.aspect(), reason.kind()), (aspect, allowed), "{text}");
        for name in &names {
            let is_warm = decide(&census, &[*name]) == WarmVerdict::Warm;
            assert_eq!(is_warm, Some(*name) == allowed, "{text} {name}");
        }
        // The text says what allows it.
        let said = allowed.is_none_or(|kind| text.contains(&format!("allow {kind}")));
        assert!(said && text.contains("allow ") == allowed.is_some(), "{text}");
    }
}

#[test]
fn a_program_that_does_not_get_there_is_refused_for_that_alone() {
    for (reached, part) in [
        (Reached::Ended(How::Exited(0)), "exited with code 0 before"),
        (Reached::Ended(How::Signaled(9)), "signal 9 ended it"),
        (Reached::Halted(19), "signal 19 stopped it"),
        (Reached::TimedOut(Some("clock_nanosleep")), "within 30s, and waits in clock_nanosleep"),
        (Reached::TimedOut(None), "within 30s: "),
        (Reached::UsedBefore("write", 1), "write of descriptor 1"),
        (Reached::ByChild("cat".into(), "read"), "a child of it, cat"),
        (Reached::GainsRights("/bin/su, which is set-user-ID".into()), "/bin/su, which"),
        (Reached::Foreign, "another architecture"),
        (Reached::Hidden, "forbids others to look"),
    ] {
        let census = with(|census| {
            census.reached = reached.clone();
            census.shown.threads = 3;
        });
        let all: Vec<WarmAllow> = WarmAllow::NAMES.iter().filter_map(|name| name.parse().ok()).collect();
        let WarmVerdict::Refused(reasons) = decide(&census, &all) else { panic!("{reached:?}") };
        let [reason] = &reasons[..] else { panic!("{reasons:?}") };
        let text = reason.to_string();
        assert!(text.contains(part) && text.contains("; "), "{text}");
        assert_eq!(reason.aspect(), "stop");
    }
}
