//! What a coordinator does when something happens. No system call here; every time is passed in.

use tine_load::combine::union::unite;
use tine_load::findings::agents::Agents;
use tine_load::plan::Plan;
use tine_load::report::Report;
use tine_load::run::live::Numbers;
use tine_load::run::measure::startup;
use tine_load::units::{SECOND, duration};

use super::member::{Member, Progress, Wish};
use super::parts::divide;
use crate::messages::{FromAgent, SILENCE, ToAgent, ToAll, VERSION};
use crate::names::Name;

/// Time in which an agent has to prepare its part.
const PREPARATION: u64 = 30 * SECOND;
/// Time from the message to the start of the load.
const LEAD: u64 = SECOND;
/// Time after the planned end, or after an abort, in which results have to come.
const RESULTS: u64 = 30 * SECOND;
const RESULTS_OF_ABORTED: u64 = 10 * SECOND;
/// Time in which the result of a lost agent may come after all others.
const LATE: u64 = 10 * SECOND;
/// Time for which the bus may be away after the planned end.
const WITHOUT_BUS: u64 = 30 * SECOND;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Number of agents.
    pub(super) agents: usize,
    /// Number of agents that may be lost.
    pub(super) allow_lost: u32,
    /// The time until which they have to join.
    pub(super) join_by: u64,
}

/// Makes the plan for a number of processors of all agents.
pub(super) type Planner<'a> = &'a dyn Fn(u32) -> Result<Plan, String>;

/// What the coordinator does next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Looks for agents.
    Announce,
    To(Name, ToAgent),
    All(ToAll),
    /// Tells the user.
    Tell(String),
    /// Ends.
    End(Ending),
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There is a result.
    Measured,
    /// A signal ended it before the start.
    Interrupted,
    /// It could not start.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Gathering,
    Preparing { since: u64 },
    Running { start: u64 },
    Over,
}

/// A coordinator.
pub(super) struct Coordinator<'a> {
    wanted: Wanted,
    planner: Planner<'a>,
    phase: Phase,
    members: Vec<Member>,
    plan: Option<Plan>,
    round: u32,
    /// Since when the load is aborted.
    aborted: Option<u64>,
    is_interrupted: bool,
    /// When all results have come but those of lost agents.
    late_since: Option<u64>,
    /// Since when the bus is away.
    without_bus: Option<u64>,
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(wanted: Wanted, planner: Planner<'a>) -> Coordinator<'a> {
        Coordinator {
            wanted,
            planner,
            phase: Phase::Gathering,
            members: Vec::new(),
            plan: None,
            round: 0,
            aborted: None,
            is_interrupted: false,
            late_since: None,
            without_bus: None,
        }
    }

    /// A message has come from an agent. `day`: the time of day.
    pub(super) fn on_message(&mut self, from: &Name, message: FromAgent, now: u64, day: u64) -> Vec<Action> {
        let to = |message| Action::To(from.clone(), message);
        if let FromAgent::Join { version, facts } = message {
            return self.on_join(from, version, *facts, now);
        }
        let plan = self.plan.as_ref();
        let Some(member) = self.members.iter_mut().find(|member| member.name == *from) else {
            return vec![to(ToAgent::NotNeeded)];
        };
        let mut actions = match member.hear(message, plan, now, day) {
            Wish::Nothing => Vec::new(),
            Wish::Ping => vec![to(ToAgent::Ping { sent_ns: now })],
            Wish::Receipt => vec![to(ToAgent::Received)],
        };
        actions.extend(self.advance(now));
        actions
    }

    fn on_join(&mut self, from: &Name, version: u32, facts: crate::messages::Facts, now: u64) -> Vec<Action> {
        let to = |message| Action::To(from.clone(), message);
        let is_known = self.members.iter().any(|member| member.name == *from);
        let is_full = self.phase != Phase::Gathering || self.members.len() >= self.wanted.agents;
        if is_known {
            return Vec::new();
        }
        if is_full || version != VERSION {
            return vec![to(ToAgent::NotNeeded)];
        }
        self.members.push(Member::new(from.clone(), facts, now));
        let there = format!("agent {from} has joined ({} of {})", self.members.len(), self.wanted.agents);
        let mut actions = vec![Action::Tell(there), to(ToAgent::Ping { sent_ns: now })];
        actions.extend(self.advance(now));
        actions
    }

    /// A second has passed.
    pub(super) fn on_tick(&mut self, now: u64) -> Vec<Action> {
        let mut actions = vec![Action::All(ToAll::Tick)];
        if self.without_bus.is_none() {
            actions.extend(self.lose_silent(now));
        }
        actions.extend(self.remind(now));
        actions.extend(self.advance(now));
        actions
    }

    /// The bus is away, or there again.
    pub(super) fn on_bus(&mut self, is_there: bool, now: u64) {
        match is_there {
            true => {
                self.without_bus = None;
                self.members.iter_mut().for_each(|member| member.excuse(now));
            }
            false => self.without_bus = self.without_bus.or(Some(now)),
        }
    }

    /// A signal asks to stop: in order, and at the second time at once.
    pub(super) fn on_interrupt(&mut self, now: u64) -> Vec<Action> {
        match (self.phase, self.is_interrupted) {
            (Phase::Running { .. }, false) => {
                self.is_interrupted = true;
                self.abort("the coordinator was interrupted", now)
            }
            (Phase::Running { .. }, true) => self.end(Ending::Measured),
            _ => self.end(Ending::Interrupted),
        }
    }

    /// Returns the numbers of all agents, and the time since the start.
    pub(super) fn progress(&self, now: u64) -> (u64, Numbers) {
        let elapsed = match self.phase {
            Phase::Running { start } => now.saturating_sub(start),
            _ => 0,
        };
        let numbers = self.members.iter().map(|member| member.numbers);
        (elapsed, numbers.fold(Numbers::default(), |sum, one| sum.plus(&one)))
    }

    /// Returns the plan, once there is one.
    pub(super) fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Returns the result of a run that has measured.
    pub(super) fn into_report(self) -> Option<Report> {
        let plan = self.plan?;
        let each = self.members.iter().map(|member| member.describe(&plan)).collect();
        let parts: Vec<Option<Report>> =
            self.members.into_iter().map(|member| member.report.map(|report| *report)).collect();
        Some(unite(&plan, Agents::new(self.wanted.allow_lost, each), &parts, self.is_interrupted))
    }

    fn lose_silent(&mut self, now: u64) -> Vec<Action> {
        let why = format!("no sign of it for {}", duration(SILENCE));
        match self.phase {
            Phase::Gathering => {
                self.members.retain(|member| !member.is_silent(now) && !member.has_left);
                Vec::new()
            }
            Phase::Preparing { since } => {
                let is_late = now.saturating_sub(since) > PREPARATION;
                let is_lost = |member: &Member| member.is_silent(now) || is_late && !member.is_ready();
                match self.members.iter().any(is_lost) {
                    true => self.gather_again(is_lost, &why),
                    false => Vec::new(),
                }
            }
            Phase::Running { .. } => {
                let overdue = self.end_of_results().is_some_and(|end| now > end);
                for member in self.members.iter_mut().filter(|member| member.is_expected()) {
                    if overdue {
                        member.lost = Some("it has sent no result".into());
                        member.has_left = true;
                    } else if member.is_silent(now) {
                        member.lost = Some(why.clone());
                    }
                }
                Vec::new()
            }
            Phase::Over => Vec::new(),
        }
    }

    /// Goes back to look for others in place of lost agents: nothing is measured yet.
    fn gather_again(&mut self, is_lost: impl Fn(&Member) -> bool, why: &str) -> Vec<Action> {
        let lost: Vec<Name> =
            self.members.iter().filter(|one| is_lost(one)).map(|one| one.name.clone()).collect();
        self.members.retain(|member| !lost.contains(&member.name));
        self.phase = Phase::Gathering;
        let tell = |name: &Name| Action::Tell(format!("agent {name} was lost before the start: {why}"));
        let not_needed = |name: &Name| Action::To(name.clone(), ToAgent::NotNeeded);
        lost.iter().flat_map(|name| [tell(name), not_needed(name)]).collect()
    }

    /// Repeats what may not have arrived.
    fn remind(&self, now: u64) -> Vec<Action> {
        let to = |member: &Member, message| Action::To(member.name.clone(), message);
        let unknown = self.members.iter().filter(|member| !member.is_ready());
        let pings = unknown.map(|member| to(member, ToAgent::Ping { sent_ns: now }));
        match self.phase {
            Phase::Gathering => pings.chain([Action::Announce]).collect(),
            Phase::Preparing { .. } => pings.collect(),
            Phase::Running { .. } => {
                let missing = self.members.iter().filter(|member| {
                    member.report.is_none() && !member.has_left && self.is_past_load(member, now)
                });
                missing.map(|member| to(member, ToAgent::SendResult)).collect()
            }
            Phase::Over => Vec::new(),
        }
    }

    /// Does what can be done now.
    fn advance(&mut self, now: u64) -> Vec<Action> {
        match self.phase {
            Phase::Gathering if self.members.len() == self.wanted.agents => self.prepare(now),
            Phase::Gathering if now >= self.wanted.join_by => {
                let (there, wanted) = (self.members.len(), self.wanted.agents);
                self.end(Ending::Failed(format!("{there} of {wanted} agents have joined in time")))
            }
            Phase::Preparing { .. } => match self.members.iter().find(|member| member.has_left) {
                Some(member) => {
                    let why = member.lost.clone().unwrap_or_default();
                    self.end(Ending::Failed(format!("agent {}: {why}", member.name)))
                }
                None if self.members.iter().all(Member::is_ready) => self.start(now),
                None => Vec::new(),
            },
            Phase::Running { .. } => self.judge(now),
            Phase::Gathering | Phase::Over => Vec::new(),
        }
    }

    fn prepare(&mut self, now: u64) -> Vec<Action> {
        let processors = |member: &Member| u32::try_from(member.facts.machine.processors).unwrap_or(1);
        let processors: Vec<u32> =
            self.members.iter().map(|member| processors(member).clamp(1, 1024)).collect();
        let all = processors.iter().sum();
        let planned = (self.planner)(all).and_then(|plan| Ok((divide(&plan, &processors)?, plan)));
        let (parts, plan) = match planned {
            Ok(planned) => planned,
            Err(why) => return self.end(Ending::Failed(why)),
        };
        self.round += 1;
        self.phase = Phase::Preparing { since: now };
        let round = self.round;
        let assigned = self.members.iter_mut().zip(parts).map(|(member, part)| {
            let assignment = Box::new(member.assign(round, &plan, part));
            Action::To(member.name.clone(), ToAgent::Prepare(assignment))
        });
        let actions = assigned.collect();
        self.plan = Some(plan);
        actions
    }

    fn start(&mut self, now: u64) -> Vec<Action> {
        let workers = self.members.iter().filter_map(|member| Some(member.part?.0.workers)).max();
        let start = now + LEAD + startup(workers.unwrap_or(0));
        self.phase = Phase::Running { start };
        let started = self.members.iter().filter_map(|member| {
            let (_, hash) = member.part?;
            let message = ToAgent::Start { hash, at_ns: member.clock.to_agent(start) };
            Some(Action::To(member.name.clone(), message))
        });
        started.collect()
    }

    /// Returns the planned end of the load, if it has a duration.
    fn planned_end(&self) -> Option<u64> {
        let (Phase::Running { start }, Some(plan)) = (self.phase, &self.plan) else { return None };
        Some(start + plan.warmup_ns + plan.duration_ns?)
    }

    /// Returns the time after which no result is waited for.
    fn end_of_results(&self) -> Option<u64> {
        match self.aborted {
            Some(aborted) => Some(aborted + RESULTS_OF_ABORTED),
            None => self.planned_end().map(|end| end + RESULTS),
        }
    }

    fn is_past_load(&self, member: &Member, now: u64) -> bool {
        let is_over = self.aborted.is_some() || self.planned_end().is_some_and(|end| now > end);
        member.progress == Progress::Done || is_over
    }

    /// Aborts a load of which too much is lost, and ends when all results are there.
    fn judge(&mut self, now: u64) -> Vec<Action> {
        let lost = |member: &&Member| member.lost.is_some();
        let in_load = |member: &&Member| member.has_left || !self.is_past_load(member, now);
        let lost_in_load = self.members.iter().filter(lost).filter(in_load).count();
        let is_expected = self.members.iter().any(Member::is_expected);
        if self.aborted.is_none() && is_expected && lost_in_load > self.wanted.allow_lost as usize {
            let names: Vec<&str> = self.members.iter().filter(lost).map(|one| one.name.as_str()).collect();
            let why = format!("agent {} was lost", names.join(", "));
            return self.abort(&why, now);
        }
        let is_without_bus = self.without_bus.is_some_and(|since| now > since + WITHOUT_BUS);
        if is_without_bus && self.planned_end().is_none_or(|end| now > end + WITHOUT_BUS) {
            for member in self.members.iter_mut().filter(|member| member.is_expected()) {
                member.lost = Some("the bus is away".into());
            }
            return self.end(Ending::Measured);
        }
        if is_expected {
            return Vec::new();
        }
        let may_come = |member: &Member| member.report.is_none() && !member.has_left;
        let late_since = *self.late_since.get_or_insert(now);
        let is_waiting = self.aborted.is_none() && now < late_since + LATE;
        match is_waiting && self.members.iter().any(may_come) {
            true => Vec::new(),
            false => self.end(Ending::Measured),
        }
    }

    fn abort(&mut self, why: &str, now: u64) -> Vec<Action> {
        self.aborted = Some(now);
        let mut actions = vec![
            Action::Tell(format!("the load is aborted: {why}")),
            Action::All(ToAll::Abort { why: why.into() }),
        ];
        actions.extend(self.judge(now));
        actions
    }

    fn end(&mut self, ending: Ending) -> Vec<Action> {
        self.phase = Phase::Over;
        // To each, as the receipt of its result is: so that it comes after that.
        let over = self.members.iter().map(|member| Action::To(member.name.clone(), ToAgent::Over));
        over.chain([Action::End(ending)]).collect()
    }
}

#[cfg(test)]
mod tests;
