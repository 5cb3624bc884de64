//! An agent, as its coordinator sees it.

use tine_load::findings::agents::Agent;
use tine_load::plan::Plan;
use tine_load::plan::part::Part;
use tine_load::report::Report;
use tine_load::run::live::Numbers;

use crate::messages::{Assignment, Facts, FromAgent, SILENCE};
use crate::names::{Name, bounded};
use crate::offset::{ClockOffset, RoundTrip};
use crate::pieces::{Pieces, result};

/// Round trips after which the clocks of an agent are known.
pub(super) const ROUND_TRIPS: u32 = 8;

/// How far an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// It has joined.
    Joined,
    /// Its part of the load is prepared.
    Ready,
    /// Its part of the load has ended.
    Done,
}

/// An agent that has joined.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    pub(super) facts: Facts,
    pub(super) clock: ClockOffset,
    pub(super) progress: Progress,
    pub(super) numbers: Numbers,
    /// Its part, and the hash of the assignment.
    pub(super) part: Option<(Part, u64)>,
    pub(super) report: Option<Box<Report>>,
    /// Why it is lost.
    pub(super) lost: Option<String>,
    /// Whether it has left: no result will come.
    pub(super) has_left: bool,
    heard: u64,
    pieces: Pieces,
}

/// What a message from an agent asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Another ping.
    Ping,
    /// The acknowledgement of its result.
    Receipt,
}

impl Member {
    pub(super) fn new(name: Name, facts: Facts, now: u64) -> Member {
        Member {
            name,
            facts,
            clock: ClockOffset::default(),
            progress: Progress::Joined,
            numbers: Numbers::default(),
            part: None,
            report: None,
            lost: None,
            has_left: false,
            heard: now,
            pieces: Pieces::default(),
        }
    }

    /// Gives the agent its part of the load, which it has to prepare. Returns the assignment.
    pub(super) fn assign(&mut self, round: u32, plan: &Plan, part: Part) -> Assignment {
        let assignment = Assignment { round, plan: plan.clone(), part };
        self.part = Some((part, assignment.hash()));
        self.progress = Progress::Joined;
        assignment
    }

    /// Takes note of a message. `now` and `day`: the coordinator's clocks.
    pub(super) fn hear(&mut self, message: FromAgent, plan: Option<&Plan>, now: u64, day: u64) -> Wish {
        self.heard = now;
        match message {
            FromAgent::Join { .. } => {}
            FromAgent::Ready { hash } => {
                if self.part.is_some_and(|(_, own)| own == hash) {
                    self.progress = self.progress.max(Progress::Ready);
                }
            }
            FromAgent::Pong { sent_ns, clock_ns, day_ns } => {
                let trip =
                    RoundTrip { sent: sent_ns, received: now, day, agent_clock: clock_ns, agent_day: day_ns };
                self.clock.learn(&trip);
                return if self.clock.round_trips < ROUND_TRIPS { Wish::Ping } else { Wish::Nothing };
            }
            FromAgent::Tick { is_done, numbers } => {
                self.numbers = *numbers;
                if is_done && self.progress >= Progress::Ready {
                    self.progress = Progress::Done;
                }
            }
            FromAgent::Piece { hash, number, of, text } => {
                return self.take_piece(hash, (number, of, text), plan);
            }
            // What it has sent is whole.
            FromAgent::Failed { .. } if self.report.is_some() => {}
            FromAgent::Failed { why } => {
                self.lost = Some(bounded(&why));
                self.has_left = true;
            }
        }
        Wish::Nothing
    }

    fn take_piece(&mut self, hash: u64, piece: (usize, usize, String), plan: Option<&Plan>) -> Wish {
        let Some(((part, own), plan)) = self.part.zip(plan) else { return Wish::Nothing };
        if own != hash {
            return Wish::Nothing;
        }
        self.progress = Progress::Done;
        if self.report.is_some() {
            return Wish::Receipt;
        }
        let Some(text) = self.pieces.add(piece.0, piece.1, piece.2) else { return Wish::Nothing };
        match result(&text, &part.of_plan(plan)) {
            Ok(report) => {
                self.report = Some(Box::new(report));
                self.lost = None;
                self.has_left = false;
            }
            Err(why) => {
                self.lost = Some(format!("its result cannot be used: {}", bounded(&why)));
                self.has_left = true;
            }
        }
        Wish::Receipt
    }

    /// Whether three ticks have passed without a sign of it.
    pub(super) fn is_silent(&self, now: u64) -> bool {
        now.saturating_sub(self.heard) > SILENCE
    }

    /// The coordinator could not hear it until now.
    pub(super) fn excuse(&mut self, now: u64) {
        self.heard = now;
    }

    /// Whether its result may still come without further notice.
    pub(super) fn is_expected(&self) -> bool {
        self.report.is_none() && self.lost.is_none()
    }

    /// Whether it is ready to start at a time of its own clock.
    pub(super) fn is_ready(&self) -> bool {
        self.progress >= Progress::Ready && self.clock.round_trips >= ROUND_TRIPS
    }

    /// Describes the agent, for the result.
    pub(super) fn describe(&self, plan: &Plan) -> Agent {
        let own = self.part.map(|(part, _)| part.of_plan(plan));
        Agent {
            name: self.name.to_string(),
            machine: self.facts.machine.clone(),
            kernel_id: self.facts.kernel_id.clone(),
            network_id: self.facts.network_id.clone(),
            processes: own.as_ref().map_or(0, |own| own.processes),
            connections: own.as_ref().map_or(0, |own| own.connections),
            clock_offset_ns: self.clock.offset_ns,
            day_offset_ns: self.clock.day_offset_ns,
            clock_uncertainty_ns: self.clock.uncertainty_ns,
            start_late_ns: self.report.as_ref().and_then(|report| report.findings.start_late_ns),
            lost: self.lost.clone(),
        }
    }
}
