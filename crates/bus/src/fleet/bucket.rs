//! The bucket of bans, on the bus: opens it, reads it, follows it, and puts what it does not have.
//! After whatever goes wrong, it is opened and read anew. No system call here.

use std::collections::BTreeMap;

use async_nats::Message;

use super::bans::{Bans, Learned, Purge, Put};
use super::clock::Clock;
use super::deeds::{BusDeed, BusOutcome};
use super::jetstream::{self, Done, Refusal, Request, Watched};
use super::records;
use super::subjects::Subjects;
use crate::names::{Name, bounded};

/// Puts under way, at most.
const IN_FLIGHT: usize = 256;
/// Replicas of a bucket that is created, where the bus has as many servers.
pub(super) const REPLICAS: u32 = 3;

/// The time, in milliseconds, in which the bus has to answer; and in which a watch has to send a
/// heartbeat, three of which it sends meanwhile.
const ANSWER_WITHIN: u64 = 3_000;
const HEARTBEAT_WITHIN: u64 = 3_000;
/// The time until the bucket is opened again: doubled each time, up to this.
const RETRY: u64 = 250;
const LONGEST_RETRY: u64 = 5_000;

/// How far the bucket is.
#[derive(Debug)]
enum State {
    /// The bus is away.
    Away,
    Waiting {
        until: u64,
    },
    /// A request about the stream is under way.
    Asked {
        step: Step,
        since: u64,
    },
    /// Records come.
    Watching {
        /// When the watch was asked for, until that is answered.
        asked: Option<u64>,
        is_reading: bool,
        heard: u64,
        /// The number of the last record that has come.
        number: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Info,
    Create(u32),
}

/// The bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    subjects: Subjects,
    node: Name,
    inbox: String,
    state: State,
    /// The number of the watch: messages of earlier ones are left out.
    generation: u64,
    /// The number of the last request, and that of the one about the stream or the watch.
    request: u64,
    awaited: u64,
    /// By number: the put, and since when it is under way.
    in_flight: BTreeMap<u64, (Put, u64)>,
    retry: u64,
    /// Why it is not shared.
    trouble: Option<String>,
}

impl Bucket {
    /// The bucket, with an inbox for what it is answered.
    pub(super) fn new(subjects: Subjects, node: Name, inbox: String) -> Bucket {
        Bucket {
            subjects,
            node,
            inbox,
            state: State::Away,
            generation: 0,
            request: 0,
            awaited: 0,
            in_flight: BTreeMap::new(),
            retry: RETRY,
            trouble: None,
        }
    }

    /// Why bans are not shared; `None` while they are, or the bus is away.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether all records were read.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.state, State::Watching { is_reading: false, .. })
    }

    /// The bus is there, or away.
    pub(super) fn on_bus(&mut self, is_there: bool, clock: Clock, outcome: &mut BusOutcome) {
        self.leave();
        (self.state, self.retry) = (State::Away, RETRY);
        if is_there {
            self.ask(Step::Info, clock, outcome);
        }
    }

    /// This process did not run for a while: what has come meanwhile is yet to be read.
    pub(super) fn excuse(&mut self, clock: Clock) {
        match &mut self.state {
            State::Watching { asked, heard, .. } => {
                *heard = clock.now;
                asked.iter_mut().for_each(|asked| *asked = clock.now);
            }
            State::Asked { since, .. } => *since = clock.now,
            State::Away | State::Waiting { .. } => {}
        }
        self.in_flight.values_mut().for_each(|(_, since)| *since = clock.now);
    }

    /// A node is heard that was not: a bus that was in parts may answer again.
    pub(super) fn on_appearance(&mut self, clock: Clock) {
        self.retry = RETRY;
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(clock.now + RETRY);
        }
    }

    /// Time passes.
    pub(super) fn on_tick(&mut self, bans: &mut Bans, clock: Clock, outcome: &mut BusOutcome) {
        let late = |since: u64, within: u64| clock.now.saturating_sub(since) > within;
        match self.state {
            State::Away => return,
            State::Waiting { until } if clock.now >= until => self.ask(Step::Info, clock, outcome),
            State::Waiting { .. } => {}
            State::Asked { since, .. } | State::Watching { asked: Some(since), .. }
                if late(since, ANSWER_WITHIN) =>
            {
                let why = "the bus does not answer requests about its bucket: check that its JetStream has a \
                           quorum, and that this user may use $JS.API.>";
                self.close(why, clock, outcome);
            }
            State::Watching { heard, .. } if late(heard, HEARTBEAT_WITHIN) => {
                self.close("the bucket is silent: it was deleted, or its server is away", clock, outcome);
            }
            State::Asked { .. } | State::Watching { .. } => {}
        }
        if self.in_flight.first_key_value().is_some_and(|(_, (_, since))| late(*since, ANSWER_WITHIN)) {
            self.close("the bucket does not answer: check that its servers have a quorum", clock, outcome);
        } else if self.is_read() {
            self.put(bans, clock, outcome);
        }
    }

    /// A second has passed.
    pub(super) fn on_second(&mut self, bans: &mut Bans, clock: Clock, outcome: &mut BusOutcome) {
        if self.is_read() && bans.misses_a_reason(clock.now) {
            self.close("the bucket has other records than it sends", clock, outcome);
        }
        let purges = bans.sweep(clock);
        if self.is_read() {
            bans.mend();
            purges.iter().for_each(|purge| self.purge(purge, outcome));
        }
    }

    /// An answer has come, for the request of this number.
    pub(super) fn on_reply(
        &mut self,
        number: u64,
        message: &Message,
        bans: &mut Bans,
        clock: Clock,
        outcome: &mut BusOutcome,
    ) {
        let done = jetstream::done(message);
        if let Some((put, _)) = self.in_flight.remove(&number) {
            self.on_put(&put, done, bans, clock, outcome);
        } else if number == self.awaited {
            self.on_answer(done, bans, clock, outcome);
        }
    }

    fn on_put(
        &mut self,
        put: &Put,
        done: Result<Done, Refusal>,
        bans: &mut Bans,
        clock: Clock,
        outcome: &mut BusOutcome,
    ) {
        match done {
            Ok(Done { revision, .. }) => bans.put_done(put, revision),
            Err(Refusal::OtherRevision) => bans.put_refused(put, clock.now),
            // Nobody listens to the subjects of the bucket.
            Err(Refusal::NoJetStream) => return self.close(&Refusal::NoStream.to_string(), clock, outcome),
            Err(refusal) => return self.close(&refusal.to_string(), clock, outcome),
        }
        // Half of them at a time: each look for more costs something.
        if self.in_flight.len() <= IN_FLIGHT / 2 {
            self.put(bans, clock, outcome);
        }
    }

    fn on_answer(
        &mut self,
        done: Result<Done, Refusal>,
        bans: &mut Bans,
        clock: Clock,
        outcome: &mut BusOutcome,
    ) {
        match (&mut self.state, done) {
            (State::Asked { .. }, Ok(_)) => self.watch(bans, clock, outcome),
            (State::Asked { step: Step::Info, .. }, Err(Refusal::NoStream)) => {
                self.ask(Step::Create(REPLICAS), clock, outcome);
            }
            // Another node has created it meanwhile.
            (State::Asked { step: Step::Create(_), .. }, Err(Refusal::OtherStream)) => {
                self.watch(bans, clock, outcome);
            }
            (State::Asked { step: Step::Create(REPLICAS), .. }, Err(Refusal::NoPlaces)) => {
                self.ask(Step::Create(1), clock, outcome);
            }
            (State::Watching { asked, is_reading, number, .. }, Ok(done)) => {
                *asked = None;
                if *is_reading && *number == 0 && done.records == 0 {
                    self.end_reading(bans, clock, outcome);
                }
            }
            (State::Asked { .. } | State::Watching { asked: Some(_), .. }, Err(refusal)) => {
                self.close(&refusal.to_string(), clock, outcome);
            }
            _ => {}
        }
    }

    /// A message of a watch has come.
    pub(super) fn on_watched(
        &mut self,
        generation: u64,
        message: &Message,
        bans: &mut Bans,
        clock: Clock,
        outcome: &mut BusOutcome,
    ) {
        let State::Watching { heard, number: last, is_reading, .. } = &mut self.state else { return };
        if generation != self.generation {
            return;
        }
        *heard = clock.now;
        match jetstream::watched(message) {
            None => {}
            Some(Watched::Pause(subject)) => outcome.deeds.push(BusDeed::publish(subject, Vec::new())),
            Some(Watched::Heartbeat { sent, stalled }) => {
                let deeds = stalled.map(|subject| BusDeed::publish(subject, Vec::new()));
                outcome.deeds.extend(deeds);
                if sent.is_some_and(|sent| sent > *last) {
                    self.close("records of the bucket were lost on the way", clock, outcome);
                }
            }
            Some(Watched::End(why)) => {
                let why = format!("the bucket cannot be read any more: {}", bounded(&why));
                self.close(&why, clock, outcome);
            }
            Some(Watched::Record { number, .. }) if number != *last + 1 => {
                self.close("records of the bucket were lost on the way", clock, outcome);
            }
            Some(Watched::Record { number, revision, left, is_deleted }) => {
                *last = number;
                let was_reading = *is_reading;
                self.learn((message, is_deleted), revision, bans, clock, outcome);
                if was_reading && left == 0 {
                    self.end_reading(bans, clock, outcome);
                }
            }
        }
    }

    fn learn(
        &mut self,
        (message, is_deleted): (&Message, bool),
        revision: u64,
        bans: &mut Bans,
        clock: Clock,
        outcome: &mut BusOutcome,
    ) {
        let key = message.subject.rsplit('.').next().unwrap_or_default();
        let Some(block) = records::block(key) else { return };
        let record = if is_deleted { None } else { records::read(block, &message.payload) };
        match bans.learn(block, record, revision, clock) {
            Learned::Nothing => {}
            Learned::News(record) => outcome.news.push(record),
            Learned::Over(purge) => self.purge(&purge, outcome),
            Learned::NoRoom => outcome.complaints.push((
                "room",
                format!("the fleet has more than {} bans: further ones are left out", super::bans::MOST),
            )),
            Learned::Ahead => outcome.complaints.push((
                "ahead",
                format!(
                    "the ban of {block} was ordered in an hour or later, and is left out: set the clocks of \
                     the nodes"
                ),
            )),
        }
    }

    fn end_reading(&mut self, bans: &mut Bans, clock: Clock, outcome: &mut BusOutcome) {
        if let State::Watching { is_reading, .. } = &mut self.state {
            *is_reading = false;
        }
        (self.retry, self.trouble) = (RETRY, None);
        bans.end_reading(clock);
        self.put(bans, clock, outcome);
    }

    fn put(&mut self, bans: &mut Bans, clock: Clock, outcome: &mut BusOutcome) {
        while self.in_flight.len() < IN_FLIGHT {
            let Some(put) = bans.next_put() else { return };
            self.request += 1;
            outcome.deeds.push(BusDeed::Publish {
                subject: self.subjects.record(&records::key(put.record.block)),
                reply: Some(self.reply()),
                revision: Some(put.revision),
                text: records::write(&put.record, &self.node),
            });
            self.in_flight.insert(self.request, (put, clock.now));
        }
    }

    fn purge(&mut self, purge: &Purge, outcome: &mut BusOutcome) {
        if purge.revision > 0 {
            let request = jetstream::purge(&self.subjects, &records::key(purge.block), purge.revision);
            // Whether it succeeds does not matter: others do the same, or it is read again.
            self.send(request, outcome);
        }
    }

    fn ask(&mut self, step: Step, clock: Clock, outcome: &mut BusOutcome) {
        self.state = State::Asked { step, since: clock.now };
        let request = match step {
            Step::Info => jetstream::info(&self.subjects),
            Step::Create(replicas) => jetstream::create(&self.subjects, replicas),
        };
        self.send(request, outcome);
        self.awaited = self.request;
    }

    fn watch(&mut self, bans: &mut Bans, clock: Clock, outcome: &mut BusOutcome) {
        self.leave();
        bans.begin_reading();
        let inbox = format!("{}-watch-{}", self.inbox, self.generation);
        let request = jetstream::watch(&self.subjects, &inbox);
        outcome.deeds.push(BusDeed::Watch { generation: self.generation, inbox });
        self.send(request, outcome);
        self.awaited = self.request;
        self.state =
            State::Watching { asked: Some(clock.now), is_reading: true, heard: clock.now, number: 0 };
    }

    fn send(&mut self, (subject, text): Request, outcome: &mut BusOutcome) {
        self.request += 1;
        outcome.deeds.push(BusDeed::Publish { subject, reply: Some(self.reply()), revision: None, text });
    }

    fn reply(&self) -> String {
        format!("{}.{}", self.inbox, self.request)
    }

    /// Forgets what is under way: answers that come later are left out.
    fn leave(&mut self) {
        self.in_flight.clear();
        self.generation += 1;
        self.awaited = 0;
    }

    /// Opens the bucket again, after a while.
    fn close(&mut self, why: &str, clock: Clock, outcome: &mut BusOutcome) {
        self.leave();
        self.state = State::Waiting { until: clock.now + self.retry };
        self.trouble = Some(why.to_owned());
        // A bucket that somebody has deleted is there again at once.
        if self.retry > RETRY {
            outcome.complaints.push(("bucket", format!("bans are not shared: {why}; it is tried again")));
        }
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
    }
}

#[cfg(test)]
mod tests;
