//! What an agent does when something happens. No system call here; every time is passed in.

use tine_load::run::live::Numbers;
use tine_load::units::SECOND;

use crate::channel::{Order, Said};
use crate::messages::{Announcement, Assignment, Facts, FromAgent, SILENCE, ToAgent, ToAll, VERSION};
use crate::names::{Name, bounded};
use crate::pieces::cut;

/// Time in which the runner has to prepare its part.
const PREPARATION: u64 = 30 * SECOND;
/// Time in which the runner has to end after the planned end, or after it was told to.
const OVERDUE: u64 = 10 * SECOND;
const STOPPING: u64 = 5 * SECOND;
/// Time for which a result is kept ready to be sent.
const SENDING: u64 = 30 * SECOND;
/// Time for which a run whose load does not run may be without a bus.
const WITHOUT_BUS: u64 = 30 * SECOND;

/// What the agent does next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Deed {
    /// Listens to a run.
    Listen(Name),
    /// Listens to it no more.
    Leave,
    Send(FromAgent),
    /// Starts a runner, in place of an earlier one, and gives it an order.
    Run(Order),
    /// Gives the runner a further order.
    Order(Order),
    /// Asks the runner to stop.
    Terminate,
    /// Ends the runner, if there is one.
    Kill,
    /// Writes the result to a file.
    Keep(String),
    /// Removes that file.
    Forget,
    /// Tells where that file is: the result has not been acknowledged.
    TellFile,
    Tell(String),
    End(AgentEnd),
}

/// How an agent ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEnd {
    /// Its run is over.
    Done,
    /// A signal ended it.
    Interrupted,
    /// No run has taken it.
    Failed(String),
}

/// What an agent does for a run.
#[derive(Clone, Debug, PartialEq)]
enum Work {
    /// It waits for its part.
    Nothing,
    Preparing {
        hash: u64,
        since: u64,
    },
    Ready {
        hash: u64,
    },
    Running {
        hash: u64,
        /// When the runner has told something.
        told: u64,
        /// When it must have ended.
        until: u64,
    },
    Sending {
        hash: u64,
        pieces: Vec<String>,
        until: u64,
    },
}

/// A run that the agent has joined.
#[derive(Clone, Debug)]
struct Membership {
    run: Name,
    /// When the coordinator was heard.
    heard: u64,
    work: Work,
    /// The assignment's planned length, from start to end.
    length: Option<u64>,
    numbers: Numbers,
    /// Whether nobody waits for the result.
    is_orphan: bool,
}

/// An agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    facts: Facts,
    /// Whether it ends after one run.
    once: bool,
    /// When it ends if no run has taken it.
    free_until: Option<u64>,
    run: Option<Membership>,
    is_stopping: bool,
    /// Since when the bus is away.
    without_bus: Option<u64>,
}

impl Agent {
    pub(super) fn new(facts: Facts, once: bool, free_until: Option<u64>) -> Agent {
        Agent { facts, once, free_until, run: None, is_stopping: false, without_bus: None }
    }

    /// A coordinator looks for agents.
    pub(super) fn on_announcement(&mut self, announcement: Announcement, now: u64) -> Vec<Deed> {
        if self.run.is_some() || self.is_stopping {
            return Vec::new();
        }
        if announcement.version != VERSION {
            let other = announcement.version;
            return vec![Deed::Tell(format!("run {} has version {other} of the messages", announcement.run))];
        }
        self.run = Some(Membership {
            run: announcement.run.clone(),
            heard: now,
            work: Work::Nothing,
            length: None,
            numbers: Numbers::default(),
            is_orphan: false,
        });
        let join = FromAgent::Join { version: VERSION, facts: Box::new(self.facts.clone()) };
        vec![Deed::Listen(announcement.run), Deed::Send(join)]
    }

    /// The coordinator says something to all.
    pub(super) fn on_all(&mut self, message: ToAll, now: u64) -> Vec<Deed> {
        let Some(run) = &mut self.run else { return Vec::new() };
        run.heard = now;
        match message {
            ToAll::Tick => Vec::new(),
            ToAll::Abort { why } => match run.work {
                Work::Running { .. } => {
                    let mut deeds = vec![Deed::Tell(format!("run {}: {}", run.run, bounded(&why)))];
                    deeds.extend(run.stop(now));
                    deeds
                }
                Work::Sending { .. } => Vec::new(),
                _ => self.leave(),
            },
        }
    }

    /// The coordinator says something to this agent. `day`: the time of day.
    pub(super) fn on_message(&mut self, message: ToAgent, now: u64, day: u64) -> Vec<Deed> {
        let Some(run) = &mut self.run else { return Vec::new() };
        run.heard = now;
        match message {
            ToAgent::NotNeeded => match run.work {
                Work::Running { .. } | Work::Sending { .. } => self.abandon(now),
                // That was no run: it may be needed yet.
                _ => {
                    self.run = None;
                    vec![Deed::Kill, Deed::Leave]
                }
            },
            ToAgent::Ping { sent_ns } => {
                vec![Deed::Send(FromAgent::Pong { sent_ns, clock_ns: now, day_ns: day })]
            }
            ToAgent::Prepare(assignment) => self.prepare(*assignment, now),
            ToAgent::Start { hash, at_ns } => match run.work {
                Work::Ready { hash: own } if own == hash => {
                    let length = run.length.unwrap_or(u64::MAX);
                    let until = at_ns.saturating_add(length).saturating_add(OVERDUE);
                    run.work = Work::Running { hash, told: now, until };
                    vec![Deed::Order(Order::Begin { at_ns })]
                }
                _ => Vec::new(),
            },
            ToAgent::SendResult => match &run.work {
                Work::Sending { .. } => run.pieces(),
                Work::Running { .. } => Vec::new(),
                _ => self.fail("it was not started"),
            },
            ToAgent::Over => self.abandon(now),
            ToAgent::Received => match run.work {
                Work::Sending { .. } => {
                    let mut deeds = vec![Deed::Forget];
                    deeds.extend(self.leave());
                    deeds
                }
                _ => Vec::new(),
            },
        }
    }

    fn prepare(&mut self, assignment: Assignment, now: u64) -> Vec<Deed> {
        let Some(run) = &mut self.run else { return Vec::new() };
        if matches!(run.work, Work::Running { .. } | Work::Sending { .. }) {
            return Vec::new();
        }
        let plan = &assignment.plan;
        if let Err(why) = tine_load::plan::check::check(plan) {
            return self.fail(&why);
        }
        if !assignment.part.fits(plan) {
            return self.fail("the part is not one of the plan");
        }
        run.length = plan.duration_ns.map(|duration| plan.warmup_ns + duration);
        run.work = Work::Preparing { hash: assignment.hash(), since: now };
        vec![Deed::Run(Order::Prepare(Box::new(assignment)))]
    }

    /// The runner says something.
    pub(super) fn on_runner(&mut self, said: Said, now: u64) -> Vec<Deed> {
        let Some(run) = &mut self.run else { return Vec::new() };
        match (said, &mut run.work) {
            (Said::Ready, Work::Preparing { hash, .. }) => {
                let hash = *hash;
                run.work = Work::Ready { hash };
                vec![Deed::Send(FromAgent::Ready { hash })]
            }
            (Said::Cannot { why }, _) => self.fail(&why),
            (Said::Progress { numbers }, Work::Running { told, .. }) => {
                (*told, run.numbers) = (now, *numbers);
                Vec::new()
            }
            (Said::Result { text }, Work::Running { hash, .. }) => {
                run.work = Work::Sending { hash: *hash, pieces: cut(&text), until: now + SENDING };
                let mut deeds = vec![Deed::Kill, Deed::Keep(text)];
                match run.is_orphan {
                    true => deeds.extend(self.abandon(now)),
                    false => deeds.extend(run.pieces()),
                }
                deeds
            }
            _ => Vec::new(),
        }
    }

    /// The runner has ended.
    pub(super) fn on_runner_end(&mut self) -> Vec<Deed> {
        match self.run.as_ref().map(|run| &run.work) {
            Some(Work::Preparing { .. } | Work::Ready { .. } | Work::Running { .. }) => {
                self.fail("its load ended without a result")
            }
            _ => Vec::new(),
        }
    }

    /// A second has passed.
    pub(super) fn on_tick(&mut self, now: u64) -> Vec<Deed> {
        let Some(run) = &mut self.run else {
            let is_over = self.free_until.is_some_and(|until| now >= until);
            let why = || "no coordinator has asked for it".to_owned();
            return if is_over { vec![Deed::End(AgentEnd::Failed(why()))] } else { Vec::new() };
        };
        let is_done = matches!(run.work, Work::Sending { .. });
        let mut deeds = vec![Deed::Send(FromAgent::Tick { is_done, numbers: Box::new(run.numbers) })];
        let is_silent = self.without_bus.is_none() && now.saturating_sub(run.heard) > SILENCE;
        let is_away = self.without_bus.is_some_and(|since| now > since + WITHOUT_BUS);
        let more = match run.work {
            Work::Running { told, until, .. } => {
                let is_stuck = now.saturating_sub(told) > SILENCE;
                match () {
                    () if is_stuck => self.fail("its load does not answer"),
                    () if now > until => self.fail("its load did not end in time"),
                    () if is_silent && !run.is_orphan => self.abandon(now),
                    () => Vec::new(),
                }
            }
            Work::Preparing { since, .. } if now > since + PREPARATION => {
                self.fail("its part was not prepared in time")
            }
            Work::Sending { until, .. } if is_silent || now > until => self.abandon(now),
            Work::Ready { hash } if !is_silent && !is_away => {
                vec![Deed::Send(FromAgent::Ready { hash })]
            }
            _ if is_silent || is_away => self.abandon(now),
            _ => Vec::new(),
        };
        deeds.extend(more);
        deeds
    }

    /// The bus is away, or there again.
    pub(super) fn on_bus(&mut self, is_there: bool, now: u64) -> Vec<Deed> {
        if !is_there {
            self.without_bus = self.without_bus.or(Some(now));
            return Vec::new();
        }
        self.without_bus = None;
        let Some(run) = &mut self.run else { return Vec::new() };
        run.heard = now;
        run.pieces()
    }

    /// A signal asks it to end.
    pub(super) fn on_signal(&mut self, now: u64) -> Vec<Deed> {
        let is_second = std::mem::replace(&mut self.is_stopping, true);
        match &self.run {
            Some(_) if !is_second => {
                let failed = FromAgent::Failed { why: "it was interrupted".into() };
                let mut deeds = vec![Deed::Send(failed)];
                deeds.extend(self.abandon(now));
                deeds
            }
            _ => vec![Deed::Kill, Deed::End(AgentEnd::Interrupted)],
        }
    }

    /// Leaves a run whose coordinator does not wait for it: at once, or when the runner has ended.
    fn abandon(&mut self, now: u64) -> Vec<Deed> {
        let Some(run) = &mut self.run else { return Vec::new() };
        match run.work {
            Work::Running { .. } if run.is_orphan => Vec::new(),
            Work::Running { .. } => {
                run.is_orphan = true;
                let mut deeds = vec![Deed::Tell(format!("run {}: its coordinator is gone", run.run))];
                deeds.extend(run.stop(now));
                deeds
            }
            Work::Sending { .. } => {
                let mut deeds = vec![Deed::TellFile];
                deeds.extend(self.leave());
                deeds
            }
            _ => self.leave(),
        }
    }

    fn fail(&mut self, why: &str) -> Vec<Deed> {
        let why = bounded(why);
        let tell = Deed::Tell(format!("cannot run its part of the load: {why}"));
        let mut deeds = vec![tell, Deed::Send(FromAgent::Failed { why })];
        deeds.extend(self.leave());
        deeds
    }

    fn leave(&mut self) -> Vec<Deed> {
        self.run = None;
        let mut deeds = vec![Deed::Kill, Deed::Leave];
        match (self.is_stopping, self.once) {
            (true, _) => deeds.push(Deed::End(AgentEnd::Interrupted)),
            (false, true) => deeds.push(Deed::End(AgentEnd::Done)),
            (false, false) => {}
        }
        deeds
    }
}

impl Membership {
    /// Has a running load stop and report.
    fn stop(&mut self, now: u64) -> Vec<Deed> {
        let Work::Running { until, told, .. } = &mut self.work else { return Vec::new() };
        (*until, *told) = ((*until).min(now + STOPPING), now + STOPPING);
        vec![Deed::Terminate]
    }

    /// Sends the result, if there is one.
    fn pieces(&self) -> Vec<Deed> {
        let Work::Sending { hash, pieces, .. } = &self.work else { return Vec::new() };
        let piece = |(number, text): (usize, &String)| {
            Deed::Send(FromAgent::Piece { hash: *hash, number, of: pieces.len(), text: text.clone() })
        };
        pieces.iter().enumerate().map(piece).collect()
    }
}

#[cfg(test)]
mod tests;
