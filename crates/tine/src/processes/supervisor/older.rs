//! The connections that supervisors of older generations serve: they count in this one.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};

use crate::shared::handover::lineage::{Lineage, LineageEvent, LineageMessage};
use crate::shared::handover::state::{OlderConnection, OlderEnd};

/// A supervisor of an older generation.
#[derive(Debug)]
struct OlderSupervisor {
    lineage: Lineage,
    /// The slot of each of its connections, by id.
    slots: HashMap<u64, usize>,
}

/// All supervisors of older generations that still serve.
#[derive(Debug, Default)]
pub(super) struct Older {
    supervisors: Vec<OlderSupervisor>,
}

/// What an older supervisor has said.
#[derive(Debug)]
pub(super) enum OlderEvent {
    Ended(OlderEnd),
    Began(OlderConnection),
    Gone,
}

impl Older {
    /// Adds the lineages of a state: that of its sender first, as its connections count them.
    pub(super) fn add(&mut self, lineages: impl IntoIterator<Item = Lineage>) {
        let supervisor = |lineage| OlderSupervisor { lineage, slots: HashMap::new() };
        self.supervisors.extend(lineages.into_iter().map(supervisor));
    }

    /// Notes the slot of a connection.
    pub(super) fn enter(&mut self, generation: usize, id: u64, slot: usize) {
        if let Some(supervisor) = self.supervisors.get_mut(generation) {
            supervisor.slots.insert(id, slot);
        }
    }

    /// Forgets a supervisor that has ended.
    pub(super) fn forget(&mut self, generation: usize) {
        self.supervisors.remove(generation);
    }

    /// The number of connections.
    pub(super) fn connections(&self) -> usize {
        self.supervisors.iter().map(|supervisor| supervisor.slots.len()).sum()
    }

    /// The lineages, and the slots and ids of the connections by generation.
    pub(super) fn lineages(&self) -> Vec<&Lineage> {
        self.supervisors.iter().map(|supervisor| &supervisor.lineage).collect()
    }

    /// The generation that serves the connection in each slot.
    pub(super) fn generations(&self) -> HashMap<usize, usize> {
        let supervisors = self.supervisors.iter().enumerate();
        supervisors
            .flat_map(|(generation, supervisor)| {
                supervisor.slots.values().map(move |slot| (*slot, generation))
            })
            .collect()
    }

    /// Asks the supervisor of a connection to end it. False if this one serves it itself.
    pub(super) fn kill(&self, slot: usize, id: u64) -> bool {
        let is_its = |supervisor: &&OlderSupervisor| supervisor.slots.get(&id) == Some(&slot);
        let Some(supervisor) = self.supervisors.iter().find(is_its) else { return false };
        // If it has ended, so has the connection.
        let _ = supervisor.lineage.send(&LineageMessage::Kill(id));
        true
    }

    pub(super) fn poll(&self) -> impl Iterator<Item = PollFd<'_>> {
        let lineages = self.supervisors.iter().map(|supervisor| supervisor.lineage.as_fd());
        lineages.map(|lineage| PollFd::from_borrowed_fd(lineage, PollFlags::IN))
    }

    pub(super) fn events(&mut self) -> Vec<(usize, OlderEvent)> {
        let mut events = Vec::new();
        for (generation, supervisor) in self.supervisors.iter().enumerate() {
            while let Some(event) = supervisor.lineage.receive() {
                match event {
                    LineageEvent::Message(LineageMessage::Ended(ends), _) => {
                        let ends = ends.iter().filter_map(OlderEnd::from_json);
                        events.extend(ends.map(|end| (generation, OlderEvent::Ended(end))));
                    }
                    LineageEvent::Message(LineageMessage::Began(connection), _) => {
                        let connection = OlderConnection::from_json(&connection);
                        events
                            .extend(connection.map(|connection| (generation, OlderEvent::Began(connection))));
                    }
                    LineageEvent::Message(..) => {}
                    LineageEvent::Ended => {
                        events.push((generation, OlderEvent::Gone));
                        break;
                    }
                }
            }
        }
        events
    }

    pub(super) fn take(&mut self, generation: usize, id: u64) -> Option<usize> {
        self.supervisors.get_mut(generation)?.slots.remove(&id)
    }

    pub(super) fn take_all(&mut self, generation: usize) -> Vec<(u64, usize)> {
        let supervisor = self.supervisors.get_mut(generation);
        supervisor.map(|supervisor| supervisor.slots.drain().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::net::peer::Peer;

    #[test]
    fn older_supervisors_are_heard_one_by_one() {
        let (first, own_first) = Lineage::pair().expect("a lineage");
        let (second, own_second) = Lineage::pair().expect("a lineage");
        let mut older = Older::default();
        older.add([own_first, own_second]);
        older.enter(0, 7, 3);
        older.enter(1, 5, 4);
        older.enter(9, 1, 1);
        assert_eq!((older.connections(), older.generations()), (2, HashMap::from([(3, 0), (4, 1)])));
        let end = OlderEnd { id: 7, fault: None, record: None };
        let connection = OlderConnection {
            id: 8,
            pid: 1,
            peer: Peer::Unix(None),
            proxied: None,
            start: 1,
            waited: None,
            generation: 0,
        };
        first.send(&LineageMessage::Ended(vec![end.to_json(), json!("nonsense")])).expect("sent");
        second.send(&LineageMessage::Began(connection.to_json())).expect("sent");
        assert!(older.kill(4, 5) && !older.kill(4, 7) && !older.kill(5, 5));
        assert!(matches!(second.receive(), Some(LineageEvent::Message(LineageMessage::Kill(5), _))));
        drop(second);
        let events = older.events();
        assert!(
            matches!(
                &events[..],
                [(0, OlderEvent::Ended(found)), (1, OlderEvent::Began(began)), (1, OlderEvent::Gone)]
                    if *found == end && *began == connection
            ),
            "{events:?}"
        );
        assert_eq!((older.take(0, 7), older.take(0, 7), older.take_all(1)), (Some(3), None, vec![(5, 4)]));
    }
}
