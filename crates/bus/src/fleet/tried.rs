//! A link without a bus and without a service, for the fuzz target that has it hear anything.

use async_nats::Message;
use tine::cli::{LinkChannel, LinkRecord, LinkSaid, Linked};

use super::clock::Clock;
use super::deeds::BusDeed;
use super::settings::LinkSettings;
use super::state::Fleet;
use crate::connect::Bus;
use crate::names::Name;

/// What a message is heard as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeardAs {
    /// What another node says.
    Node,
    /// An order of an operator.
    Order,
    /// The answer to a request about the bucket.
    Answer,
    /// A record of the bucket.
    Record,
}

/// A link of the node `me` in the fleet `f`.
#[derive(Debug)]
pub struct TriedLink {
    fleet: Fleet,
    clock: Clock,
    /// The number of the last watch that it has asked for.
    watch: u64,
    linked: Linked,
    service: LinkChannel,
}

impl TriedLink {
    /// A link that has just found its bus.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> std::io::Result<TriedLink> {
        let settings = LinkSettings {
            bus: Bus::default(),
            fleet: Name::of("f"),
            node: Name::of("me"),
            shares_use: true,
            obeys: true,
        };
        let clock = Clock { now: 1_000, day: 1_800_000_000_000 };
        let mut fleet = Fleet::new(&settings, Name::of("1"), "inbox".to_owned(), clock);
        fleet.on_bus(true);
        let (service, theirs) = LinkChannel::pair()?;
        Ok(TriedLink { fleet, clock, watch: 0, linked: Linked::from(theirs), service })
    }

    /// Hears a message.
    pub fn hear(&mut self, heard: HeardAs, subject: &str, reply: Option<&str>, text: &[u8]) {
        let message = Message {
            subject: subject.into(),
            reply: reply.map(Into::into),
            payload: text.to_vec().into(),
            headers: None,
            status: None,
            description: None,
            length: text.len(),
        };
        match heard {
            HeardAs::Node => self.fleet.on_node(&message),
            HeardAs::Order => self.fleet.on_order(&message),
            HeardAs::Answer => self.fleet.on_reply(&message),
            HeardAs::Record => self.fleet.on_watched(self.watch, &message),
        }
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, milliseconds: u64) {
        self.clock.now += milliseconds;
        self.clock.day += milliseconds;
        self.fleet.set_clock(self.clock);
        self.fleet.on_tick();
    }

    /// What it says on the bus since: subjects and texts.
    pub fn said(&mut self) -> Vec<(String, Vec<u8>)> {
        let deeds = self.fleet.take_deeds();
        deeds
            .into_iter()
            .filter_map(|deed| match deed {
                BusDeed::Publish { subject, text, .. } => Some((subject, text)),
                BusDeed::Watch { generation, .. } => {
                    self.watch = generation;
                    None
                }
            })
            .collect()
    }

    /// What its service hears in one message.
    ///
    /// # Errors
    /// The channel does not take it.
    pub fn told(&mut self) -> std::io::Result<Vec<LinkRecord>> {
        self.fleet.tell(&self.linked)?;
        Ok(match self.service.receive() {
            Some(LinkSaid::Records(records)) => records,
            _ => Vec::new(),
        })
    }
}
