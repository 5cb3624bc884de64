//! Programs as their events.

use syscalls::Sysno;
use tine_sys::trace::TracedCall;

use super::super::call::fake::FakeTask;
use super::*;

const MAIN: i32 = 100;

fn entry(name: &str, first: &[u64]) -> TraceEvent {
    let mut arguments = [0; 6];
    arguments[..first.len()].copy_from_slice(first);
    let number = name.parse::<Sysno>().expect("a call of every architecture").id();
    let architecture = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
    TraceEvent::Entry(TracedCall {
        architecture,
        number: u64::try_from(number).expect("positive"),
        arguments,
    })
}

/// The result of the last of these events, of a program that has begun; all others let it run on.
fn end(until: WarmUntil, events: &[(i32, TraceEvent)]) -> (Watch, WatchStep) {
    let memory = vec![(4096, b"/.tine/ready\0".to_vec()), (8192, b"/.tine/ready/variables\0".to_vec())];
    let look = FakeTask { memory, descriptors: [0, 1].into(), ..FakeTask::default() };
    let mut watch = Watch::new(MAIN, until);
    let mut step = watch.on(MAIN, &TraceEvent::Executed(MAIN), &look);
    for (id, event) in events {
        assert_eq!(step, WatchStep::Resume(None), "before {event:?}");
        step = watch.on(*id, event, &look);
    }
    (watch, step)
}

#[test]
fn a_program_stops_at_its_first_use() {
    let (watch, step) = end(
        WarmUntil::Use,
        &[
            (MAIN, entry("dup", &[0])),
            (MAIN, TraceEvent::Exit(5)),
            (MAIN, entry("close", &[0])),
            (MAIN, TraceEvent::Exit(0)),
            (MAIN, entry("read", &[0])),
            (MAIN, TraceEvent::Exit(0)),
            (MAIN, entry("read", &[5])),
        ],
    );
    assert_eq!(step, WatchStep::Over(Reached::Use("read", 5)));
    assert_eq!((watch.calls, watch.threads), (4, 0));
}

#[test]
fn a_look_at_a_marker_is_a_point_and_with_call_the_only_one() {
    let (ready, renews) = (entry("faccessat", &[0, 4096]), entry("faccessat", &[0, 8192]));
    let (opens, writes) = (entry("openat", &[0, 77]), entry("write", &[1]));
    let (at_ready, at_variables) =
        (Reached::Marker("faccessat", Marker::Ready), Reached::Marker("faccessat", Marker::RenewsVariables));
    let (used, used_before) = (Reached::Use("write", 1), Reached::UsedBefore("write", 1));
    for (until, events, reached) in [
        (WarmUntil::Call, &[ready][..], &at_ready),
        (WarmUntil::Call, &[renews], &at_variables),
        (WarmUntil::Call, &[opens, renews], &at_variables),
        (WarmUntil::Call, &[writes], &used_before),
        (WarmUntil::Call, &[opens, writes], &used_before),
        (WarmUntil::Use, &[ready], &at_ready),
        (WarmUntil::Use, &[renews], &at_variables),
        (WarmUntil::Use, &[opens, renews], &at_variables),
        (WarmUntil::Use, &[writes], &used),
    ] {
        let events: Vec<_> = events.iter().map(|event| (MAIN, *event)).collect();
        assert_eq!(end(until, &events).1, WatchStep::Over(reached.clone()), "{until:?} {events:?}");
        let by_child: Vec<_> = events.iter().map(|(_, event)| (7, *event)).collect();
        let make = [(MAIN, entry("clone", &[17])), (MAIN, TraceEvent::Created(7))];
        let step = end(until, &[&make[..], &by_child].concat()).1;
        assert!(matches!(step, WatchStep::Over(Reached::ByChild(..))), "{until:?} {step:?}");
    }
}

#[test]
fn with_accept_only_a_call_for_a_client_is_a_point() {
    let reads = (MAIN, entry("read", &[0]));
    let other = (MAIN, entry("accept4", &[5, 0, 0, 0]));
    let (watch, step) = end(
        WarmUntil::Accept,
        &[
            reads,
            (MAIN, TraceEvent::Exit(0)),
            other,
            (MAIN, TraceEvent::Exit(-22)),
            (MAIN, entry("accept4", &[1, 64, 72, 2048])),
        ],
    );
    let call = AcceptCall { name: "accept4", listener: 1, flags: 2048, address: 64, length: 72, room: 0 };
    assert_eq!(step, WatchStep::Over(Reached::Accept(call)));
    assert_eq!(watch.calls, 3);
    let make = [(MAIN, entry("clone", &[17])), (MAIN, TraceEvent::Created(7)), (7, entry("accept", &[0]))];
    assert!(matches!(end(WarmUntil::Accept, &make).1, WatchStep::Over(Reached::ByChild(..))));
}

#[test]
fn children_have_descriptors_of_their_own_and_threads_share_them() {
    let make = |flags| [(MAIN, entry("clone", &[flags])), (MAIN, TraceEvent::Created(7))];
    let closes = [(7, TraceEvent::Began), (7, entry("close", &[0])), (7, TraceEvent::Exit(0))];
    let reads = |id| [(id, entry("read", &[0]))];
    let after = |flags, id| end(WarmUntil::Use, &[&make(flags)[..], &closes, &reads(id)].concat());
    assert_eq!(after(17, MAIN).1, WatchStep::Over(Reached::Use("read", 0)));
    assert_eq!(after(17, 7).1, WatchStep::Resume(None));
    let (watch, step) = after(0x10400, MAIN);
    assert_eq!((step, watch.threads), (WatchStep::Resume(None), 1));
    let of_child = end(WarmUntil::Use, &[&make(17)[..], &reads(7)].concat());
    assert_eq!(of_child.1, WatchStep::Over(Reached::ByChild("fake".into(), "read")));
    let of_thread = end(WarmUntil::Use, &[&make(0x10400)[..], &reads(7)].concat());
    assert_eq!(of_thread.1, WatchStep::Over(Reached::Use("read", 0)));
    let with_end = end(WarmUntil::Use, &[&make(17)[..], &[(7, TraceEvent::Ended(How::Exited(1)))]].concat());
    assert_eq!(with_end.1, WatchStep::Resume(None), "the end of a child");
}

#[test]
fn a_program_that_does_not_get_there() {
    let ended = TraceEvent::Ended(How::Signaled(9));
    assert_eq!(end(WarmUntil::Use, &[(MAIN, ended)]).1, WatchStep::Over(Reached::Ended(How::Signaled(9))));
    let halted = TraceEvent::Halted(19);
    assert_eq!(end(WarmUntil::Use, &[(MAIN, halted)]).1, WatchStep::Over(Reached::Halted(19)));
    let TraceEvent::Entry(call) = entry("read", &[0]) else { unreachable!("an entry") };
    let foreign = TraceEvent::Entry(TracedCall { architecture: 0x4000_0003, ..call });
    assert_eq!(end(WarmUntil::Use, &[(MAIN, foreign)]).1, WatchStep::Over(Reached::Foreign));
    let (watch, _) = end(WarmUntil::Use, &[(MAIN, entry("nanosleep", &[]))]);
    assert_eq!(watch.time_out(), Reached::TimedOut(Some("nanosleep")));
    assert_eq!(Watch::new(MAIN, WarmUntil::Use).time_out(), Reached::TimedOut(None));
    let look = FakeTask { rights: Some("set-user-id".into()), ..FakeTask::default() };
    let step = Watch::new(MAIN, WarmUntil::Use).on(MAIN, &TraceEvent::Executed(MAIN), &look);
    assert_eq!(step, WatchStep::Over(Reached::GainsRights("set-user-id".into())));
}

#[test]
fn signals_are_passed_on_and_executions_counted() {
    let (watch, step) = end(WarmUntil::Use, &[(MAIN, TraceEvent::Signal(10))]);
    assert_eq!((step, watch.executed.len()), (WatchStep::Resume(Some(10)), 1));
    let (watch, _) = end(WarmUntil::Use, &[(MAIN, TraceEvent::Executed(MAIN))]);
    assert_eq!(watch.executed, ["fake", "fake"]);
    // A thread executes: it gets the id of the process, and the first thread is gone.
    let (watch, _) = end(
        WarmUntil::Use,
        &[
            (MAIN, entry("clone", &[0x10400])),
            (MAIN, TraceEvent::Created(7)),
            (MAIN, TraceEvent::Executed(7)),
        ],
    );
    assert_eq!((watch.tasks.len(), watch.threads), (1, 0));
}

#[test]
fn files_that_it_or_a_child_makes_are_noted_if_the_call_succeeds() {
    const CHILD: i32 = 101;
    let (makes, unlinks) = (entry("mkdirat", &[0, 4096]), entry("unlinkat", &[0, 8192]));
    let (watch, step) = end(
        WarmUntil::Use,
        &[
            (MAIN, unlinks),
            (MAIN, TraceEvent::Exit(-2)),
            (MAIN, entry("clone", &[])),
            (MAIN, TraceEvent::Created(CHILD)),
            (CHILD, makes),
            (CHILD, TraceEvent::Exit(0)),
        ],
    );
    assert_eq!(step, WatchStep::Resume(None));
    let changes: Vec<_> = watch.file_changes.0.iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["/.tine/ready created"]);
}
