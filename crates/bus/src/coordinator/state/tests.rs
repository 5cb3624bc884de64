//! Tables of what a coordinator does.

use super::*;
use crate::messages::{Assignment, Facts};
use crate::pieces::cut;
use crate::samples::{numbers_of, plan, report_of};

/// The time of day, which no decision depends on.
const DAY: u64 = 1_000 * SECOND;

/// A coordinator, its agents, and a clock.
struct Scene<'a> {
    coordinator: Coordinator<'a>,
    now: u64,
    /// The last assignment of each agent, by name.
    assigned: Vec<(Name, Assignment)>,
    ending: Option<Ending>,
}

fn name(number: usize) -> Name {
    Name::of(&format!("agent-{number}"))
}

fn planner(_: u32) -> Result<Plan, String> {
    Ok(plan())
}

fn scene(agents: usize, allow_lost: u32) -> Scene<'static> {
    let wanted = Wanted { agents, allow_lost, join_by: 60 * SECOND };
    let coordinator = Coordinator::new(wanted, &planner);
    Scene { coordinator, now: 0, assigned: Vec::new(), ending: None }
}

impl Scene<'_> {
    /// Takes note of actions, and returns them.
    fn note(&mut self, actions: Vec<Action>) -> Vec<Action> {
        for action in &actions {
            match action {
                Action::To(to, ToAgent::Prepare(assignment)) => {
                    self.assigned.retain(|(name, _)| name != to);
                    self.assigned.push((to.clone(), (**assignment).clone()));
                }
                Action::End(ending) => self.ending = Some(ending.clone()),
                _ => {}
            }
        }
        actions
    }

    fn hear(&mut self, agent: usize, message: FromAgent) -> Vec<Action> {
        let actions = self.coordinator.on_message(&name(agent), message, self.now, DAY + self.now);
        self.note(actions)
    }

    fn join(&mut self, agent: usize) -> Vec<Action> {
        let machine = tine_load::findings::machine::Machine { processors: 2, ..Default::default() };
        let facts = Box::new(Facts { machine, ..Facts::default() });
        self.hear(agent, FromAgent::Join { version: VERSION, facts })
    }

    /// Answers pings, with a clock that is `ahead`.
    fn measure_clock(&mut self, agent: usize, ahead: u64) {
        for _ in 0..8 {
            let sent_ns = self.now;
            self.now += 1000;
            let clock_ns = sent_ns + 500 + ahead;
            self.hear(agent, FromAgent::Pong { sent_ns, clock_ns, day_ns: DAY + sent_ns });
        }
    }

    fn hash(&self, agent: usize) -> u64 {
        let found = self.assigned.iter().find(|(one, _)| *one == name(agent));
        found.expect("it has an assignment").1.hash()
    }

    fn ready(&mut self, agent: usize) -> Vec<Action> {
        let hash = self.hash(agent);
        self.hear(agent, FromAgent::Ready { hash })
    }

    fn alive(&mut self, agent: usize) {
        self.hear(agent, FromAgent::Tick { is_done: false, numbers: Box::new(numbers_of(5)) });
    }

    /// Lets seconds pass, in which some agents are alive. Returns what was done in them.
    fn pass(&mut self, seconds: u64, alive: &[usize]) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.now += SECOND;
            alive.iter().for_each(|agent| self.alive(*agent));
            let actions = self.coordinator.on_tick(self.now);
            all.extend(self.note(actions));
        }
        all
    }

    fn send_result(&mut self, agent: usize) -> Vec<Action> {
        let assignment = &self.assigned.iter().find(|(one, _)| *one == name(agent)).expect("assigned").1;
        let report = report_of(&assignment.part.of_plan(&assignment.plan));
        let text = serde_json::to_string(&report).expect("text");
        let (pieces, hash) = (cut(&text), assignment.hash());
        let of = pieces.len();
        let mut last = Vec::new();
        for (number, text) in pieces.into_iter().enumerate() {
            last = self.hear(agent, FromAgent::Piece { hash, number, of, text });
        }
        last
    }

    fn report(self) -> Report {
        self.coordinator.into_report().expect("a result")
    }
}

/// A load that all agents have started.
fn running(agents: usize, allow_lost: u32) -> Scene<'static> {
    let mut scene = scene(agents, allow_lost);
    (0..agents).for_each(|agent| drop(scene.join(agent)));
    (0..agents).for_each(|agent| scene.measure_clock(agent, 10 * SECOND));
    (0..agents).for_each(|agent| drop(scene.ready(agent)));
    assert!(matches!(scene.coordinator.phase, Phase::Running { .. }));
    scene
}

fn has_abort(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::All(ToAll::Abort { .. })))
}

#[test]
fn agents_join_prepare_and_start_at_one_moment_of_their_own_clocks() {
    let mut scene = scene(2, 0);
    assert!(scene.pass(1, &[]).contains(&Action::Announce));
    assert!(scene.join(0).contains(&Action::To(name(0), ToAgent::Ping { sent_ns: scene.now })));
    assert!(scene.assigned.is_empty());
    scene.join(1);
    // Enough.
    assert_eq!(scene.join(2), [Action::To(name(2), ToAgent::NotNeeded)]);
    let parts: Vec<_> = scene.assigned.iter().map(|(_, one)| (one.part.first, one.part.workers)).collect();
    assert_eq!(parts, [(0, 2), (2, 2)]);
    scene.measure_clock(0, 7 * SECOND);
    assert_eq!(scene.ready(0), []);
    assert_eq!(scene.ready(1), [], "its clock is not known");
    let mut started = Vec::new();
    for _ in 0..8 {
        let sent_ns = scene.now;
        scene.now += 2000;
        let clock_ns = sent_ns + 1000;
        started = scene.hear(1, FromAgent::Pong { sent_ns, clock_ns, day_ns: 0 });
    }
    let [
        Action::To(_, ToAgent::Start { at_ns: one, hash }),
        Action::To(_, ToAgent::Start { at_ns: other, .. }),
    ] = &started[..]
    else {
        panic!("{started:?}")
    };
    assert_eq!((*one - *other, *hash), (7 * SECOND, scene.hash(0)));
    assert!(*other >= scene.now + SECOND);
}

#[test]
fn a_result_of_all_agents_is_valid_and_each_is_acknowledged() {
    let mut scene = running(2, 0);
    scene.pass(11, &[0, 1]);
    assert_eq!(scene.coordinator.progress(scene.now).1, numbers_of(10));
    assert_eq!(scene.send_result(0), [Action::To(name(0), ToAgent::Received)]);
    // Asked for again, as it may have been lost.
    assert!(scene.pass(1, &[1]).contains(&Action::To(name(1), ToAgent::SendResult)));
    assert_eq!(scene.send_result(0), [Action::To(name(0), ToAgent::Received)], "again");
    let last = scene.send_result(1);
    assert!(last.contains(&Action::To(name(1), ToAgent::Received)) && scene.ending == Some(Ending::Measured));
    let report = scene.report();
    let agents = report.agents.expect("agents");
    assert_eq!((agents.each.len(), agents.lost().count(), agents.start_skew_ns), (2, 0, 0));
    assert_eq!((agents.each[0].clock_offset_ns, agents.clock_uncertainty_ns), (10 * SECOND as i64, 1000));
    assert!(report.validity.reasons.iter().all(|reason| !reason.contains("agent")), "{:?}", report.validity);
    assert_eq!(report.plan, plan());
}

#[test]
fn an_agent_that_is_silent_for_three_ticks_aborts_the_load_unless_it_may_be_lost() {
    for (allow_lost, aborts) in [(0, true), (1, false)] {
        let mut scene = running(3, allow_lost);
        assert!(!has_abort(&scene.pass(2, &[0, 1])));
        assert_eq!(has_abort(&scene.pass(2, &[0, 1])), aborts);
        scene.pass(8, &[0, 1]);
        scene.send_result(0);
        scene.send_result(1);
        if !aborts {
            // A lost agent that is only cut off may send its result yet.
            assert_eq!(scene.ending, None);
            assert!(scene.pass(2, &[]).contains(&Action::To(name(2), ToAgent::SendResult)));
            scene.pass(10, &[]);
        }
        assert_eq!(scene.ending, Some(Ending::Measured));
        let report = scene.report();
        let reasons = report.validity.reasons.join("\n");
        assert_eq!(reasons.contains("agent agent-2 was lost: no sign of it"), aborts, "{reasons}");
        assert_eq!(report.agents.expect("agents").lost().count(), 1);
    }
}

#[test]
fn a_lost_agent_that_comes_back_with_its_result_is_not_lost() {
    let mut scene = running(2, 1);
    scene.pass(12, &[0]);
    scene.send_result(0);
    scene.pass(3, &[]);
    assert_eq!(scene.ending, None);
    scene.send_result(1);
    assert_eq!(scene.ending, Some(Ending::Measured));
    assert_eq!(scene.report().agents.expect("agents").lost().count(), 0);
}

#[test]
fn an_agent_that_is_silent_after_its_load_does_not_abort_that_of_others() {
    let mut scene = running(2, 0);
    scene.hear(1, FromAgent::Tick { is_done: true, numbers: Box::new(numbers_of(0)) });
    assert!(!has_abort(&scene.pass(6, &[0])));
    scene.pass(6, &[0]);
    scene.send_result(0);
    scene.pass(1, &[]);
    scene.send_result(1);
    assert_eq!(scene.report().agents.expect("agents").lost().count(), 0);
}

#[test]
fn before_the_start_others_take_the_place_of_lost_agents() {
    let mut scene = scene(2, 0);
    scene.join(0);
    scene.join(1);
    scene.measure_clock(0, 0);
    scene.ready(0);
    let before = scene.hash(0);
    let actions = scene.pass(4, &[0]);
    assert!(actions.contains(&Action::To(name(1), ToAgent::NotNeeded)), "{actions:?}");
    assert!(actions.contains(&Action::Announce));
    scene.join(2);
    assert!(scene.hash(0) != before, "another assignment");
    // The answer to the earlier one does not count.
    scene.hear(0, FromAgent::Ready { hash: before });
    scene.measure_clock(2, 0);
    scene.ready(2);
    assert!(matches!(scene.coordinator.phase, Phase::Preparing { .. }));
    scene.ready(0);
    assert!(matches!(scene.coordinator.phase, Phase::Running { .. }));
}

#[test]
fn a_run_that_cannot_start_ends_and_says_why() {
    let mut too_few = scene(2, 0);
    too_few.join(0);
    too_few.pass(60, &[0]);
    let failed = |why: &str| Some(Ending::Failed(why.to_owned()));
    assert_eq!(too_few.ending, failed("1 of 2 agents have joined in time"));

    let mut unable = scene(1, 0);
    unable.join(0);
    unable.hear(0, FromAgent::Failed { why: "no such\nhost".into() });
    assert_eq!(unable.ending, failed("agent agent-0: no such host"));

    // Prepares without end, and so does whoever takes its place.
    let mut slow = scene(1, 0);
    slow.join(0);
    slow.measure_clock(0, 0);
    slow.pass(70, &[0]);
    assert_eq!(slow.ending, failed("0 of 1 agents have joined in time"));

    let mut unplanned = scene(1, 0);
    unplanned.coordinator.planner = &|_| Err("bad load".into());
    unplanned.join(0);
    assert_eq!(unplanned.ending, failed("bad load"));

    let mut other = scene(1, 0);
    let joined = other.hear(0, FromAgent::Join { version: VERSION + 1, facts: Box::default() });
    assert_eq!(joined, [Action::To(name(0), ToAgent::NotNeeded)]);
}

#[test]
fn an_interrupt_aborts_a_load_and_a_second_one_ends_at_once() {
    let mut before = scene(1, 0);
    let actions = before.coordinator.on_interrupt(0);
    assert_eq!(actions, [Action::End(Ending::Interrupted)]);

    let mut once = running(1, 0);
    let actions = once.coordinator.on_interrupt(once.now);
    assert!(has_abort(&actions) && !actions.contains(&Action::End(Ending::Measured)));
    once.send_result(0);
    assert!(once.ending == Some(Ending::Measured) && once.report().interrupted);

    let mut twice = running(1, 0);
    twice.coordinator.on_interrupt(twice.now);
    let actions = twice.coordinator.on_interrupt(twice.now);
    assert!(actions.contains(&Action::End(Ending::Measured)));
}

#[test]
fn an_agent_that_fails_or_sends_what_is_no_result_is_lost() {
    let mut failed = running(2, 0);
    let actions = failed.hear(1, FromAgent::Failed { why: "its load does not answer".into() });
    assert!(has_abort(&actions), "{actions:?}");
    failed.send_result(0);
    let reasons = failed.report().validity.reasons.join("\n");
    assert!(reasons.contains("agent agent-1 was lost: its load does not answer"), "{reasons}");

    let mut wrong = running(1, 0);
    let hash = wrong.hash(0);
    wrong.hear(0, FromAgent::Piece { hash: hash ^ 1, number: 0, of: 1, text: "{}".into() });
    assert_eq!(wrong.ending, None, "of another assignment");
    wrong.hear(0, FromAgent::Piece { hash, number: 0, of: 1, text: "{}".into() });
    let reasons = wrong.report().validity.reasons.join("\n");
    assert!(reasons.contains("its result cannot be used"), "{reasons}");
}

#[test]
fn without_a_bus_nobody_is_lost_for_a_while() {
    let mut scene = running(1, 0);
    scene.coordinator.on_bus(false, scene.now);
    assert!(!has_abort(&scene.pass(20, &[])));
    scene.coordinator.on_bus(true, scene.now);
    assert!(!has_abort(&scene.pass(1, &[])));
    scene.coordinator.on_bus(false, scene.now);
    scene.pass(40, &[]);
    assert_eq!(scene.ending, Some(Ending::Measured));
    let reasons = scene.report().validity.reasons.join("\n");
    assert!(reasons.contains("the bus is away"), "{reasons}");
}

#[test]
fn aborted_loads_and_results_that_do_not_come_are_waited_for_in_bounds() {
    // Alive, and without a result.
    let mut mute = running(1, 0);
    mute.pass(45, &[0]);
    assert_eq!(mute.ending, Some(Ending::Measured));
    assert!(mute.report().validity.reasons.join("\n").contains("it has sent no result"));

    let mut aborted = running(2, 0);
    aborted.hear(1, FromAgent::Failed { why: "x".into() });
    aborted.pass(12, &[0]);
    assert_eq!(aborted.ending, Some(Ending::Measured));
    assert_eq!(aborted.report().agents.expect("agents").lost().count(), 2);
}
