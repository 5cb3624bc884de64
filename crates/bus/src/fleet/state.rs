//! What a link knows, and what it does when something happens. No system call here; every time is
//! passed in.

use async_nats::Message;
use tine::cli::{BanRecord, LinkRecord, Linked, ServiceRecord};

use super::bans::Bans;
use super::bucket::Bucket;
use super::clock::{Allowance, Clock, Complaints};
use super::deeds::{BusDeed, BusOutcome};
use super::messages::{Answer, NodeMessage, Ordering, Receipt, Source};
use super::outbox::Outbox;
use super::own::Own;
use super::roster::{Admission, Hearing, Roster};
use super::settings::LinkSettings;
use super::subjects::Subjects;
use super::sums::Sums;
use crate::messages::write;
use crate::names::Name;

/// Times in milliseconds: between two messages of this node, and the one that a tick may be late.
const SAY: u64 = 100;
const STALL: u64 = 1_000;
/// The time between two occasions on which all is said again, at least: others decide when.
const AGAIN_AFTER: u64 = 1_000;
/// The time in milliseconds within which each node says all that it uses once: two seconds, and
/// what it may be late. One that counts nothing says none of it.
const CATCH_UP_WITHIN: u64 = 2_500;

/// Questions of operators that are answered in a second, messages with the name of this node that
/// are looked at, and orders, at most.
const ASKS: u64 = 5;
const NAMESAKES: u64 = 10;
const ORDERS: u64 = 5;

/// A link.
#[derive(Debug)]
pub(super) struct Fleet {
    subjects: Subjects,
    node: Name,
    fleet: Name,
    obeys: bool,
    clock: Clock,
    is_there: bool,
    /// Since when the bus is there, while the use of the others is not known yet.
    catching_up: Option<u64>,
    bans: Bans,
    bucket: Bucket,
    roster: Roster,
    sums: Sums,
    own: Own,
    outbox: Outbox,
    complaints: Complaints,
    asks: Allowance,
    namesakes: Allowance,
    orders: Allowance,
    deeds: Vec<BusDeed>,
    told_nodes: Option<(u32, u32)>,
    say_due: u64,
    /// Whether all is to be said again, and not before when.
    is_again: bool,
    again_due: u64,
    second_due: u64,
}

impl Fleet {
    /// A link that has not heard anything yet. `inbox` is for what it is answered.
    pub(super) fn new(settings: &LinkSettings, incarnation: Name, inbox: String, clock: Clock) -> Fleet {
        let subjects = Subjects::new(settings.fleet.clone());
        let node = settings.node.clone();
        Fleet {
            bucket: Bucket::new(subjects.clone(), node.clone(), inbox),
            own: Own::new(node.clone(), incarnation, settings.shares_use),
            subjects,
            node,
            fleet: settings.fleet.clone(),
            obeys: settings.obeys,
            clock,
            is_there: false,
            catching_up: None,
            bans: Bans::default(),
            roster: Roster::new(settings.shares_use),
            sums: Sums::default(),
            outbox: Outbox::default(),
            complaints: Complaints::default(),
            asks: Allowance::default(),
            namesakes: Allowance::default(),
            orders: Allowance::default(),
            deeds: Vec::new(),
            told_nodes: None,
            say_due: 0,
            is_again: false,
            again_due: 0,
            second_due: 0,
        }
    }

    /// What is to be done on the bus.
    pub(super) fn take_deeds(&mut self) -> Vec<BusDeed> {
        std::mem::take(&mut self.deeds)
    }

    /// Tells the service what it is to know, as far as a message has room.
    ///
    /// # Errors
    /// The service has ended.
    pub(super) fn tell(&mut self, linked: &Linked) -> std::io::Result<()> {
        let records = self.outbox.next(&mut self.sums, self.clock.now);
        // It is one message, which the channel takes whole or not at all.
        if !records.is_empty() && linked.send(records)? > 0 {
            self.outbox.sent();
        }
        Ok(())
    }

    /// What happens next, happens now.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        if clock.now.saturating_sub(self.clock.now) > STALL {
            // This process did not run: the others have not been silent.
            self.roster.excuse(clock.now);
            self.bucket.excuse(clock);
        }
        self.clock = clock;
    }

    /// Something has changed at the service.
    pub(super) fn on_service(&mut self, record: ServiceRecord) {
        let now = self.clock.now;
        let has_room = match record {
            ServiceRecord::Ban(ban) => {
                self.own.on_ban(ban, self.clock);
                self.bans.order(ban, self.clock)
            }
            ServiceRecord::Penalty { source, milliseconds } => self.own.on_penalty(source, milliseconds, now),
            ServiceRecord::Used { source, held, taken } => self.own.on_used(source, held, taken),
        };
        if !has_room {
            self.complain("room", || {
                "the service has more bans, penalties or sources than the fleet shares: the others do not know \
                 of some"
                    .to_owned()
            });
        }
    }

    /// The bus is there, also anew, or away.
    pub(super) fn on_bus(&mut self, is_there: bool) {
        self.is_there = is_there;
        self.deeds.clear();
        self.roster.excuse(self.clock.now);
        if is_there {
            self.own.begin_anew();
            self.again_due = self.clock.now;
            self.say_again();
        }
        let mut outcome = BusOutcome::default();
        self.bucket.on_bus(is_there, self.clock, &mut outcome);
        self.take(outcome);
        self.roster.hear_anew();
        self.catching_up = is_there.then_some(self.clock.now);
        if !is_there {
            self.outbox.tell(LinkRecord::Bus(false));
        }
        self.catch_up();
    }

    /// Tells the service that the bus is there once the use of the other nodes is known: until then
    /// it goes on with its share of each limit.
    fn catch_up(&mut self) {
        let Some(since) = self.catching_up else { return };
        if self.roster.has_heard_all() || self.clock.now >= since + CATCH_UP_WITHIN {
            self.catching_up = None;
            self.outbox.tell(LinkRecord::Bus(true));
        }
    }

    fn say_again(&mut self) {
        self.is_again = true;
        self.say_due_again();
    }

    fn say_due_again(&mut self) {
        if self.is_again && self.clock.now >= self.again_due {
            (self.is_again, self.again_due) = (false, self.clock.now + AGAIN_AFTER);
            self.own.say_again(|order| self.bans.holds(order));
        }
    }

    /// The bus, or the way there, has a complaint.
    pub(super) fn on_bus_error(&mut self, text: &str) {
        let is_there = self.is_there;
        self.complain(if is_there { "refused" } else { "away" }, || match is_there {
            true => format!("the bus reports: {text}; check what its server permits this user"),
            false => format!(
                "cannot connect to the bus: {text}; it is tried again: check its address and the credentials"
            ),
        });
    }

    /// A node has said something.
    pub(super) fn on_node(&mut self, message: &Message) {
        let Some(node) = last_part(message) else { return };
        if node == self.node {
            return self.on_namesake(message);
        }
        let now = self.clock.now;
        match self.roster.admit(&node, message.payload.len(), now) {
            Admission::TooMany => {
                return self.complain("nodes", || {
                    "the fleet has too many nodes: further ones are left out; give each server a name that \
                     stays (--name)"
                        .to_owned()
                });
            }
            Admission::TooMuch => {
                return self.complain(&format!("flood {node}"), || {
                    format!(
                        "node {node} sends more than nodes do: what is beyond that is left out; look after it"
                    )
                });
            }
            Admission::Read => {}
        }
        let Some(message) = NodeMessage::read(&message.payload, &node) else { return };
        match self.roster.hear(&message, &mut self.sums, now) {
            Hearing::Stale => return,
            Hearing::Heard if message.anew => self.say_again(),
            Hearing::Heard => {}
            Hearing::Appeared => {
                self.say_again();
                self.bucket.on_appearance(self.clock);
            }
            Hearing::NoRoom => self.complain("sources", || {
                format!("node {node} has more sources than are kept: the limits of this fleet leave some out")
            }),
        }
        for (Source(block), state, at) in message.bans {
            let ban = BanRecord { block, state: state.into(), at };
            if self.bans.hear(ban, self.clock) {
                self.outbox.ban(ban);
            }
        }
        for (Source(source), milliseconds) in message.penalties {
            self.outbox.penalty(source, milliseconds, now);
        }
        self.tell_nodes();
    }

    /// This node, or one of the same name.
    fn on_namesake(&mut self, message: &Message) {
        if !self.namesakes.take(1, NAMESAKES, self.clock.now) {
            return;
        }
        let read = NodeMessage::read(&message.payload, &self.node);
        if read.is_some_and(|message| message.incarnation != *self.own.incarnation()) {
            let text = format!(
                "another server of the fleet {} has the name {}, too: give one of them another (--name)",
                self.fleet, self.node
            );
            self.complain("namesake", || text);
        }
    }

    /// An answer about the bucket has come.
    pub(super) fn on_reply(&mut self, message: &Message) {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let Some(number) = number else { return };
        let mut outcome = BusOutcome::default();
        self.bucket.on_reply(number, message, &mut self.bans, self.clock, &mut outcome);
        self.take(outcome);
    }

    /// A message of a watch has come.
    pub(super) fn on_watched(&mut self, generation: u64, message: &Message) {
        let mut outcome = BusOutcome::default();
        self.bucket.on_watched(generation, message, &mut self.bans, self.clock, &mut outcome);
        self.take(outcome);
    }

    /// An operator orders something.
    pub(super) fn on_order(&mut self, message: &Message) {
        if !self.orders.take(1, ORDERS, self.clock.now) {
            return;
        }
        let error = match serde_json::from_slice::<Ordering>(&message.payload) {
            Err(_) => Some("no such order".to_owned()),
            Ok(_) if !self.obeys => {
                Some("it does not obey orders of the fleet (tine serve --bus-control)".to_owned())
            }
            Ok(Ordering { order: super::messages::FleetOrder::Drain }) => {
                self.outbox.tell(LinkRecord::Drain);
                None
            }
        };
        if let Some(reply) = &message.reply {
            let receipt = Receipt { node: self.node.clone(), error };
            self.deeds.push(BusDeed::publish(reply.to_string(), write(&receipt)));
        }
    }

    /// Whether a question of an operator may be passed on now.
    pub(super) fn may_ask(&mut self) -> bool {
        self.asks.take(1, ASKS, self.clock.now)
    }

    /// The answer to an operator, without the reply of the server.
    pub(super) fn answer(&self) -> Answer {
        Answer {
            node: self.node.clone(),
            answer: Vec::new(),
            left_off: 0,
            error: None,
            nodes: self.roster.count().0 + 1,
            bans: self.bans.len() as u64,
            pending: self.bans.pending() as u64,
            trouble: self.bucket.trouble().map(str::to_owned),
        }
    }

    /// Time passes. To be called several times in 100 ms.
    pub(super) fn on_tick(&mut self) {
        let Clock { now, .. } = self.clock;
        let mut outcome = BusOutcome::default();
        self.bucket.on_tick(&mut self.bans, self.clock, &mut outcome);
        if now >= self.second_due {
            self.second_due = now + 1_000;
            self.bucket.on_second(&mut self.bans, self.clock, &mut outcome);
        }
        self.take(outcome);
        if self.is_there {
            self.roster.on_tick(&mut self.sums, now);
            self.say_due_again();
            if now >= self.say_due {
                self.say_due = now + SAY;
                let subject = self.subjects.node(self.node.as_str());
                let messages = self.own.say(now);
                let deeds = messages.iter().map(|message| BusDeed::publish(subject.clone(), write(message)));
                self.deeds.extend(deeds);
            }
            self.tell_nodes();
            self.catch_up();
        }
    }

    /// The service has ended.
    pub(super) fn on_end(&mut self) {
        let subject = self.subjects.node(self.node.as_str());
        let bye = write(&self.own.bye());
        self.deeds.push(BusDeed::publish(subject, bye));
    }

    /// Tells the service how many nodes there are, where that has changed.
    fn tell_nodes(&mut self) {
        let (others, lost) = self.roster.count();
        let nodes = Some((others + 1, lost));
        if self.told_nodes != nodes {
            self.told_nodes = nodes;
            self.outbox.tell(LinkRecord::Nodes { present: others + 1, lost });
        }
    }

    fn take(&mut self, outcome: BusOutcome) {
        self.deeds.extend(outcome.deeds);
        outcome.news.into_iter().for_each(|ban| self.outbox.ban(ban));
        for (about, text) in outcome.complaints {
            self.complain(about, || text);
        }
    }

    fn complain(&mut self, about: &str, text: impl FnOnce() -> String) {
        if self.complaints.is_due(about, self.clock.now) {
            self.outbox.tell(LinkRecord::Warning(text()));
        }
    }
}

/// The last part of the subject of a message, if it is a name.
fn last_part(message: &Message) -> Option<Name> {
    Name::try_from(message.subject.rsplit('.').next()?.to_owned()).ok()
}

#[cfg(test)]
mod tests;
