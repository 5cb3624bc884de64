//! Tables of what an agent does.

use super::*;
use crate::samples::{numbers_of, plan};
use tine_load::plan::part::Part;

fn run() -> Name {
    Name::of("run")
}

fn announcement() -> Announcement {
    Announcement { version: VERSION, run: run() }
}

fn assignment() -> Assignment {
    Assignment { round: 1, plan: plan(), part: Part { first: 1, workers: 2, of: 4 } }
}

fn result() -> Said {
    Said::Result { text: "{}".into() }
}

/// The stages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Joined,
    Preparing,
    Ready,
    Running,
    Sending,
}

const ALL: [At; 5] = [At::Joined, At::Preparing, At::Ready, At::Running, At::Sending];

/// An agent that has come to a stage, at time 0.
fn agent_at(stage: At, once: bool) -> Agent {
    let mut agent = Agent::new(Facts::default(), once, None);
    agent.on_announcement(announcement(), 0);
    let hash = assignment().hash();
    if stage >= At::Preparing {
        let deeds = agent.on_message(ToAgent::Prepare(Box::new(assignment())), 0, 0);
        assert_eq!(deeds, [Deed::Run(Order::Prepare(Box::new(assignment())))]);
    }
    if stage >= At::Ready {
        assert_eq!(agent.on_runner(Said::Ready, 0), [Deed::Send(FromAgent::Ready { hash })]);
    }
    if stage >= At::Running {
        let deeds = agent.on_message(ToAgent::Start { hash, at_ns: SECOND }, 0, 0);
        assert_eq!(deeds, [Deed::Order(Order::Begin { at_ns: SECOND })]);
    }
    if stage >= At::Sending {
        let deeds = agent.on_runner(result(), 0);
        let piece = FromAgent::Piece { hash, number: 0, of: 1, text: "{}".into() };
        // Written first, then sent.
        assert_eq!(deeds, [Deed::Kill, Deed::Keep("{}".into()), Deed::Send(piece)]);
    }
    agent
}

/// Lets seconds pass, in which the runner is alive. Returns what was done in them, ticks left out.
fn pass(agent: &mut Agent, from: u64, seconds: u64) -> Vec<Deed> {
    let mut all = Vec::new();
    for second in from + 1..=from + seconds {
        agent.on_runner(Said::Progress { numbers: Box::new(numbers_of(1)) }, second * SECOND);
        all.extend(agent.on_tick(second * SECOND));
    }
    all.retain(|deed| !matches!(deed, Deed::Send(FromAgent::Tick { .. } | FromAgent::Ready { .. })));
    all
}

fn has_left(deeds: &[Deed]) -> bool {
    deeds.windows(2).any(|two| two == [Deed::Kill, Deed::Leave])
}

#[test]
fn an_agent_joins_one_run_at_a_time_and_only_of_its_version() {
    let mut agent = Agent::new(Facts::default(), true, None);
    let other = Announcement { version: VERSION + 1, run: run() };
    assert!(matches!(agent.on_announcement(other, 0)[..], [Deed::Tell(_)]));
    let deeds = agent.on_announcement(announcement(), 0);
    let join = FromAgent::Join { version: VERSION, facts: Box::default() };
    assert_eq!(deeds, [Deed::Listen(run()), Deed::Send(join)]);
    assert_eq!(agent.on_announcement(announcement(), 0), []);
    assert_eq!(agent.on_message(ToAgent::NotNeeded, 0, 0), [Deed::Kill, Deed::Leave]);
    assert_eq!(agent.on_announcement(announcement(), 0).len(), 2);
    let pong = FromAgent::Pong { sent_ns: 4, clock_ns: 5, day_ns: 6 };
    assert_eq!(agent.on_message(ToAgent::Ping { sent_ns: 4 }, 5, 6), [Deed::Send(pong)]);
}

#[test]
fn an_acknowledged_result_is_removed_and_the_agent_is_free_or_ends() {
    for (once, end) in [(false, None), (true, Some(Deed::End(AgentEnd::Done)))] {
        let mut agent = agent_at(At::Sending, once);
        assert_eq!(agent.on_message(ToAgent::SendResult, 0, 0).len(), 1, "again");
        let deeds = agent.on_message(ToAgent::Received, 0, 0);
        assert_eq!(deeds[..3], [Deed::Forget, Deed::Kill, Deed::Leave]);
        assert_eq!(deeds.get(3).cloned(), end);
        assert!(agent.run.is_none());
    }
}

#[test]
fn a_silent_coordinator_is_left_after_three_ticks_at_each_stage() {
    for stage in ALL {
        let mut agent = agent_at(stage, false);
        assert_eq!(pass(&mut agent, 0, 3), [], "{stage:?}");
        let deeds = pass(&mut agent, 3, 1);
        if stage == At::Running {
            // Its load is stopped, and the result is kept, though nobody waits for it.
            assert!(deeds.contains(&Deed::Terminate), "{deeds:?}");
            let deeds = agent.on_runner(result(), 4 * SECOND);
            assert_eq!(deeds[..3], [Deed::Kill, Deed::Keep("{}".into()), Deed::TellFile]);
            assert!(has_left(&deeds[2..]));
        } else {
            assert!(has_left(&deeds), "{stage:?} {deeds:?}");
            assert_eq!(deeds.contains(&Deed::TellFile), stage == At::Sending);
        }
        assert!(agent.run.is_none());
    }
}

#[test]
fn the_signs_of_a_coordinator_keep_an_agent_in_its_run() {
    for stage in [At::Joined, At::Ready, At::Running] {
        let mut agent = agent_at(stage, false);
        for second in 1..9 {
            agent.on_all(ToAll::Tick, second * SECOND);
            assert_eq!(pass(&mut agent, second, 1), [], "{stage:?}");
        }
    }
}

#[test]
fn without_a_bus_a_load_runs_to_its_end_and_its_result_waits_in_bounds() {
    let mut agent = agent_at(At::Running, false);
    agent.on_bus(false, SECOND);
    assert_eq!(pass(&mut agent, 1, 9), []);
    assert_eq!(agent.on_runner(result(), 10 * SECOND)[1], Deed::Keep("{}".into()));
    assert_eq!(pass(&mut agent, 10, 20), []);
    // Back: it is sent again.
    let mut back = agent.clone();
    assert!(matches!(back.on_bus(true, 31 * SECOND)[..], [Deed::Send(FromAgent::Piece { .. })]));
    assert_eq!(pass(&mut back, 31, 3), []);
    let deeds = pass(&mut agent, 30, 11);
    assert!(deeds.contains(&Deed::TellFile) && has_left(&deeds), "{deeds:?}");
    for stage in [At::Joined, At::Preparing, At::Ready] {
        let mut agent = agent_at(stage, false);
        agent.on_bus(false, 0);
        assert!(!has_left(&pass(&mut agent, 0, 29)) && has_left(&pass(&mut agent, 29, 3)), "{stage:?}");
    }
}

#[test]
fn the_end_of_a_coordinator_ends_the_run_at_each_stage() {
    for stage in ALL {
        let mut agent = agent_at(stage, true);
        let deeds = agent.on_message(ToAgent::Over, 0, 0);
        let deeds = match stage {
            At::Running => {
                assert!(deeds.contains(&Deed::Terminate), "{deeds:?}");
                agent.on_runner(result(), 0)
            }
            _ => deeds,
        };
        assert!(has_left(&deeds) && deeds.contains(&Deed::End(AgentEnd::Done)), "{stage:?} {deeds:?}");
        assert_eq!(deeds.contains(&Deed::TellFile), stage >= At::Running, "{stage:?}");
    }
}

#[test]
fn an_abort_stops_the_load_and_sends_what_was_measured() {
    for stage in ALL {
        let mut agent = agent_at(stage, false);
        let deeds = agent.on_all(ToAll::Abort { why: "x".into() }, SECOND);
        match stage {
            At::Running => {
                assert!(deeds.contains(&Deed::Terminate), "{deeds:?}");
                let deeds = agent.on_runner(result(), SECOND);
                assert!(matches!(deeds[2], Deed::Send(FromAgent::Piece { .. })), "{deeds:?}");
            }
            At::Sending => assert_eq!(deeds, []),
            _ => assert!(has_left(&deeds), "{stage:?}"),
        }
    }
    // One that does not stop is killed.
    let mut agent = agent_at(At::Running, false);
    agent.on_all(ToAll::Abort { why: "x".into() }, 0);
    let mut all = Vec::new();
    for second in 0..7 {
        agent.on_all(ToAll::Tick, second * SECOND);
        all.extend(agent.on_tick(second * SECOND));
    }
    assert!(has_left(&all), "{all:?}");
}

#[test]
fn a_runner_that_ends_fails_stands_still_or_takes_too_long_fails_the_agent() {
    let failed = |deeds: &[Deed], why: &str| {
        let failed = Deed::Send(FromAgent::Failed { why: why.into() });
        assert!(deeds.contains(&failed) && has_left(deeds), "{deeds:?}");
    };
    for stage in [At::Preparing, At::Ready, At::Running] {
        failed(&agent_at(stage, false).on_runner_end(), "its load ended without a result");
        let cannot = Said::Cannot { why: "no such host".into() };
        failed(&agent_at(stage, false).on_runner(cannot, 0), "no such host");
    }
    assert_eq!(agent_at(At::Sending, false).on_runner_end(), []);

    let ticks = |stage, seconds: u64, progresses: bool| {
        let mut agent = agent_at(stage, false);
        let mut all = Vec::new();
        for second in 1..=seconds {
            agent.on_all(ToAll::Tick, second * SECOND);
            if progresses {
                agent.on_runner(Said::Progress { numbers: Box::new(numbers_of(1)) }, second * SECOND);
            }
            all.extend(agent.on_tick(second * SECOND));
        }
        all
    };
    failed(&ticks(At::Running, 4, false), "its load does not answer");
    assert!(!has_left(&ticks(At::Running, 20, true)));
    // It starts at 1 s, and takes 10.
    failed(&ticks(At::Running, 22, true), "its load did not end in time");
    failed(&ticks(At::Preparing, 31, true), "its part was not prepared in time");
}

#[test]
fn a_later_assignment_replaces_an_earlier_one_until_the_start() {
    let later = Assignment { round: 2, ..assignment() };
    for stage in ALL {
        let mut agent = agent_at(stage, false);
        let deeds = agent.on_message(ToAgent::Prepare(Box::new(later.clone())), 0, 0);
        let replaces = stage < At::Running;
        assert_eq!(!deeds.is_empty(), replaces, "{stage:?}");
        // The start of the earlier one does not count any more.
        let start = ToAgent::Start { hash: assignment().hash(), at_ns: 0 };
        agent.on_runner(Said::Ready, 0);
        assert_eq!(agent.on_message(start, 0, 0), [], "{stage:?}");
    }
}

#[test]
fn an_assignment_out_of_range_is_refused() {
    let wrong_part = Assignment { part: Part { first: 3, workers: 2, of: 4 }, ..assignment() };
    let mut wrong_plan = assignment();
    wrong_plan.plan.connections = 0;
    for wrong in [wrong_part, wrong_plan] {
        let mut agent = agent_at(At::Joined, false);
        let deeds = agent.on_message(ToAgent::Prepare(Box::new(wrong)), 0, 0);
        let is_failed = |deed: &Deed| matches!(deed, Deed::Send(FromAgent::Failed { .. }));
        assert!(deeds.iter().any(is_failed) && has_left(&deeds), "{deeds:?}");
    }
}

#[test]
fn a_signal_ends_an_agent_after_its_load_has_stopped() {
    let mut free = Agent::new(Facts::default(), false, None);
    assert_eq!(free.on_signal(0), [Deed::Kill, Deed::End(AgentEnd::Interrupted)]);
    for stage in ALL {
        let mut agent = agent_at(stage, false);
        let deeds = agent.on_signal(0);
        assert_eq!(deeds[0], Deed::Send(FromAgent::Failed { why: "it was interrupted".into() }));
        match stage {
            At::Running => {
                assert!(deeds.contains(&Deed::Terminate) && !has_left(&deeds), "{deeds:?}");
                let deeds = agent.on_runner(result(), 0);
                assert!(deeds.contains(&Deed::End(AgentEnd::Interrupted)), "{deeds:?}");
            }
            _ => assert!(deeds.contains(&Deed::End(AgentEnd::Interrupted)), "{stage:?} {deeds:?}"),
        }
    }
    let mut twice = agent_at(At::Running, false);
    twice.on_signal(0);
    assert_eq!(twice.on_signal(0), [Deed::Kill, Deed::End(AgentEnd::Interrupted)]);
}

#[test]
fn an_agent_that_nobody_asks_for_ends_if_it_was_told_so() {
    let mut agent = Agent::new(Facts::default(), true, Some(5 * SECOND));
    assert_eq!(agent.on_tick(4 * SECOND), []);
    assert!(matches!(agent.on_tick(5 * SECOND)[..], [Deed::End(AgentEnd::Failed(_))]));
    let mut endless = Agent::new(Facts::default(), true, None);
    assert_eq!(endless.on_tick(u64::MAX), []);
}

#[test]
fn a_result_that_is_asked_for_before_there_is_one_is_refused_unless_the_load_runs() {
    for (stage, fails) in [(At::Joined, true), (At::Ready, true), (At::Running, false)] {
        let deeds = agent_at(stage, false).on_message(ToAgent::SendResult, 0, 0);
        assert_eq!(has_left(&deeds), fails, "{stage:?} {deeds:?}");
    }
}
